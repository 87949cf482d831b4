"""Inputs of length 1, in front of any learner: what is nearest by distance is then what is most similar by angle.

    u(x) = [x, 1] / |[x, 1]|

Behind it, nearest neighbour compares what `learners.RememberedExamples` compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsml.learners.front_end import FrontEnd, unit
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key


@dataclass(frozen=True)
class UnitLength(FrontEnd):
    """A learner that reads inputs scaled to one length."""

    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return (spec.num_inputs + 1,)

    def begin(self, key: Key, spec: TaskSpec) -> Any:
        return ()

    def see(self, front: Any, x: Array) -> tuple[Any, Array]:
        """u [B, n + 1]."""
        return front, unit(x)
