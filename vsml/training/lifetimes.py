"""The inner problem of meta-training: lifetimes of a learner on tasks of a distribution, each determined by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.learners.unroll import auto_segment, unroll
from vsml.objectives.base import Objective
from vsml.objectives.losses import masked_mean
from vsml.tasks.base import TaskDistribution
from vsml.types import Array, Key, Metrics, Params


@dataclass(frozen=True)
class TaskLifetimes:
    """Lifetimes of `learner` on tasks drawn from `tasks`, whose arrays `data` are on the device."""

    learner: Learner
    tasks: TaskDistribution
    objective: Objective
    data: Any

    @property
    def auto_segment(self) -> int:
        """The segment length at which a differentiated lifetime takes least memory."""
        return auto_segment(self.tasks.spec.length)

    def loss(self, params: Params, key: Key, segment: int | None = None) -> tuple[Array, Metrics]:
        """Runs one lifetime.

        Returns:
          The objective's loss, and metrics: `loss` (the same), `accuracy` (mean over the lifetime) and `accuracy_curve`
          [T] (1 where the prediction was right; mean over the batch).
        """
        task_key, state_key = jax.random.split(key)
        task = self.tasks.sample(self.data, task_key)
        state = self.learner.initial_state(params, state_key, self.tasks.spec)
        _, logits = unroll(self.learner, params, state, task.x, task.y, segment)
        loss = self.objective.loss(logits, task)
        right = (jnp.argmax(logits, -1) == jnp.argmax(task.y, -1)).astype(jnp.float32)
        metrics = {
            "loss": loss,
            "accuracy": masked_mean(right, task.mask),
            "accuracy_curve": jnp.mean(right, axis=1),
        }
        return loss, metrics
