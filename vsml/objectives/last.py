"""Loss of the last prediction of a lifetime: only what was learned counts, not how fast.

    L = L_T

Source: the usual objective of few-shot learning, e.g. Omniglot in Kirsch & Schmidhuber 2021, arXiv 2012.14905,
  appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.errors import UserError
from vsml.objectives.base import LinearObjective
from vsml.objectives.weights import between, shares
from vsml.types import Array


@dataclass(frozen=True)
class Last(LinearObjective):
    """Mean loss over the last `count` steps of a lifetime, where the task lets it count.

    Attributes:
      count: how many of the last steps count; all of them where it is the length of a lifetime or more.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"objectives.Last.count is {self.count}: set it to 1 or more")

    def weights(self, weight: Array, length: Array | int) -> Array:
        return shares(weight * between(weight, length - self.count, length))
