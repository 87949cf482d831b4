"""Mean loss of all predictions of a lifetime: how fast and how well it learns, in one number.

    L = mean_t CE(y^_t, y_t),   y^_t predicted before y_t is seen

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.objectives.base import Objective
from vsml.objectives.losses import cross_entropy, masked_mean
from vsml.tasks.base import Task
from vsml.types import Array


@dataclass(frozen=True)
class OnlineMean(Objective):
    """Mean cross-entropy over the lifetime's predictions, where the mask is 1."""

    def loss(self, logits: Array, task: Task) -> Array:
        return masked_mean(cross_entropy(logits, task.y), task.mask)
