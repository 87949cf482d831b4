"""The inner problem of meta-training: lifetimes of a learner on tasks of a distribution, each determined by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.learners.unroll import auto_segment, unroll
from vsml.meta_optimizers.base import Progress
from vsml.objectives.base import LinearObjective, Objective
from vsml.objectives.losses import cross_entropy, masked_mean
from vsml.tasks.base import TaskDistribution
from vsml.types import Array, Key, Metrics, Params, State


@dataclass(frozen=True)
class TaskLifetimes:
    """Lifetimes of `learner` on tasks drawn from `tasks`, whose arrays `data` are on the device."""

    learner: Learner
    tasks: TaskDistribution
    objective: Objective
    data: Any

    @property
    def length(self) -> int:
        """Examples of a lifetime, T."""
        return self.tasks.spec.length

    def auto_segment(self, at_once: int) -> int:
        """The segment length to choose where lifetimes are differentiated, so many at once."""

        def start(key: Key) -> State:
            params = self.learner.init(key, self.tasks.spec)
            return self.learner.initial_state(params, key, self.tasks.spec)

        leaves = jax.tree.leaves(jax.eval_shape(start, jax.random.key(0)))
        state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        return auto_segment(self.length, at_once * state_bytes)

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
        right = _right(logits, task.y)
        metrics = {
            "loss": loss,
            "accuracy": masked_mean(right, task.mask),
            "accuracy_curve": jnp.mean(right, axis=1),
        }
        return loss, metrics

    def start(self, params: Params, key: Key, length: Array) -> Progress:
        """A lifetime of `length` examples before its first one."""
        shapes = jax.eval_shape(lambda p, k: self.learner.initial_state(p, k, self.tasks.spec), params, key)
        return Progress(
            key=jax.random.key_data(key),
            state=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes),
            position=jnp.zeros((), jnp.int32),
            length=jnp.asarray(length, jnp.int32),
            accuracy_curve=jnp.full(self.length, jnp.nan, jnp.float32),
        )

    def run(
        self, params: Params, progress: Progress, window: int, segment: int | None = None
    ) -> tuple[Array, tuple[Progress, Metrics]]:
        """Runs a lifetime on for `window` examples, or as many as are left.

        The whole task is drawn again and its window cut out. Steps behind the end of the lifetime are computed, since
        shapes are static, and count nothing.

        Returns:
          The share of these examples in the lifetime's loss times its number of windows; the lifetime afterwards; and
          metrics as those of `loss`: loss and accuracy of this window, `accuracy_curve` as last seen.
        """
        assert isinstance(self.objective, LinearObjective)  # `Experiment` refuses others
        position, length = progress.position, progress.length
        task_key, state_key = jax.random.split(jax.random.wrap_key_data(progress.key))
        task = self.tasks.sample(self.data, task_key)
        fresh = self.learner.initial_state(params, state_key, self.tasks.spec)
        state = jax.tree.map(lambda new, old: jnp.where(position == 0, new, old), fresh, progress.state)

        at = position + jnp.arange(window)
        lived = (jnp.arange(self.length) < length)[:, None]
        mask = task.mask * lived
        windows = (length + window - 1) // window
        weights = self.objective.weights(mask, length) * windows
        x, y, mask, weights = (_rows(array, at) for array in (task.x, task.y, mask, weights))
        state, logits = unroll(self.learner, params, state, x, y, segment)
        loss = jnp.sum(weights * cross_entropy(logits, y))

        right = _right(logits, y)
        seen = jnp.where(at < length, at, self.length)  # what is out of range is dropped
        curve = progress.accuracy_curve.at[seen].set(jnp.mean(right, axis=1), mode="drop")
        metrics = {"loss": loss, "accuracy": masked_mean(right, mask), "accuracy_curve": curve}
        return loss, (progress._replace(state=state, position=position + window, accuracy_curve=curve), metrics)


def _right(logits: Array, labels: Array) -> Array:
    return (jnp.argmax(logits, -1) == jnp.argmax(labels, -1)).astype(jnp.float32)


def _rows(array: Array, at: Array) -> Array:
    """The rows of an array at some places, 0 behind its end."""
    return jnp.take(array, at, axis=0, mode="fill", fill_value=0)
