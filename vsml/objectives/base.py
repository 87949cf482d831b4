"""Contract of what meta-training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vsml.tasks.base import Task
from vsml.types import Array


class Objective(ABC):
    """Loss of one lifetime."""

    @abstractmethod
    def loss(self, logits: Array, task: Task) -> Array:
        """Scalar loss of one lifetime.

        Args:
          logits: [T, B, num_classes], predictions, each made before its label was seen.
          task: the lifetime's examples.

        Returns:
          The loss in nats, [].
        """
