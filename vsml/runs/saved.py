"""Reading checkpoints without Orbax: which exist, their JSON, and their meta-parameters.

A checkpoint is a folder named by its meta-steps, with a folder per item; one that is being written has another name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from vsml.errors import UserError
from vsml.runs import names, shapes
from vsml.runs.meta_parameters import MetaParameters

Which = Literal["newest", "best"] | int


def whole_steps(directory: Path) -> list[int]:
    """Meta-steps of the whole checkpoints in a directory, ascending; none if there is no such directory."""
    found = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal() and path.is_dir())


def newest_step(directory: Path) -> int | None:
    """Meta-steps of the newest whole checkpoint in a directory; None if there is none, or no such directory."""
    return max(whole_steps(directory), default=None)


def best_of(steps: Sequence[int], losses: Mapping[int, float]) -> int | None:
    """The first step of the lowest loss, None if there are no steps. An unknown loss or NaN counts as infinite."""

    def rank(step: int) -> float:
        loss = losses.get(step, math.inf)
        return math.inf if math.isnan(loss) else loss

    return min(steps, key=rank, default=None)


def losses(directory: Path) -> dict[int, float]:
    """The losses that rank the checkpoints of a directory; infinite where a checkpoint cannot be read."""
    return {step: _loss(directory, step) for step in whole_steps(directory)}


def find_step(directory: Path, which: Which) -> int:
    """The step of a checkpoint by name or number. Raises `UserError` where there is no such checkpoint."""
    steps = whole_steps(directory)
    found = newest_step(directory) if which == "newest" else which
    step = best_of(steps, losses(directory)) if found == "best" else found
    if step not in steps:
        kept = f"kept are {', '.join(map(str, steps))}" if steps else "there is none yet: train first"
        raise UserError(f"{directory}: no checkpoint '{which}'; {kept}")
    return step


def read_meta(directory: Path, step: int, shape: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The JSON of a checkpoint. Raises `UserError` where it is damaged, or of another shape."""
    try:
        meta = json.loads((directory / str(step) / names.META / names.META_FILE).read_text())
        if problem := shapes.flaw(meta, dict(shape)):
            raise ValueError(problem)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(directory, step, error) from None
    return meta


def read_params(directory: Path, step: int) -> MetaParameters:
    """The meta-parameters of a checkpoint. Raises `UserError` where they are damaged."""
    try:
        return MetaParameters.read(directory / str(step) / names.PARAMS / names.PARAMS_FILE)
    except ValueError as error:
        raise _unreadable(directory, step, error) from None


def _unreadable(directory: Path, step: int, error: Exception) -> UserError:
    others = [str(other) for other in whole_steps(directory) if other != step]
    mend = f"choose another one ({', '.join(others)})" if others else "there is no other one"
    return UserError(
        f"{directory / str(step)}: this checkpoint cannot be read ({error}): is it damaged, or of an earlier version? "
        f"{mend}"
    )


def _loss(directory: Path, step: int) -> float:
    try:
        return read_meta(directory, step)["loss"]
    except (UserError, KeyError, TypeError):
        return math.inf
