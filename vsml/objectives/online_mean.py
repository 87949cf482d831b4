"""Mean loss of all predictions of a lifetime: how fast and how well it learns, in one number.

    L = mean_t L_t,   y^_t predicted before y_t is seen

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.objectives.base import LinearObjective
from vsml.objectives.weights import shares
from vsml.types import Array


@dataclass(frozen=True)
class OnlineMean(LinearObjective):
    """Mean loss over the lifetime's predictions, where the task lets it count."""

    def weights(self, weight: Array, length: Array | int) -> Array:
        return shares(weight)
