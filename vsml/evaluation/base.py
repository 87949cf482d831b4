"""Contract of an evaluator: a frozen learning algorithm goes in, numbers and per-example curves come out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.types import Params


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one evaluator."""

    name: str
    summary: dict[str, Any]  # plain numbers, strings and dicts: what `summary.json` holds under this name
    curves: dict[str, np.ndarray] = field(default_factory=dict)  # [lifetimes, T], kept in `evaluations/NAME.npz`

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Writes the curves to `directory`/NAME.npz; a failure leaves the file of before, never half of one.

        Returns:
          The file. Raises `UserError` where it cannot be written.
        """
        path = Path(directory) / f"{self.name}.npz"
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez_compressed(file, **self.curves)  # pyright: ignore[reportArgumentType]
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            message = f"cannot write {path}: {error.strerror}; make the directory writable or free space"
            raise UserError(message) from error
        return path


class Evaluator(ABC):
    """Meta-test: runs lifetimes with V_M frozen."""

    name: str

    def check(self) -> None:  # noqa: B027
        """Raises `UserError` for what would stop `run` and shows already, such as missing data.

        Called before meta-training, which may take days.
        """

    @abstractmethod
    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates; the same parameters give the same numbers (an evaluator holds its own seed)."""
