"""How much the loss falls over a lifetime: progress counts, not what was known before.

    L = L_T - L_1

What all predictions share cancels: a learner gains nothing by knowing the answer from the start. The loss has no lower
bound: a first prediction that is confidently wrong pays as much as a last one that is right.

Source: learning progress as what is rewarded, Schmidhuber 1991, Curious model-building control systems.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.errors import UserError
from vsml.objectives.base import LinearObjective
from vsml.objectives.weights import between, shares
from vsml.types import Array


@dataclass(frozen=True)
class Improvement(LinearObjective):
    """Mean loss of the last `count` steps minus that of the first `count`, where the task lets it count.

    Attributes:
      count: how many steps count at either end; they overlap where it is more than half of a lifetime.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"objectives.Improvement.count is {self.count}: set it to 1 or more")

    def weights(self, weight: Array, length: Array | int) -> Array:
        last = shares(weight * between(weight, length - self.count, length))
        first = shares(weight * between(weight, 0, self.count))
        return last - first
