"""Contract of what meta-training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vsml.tasks.base import Task
from vsml.types import Array


class Objective(ABC):
    """Loss of one lifetime."""

    @abstractmethod
    def loss(self, logits: Array, task: Task) -> Array:
        """Scalar loss in nats from the predictions `logits` [T, B, num_classes] of a lifetime, each made before its label."""
