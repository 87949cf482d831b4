"""Contract of what meta-training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod

import jax.numpy as jnp

from vsml.objectives.losses import cross_entropy
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


class LinearObjective(Objective):
    """A weighted sum of the losses of single predictions, so that a lifetime may be cut into windows.

    L = sum_tb w_tb CE(y^_tb, y_tb)
    """

    @abstractmethod
    def weights(self, mask: Array, length: Array | int) -> Array:
        """The weight of every prediction.

        Args:
          mask: [T, B], 1 where a prediction counts; 0 behind the end of the lifetime.
          length: examples of the lifetime, 1..T; may be traced.

        Returns:
          [T, B], 0 where the mask is 0.
        """

    def loss(self, logits: Array, task: Task) -> Array:
        weights = self.weights(task.mask, task.mask.shape[0])
        return jnp.sum(weights * cross_entropy(logits, task.y))
