"""Tasks for a meta-test that follow those of meta-training: the same kind, on examples kept apart from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from vsml.errors import UserError
from vsml.tasks.base import Source, Task, TaskDistribution, TaskSpec, Transform
from vsml.tasks.mixture import Mixture
from vsml.types import Key


class NoShare(UserError):
    """A mixture has no distribution of that name, or none was named.

    Attributes:
      share: the name asked for, or None.
      names: of the distributions of the mixture.
    """

    def __init__(self, share: str | None, names: Sequence[str]):
        super().__init__(
            f"tasks.HeldOut.share is {share}, but meta-training uses a mixture of {', '.join(names)}: name one of "
            "these, as tasks/mixture.gin does"
        )
        self.share, self.names = share, tuple(names)


@dataclass(frozen=True, eq=False)
class HeldOut(TaskDistribution):
    """Fresh tasks of the kind that meta-training uses, on the part of its data that is held out.

    Two are equal when they come to the same tasks.

    Attributes:
      tasks: of meta-training: `%TASKS`.
      transforms: applied in this order to all examples of a lifetime, in the place of those of meta-training.
      length: T, the number of steps of a lifetime; None as in meta-training. Few-shot lifetimes keep theirs.
      share: which distribution of a mixture, by its name.
      part: `held_out`, what `Source.held_out` gives: the split `test` of `train`, the rest of a slice; or `as_given`,
        the split that `tasks` names, for data that no meta-training has used.
    """

    tasks: TaskDistribution | Mixture
    transforms: tuple[Transform, ...] = ()
    length: int | None = None
    share: str | None = None
    part: Literal["held_out", "as_given"] = "held_out"

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if isinstance(self.tasks, Mixture) and self.share not in self.tasks.names:
            raise NoShare(self.share, self.tasks.names)
        if not isinstance(self.tasks, Mixture) and self.share is not None:
            raise UserError(f"tasks.HeldOut.share is {self.share}, but meta-training uses no mixture: leave it out")

    @property
    def data(self) -> str:
        return self._of.data

    @property
    def source(self) -> Source | None:
        """Where its examples come from, None where they come from no source."""
        return getattr(self.resolved, "source", None)

    @property
    def different_examples(self) -> int | None:
        return self.resolved.different_examples

    @property
    def spec(self) -> TaskSpec:
        return self.resolved.spec

    def load(self) -> Any:
        return self.resolved.load()

    def sample(self, data: Any, key: Key) -> Task:
        return self.resolved.sample(data, key)

    @cached_property
    def resolved(self) -> TaskDistribution:
        """What it comes to. Raises `UserError` where nothing is held out."""
        return self._of.for_meta_test(self.transforms, self.length, held_out=self.part == "held_out")

    @property
    def _of(self) -> TaskDistribution:
        if isinstance(self.tasks, Mixture):
            return self.tasks.tasks[self.tasks.names.index(str(self.share))]
        return self.tasks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldOut) and self.resolved == other.resolved

    def __hash__(self) -> int:
        return hash(self.resolved)
