"""Mean loss of all predictions of a lifetime: how fast and how well it learns, in one number.

    L = mean_t CE(y^_t, y_t),   y^_t predicted before y_t is seen

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.objectives.base import LinearObjective
from vsml.objectives.losses import shares
from vsml.types import Array


@dataclass(frozen=True)
class OnlineMean(LinearObjective):
    """Mean cross-entropy over the lifetime's predictions, where the mask is 1."""

    def weights(self, mask: Array, length: Array | int) -> Array:
        return shares(mask)
