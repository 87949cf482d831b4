"""The inner problem of meta-training: lifetimes of a learner on tasks of a distribution, each determined by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vsml.learners.base import Learner
from vsml.learners.unroll import Unrolled, auto_segment, unroll
from vsml.meta_optimizers.base import OBJECTIVE_STREAM, PartialLifetime
from vsml.objectives.base import CURVE, LinearObjective, Objective, curves, means
from vsml.tasks.base import Scores, Task, TaskDistribution
from vsml.types import Array, Key, Metrics, Params, State


@dataclass(frozen=True)
class TaskLifetimes:
    """Lifetimes of `learner` on tasks drawn from `tasks`; their arrays `data` are on the device."""

    learner: Learner
    tasks: TaskDistribution
    objective: Objective
    data: Any

    @property
    def length(self) -> int:
        """Steps of a lifetime, T."""
        return self.tasks.spec.length

    def auto_segment(self, at_once: int) -> int:
        """The segment length for differentiating `at_once` lifetimes at a time."""

        def start(key: Key) -> State:
            params = self.learner.init(key, self.tasks.spec)
            return self.learner.initial_state(params, key, self.tasks.spec)

        leaves = jax.tree.leaves(jax.eval_shape(start, jax.random.key(0)))
        state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        return auto_segment(self.length, at_once * state_bytes)

    def loss(self, params: Params, key: Key, segment: int | None = None) -> tuple[Array, Metrics]:
        """Runs one lifetime: the objective's loss and metrics."""
        task, state, objective_key = self._begin(params, key)
        return self.objective.evaluate(self.learner, params, state, task, objective_key, segment)

    def start(self, params: Params, key: Key, length: Array) -> PartialLifetime:
        """A lifetime of `length` steps, before its first step."""

        def first_step(params: Params, key: Key) -> tuple[Unrolled, Scores]:
            task, state, _ = self._begin(params, key)
            steps = jax.tree.map(lambda leaf: leaf[:1], task.steps)
            lived = unroll(self.learner, params, state, task, steps=steps)
            return lived, task.score(steps, lived.outputs, lived.outcomes)

        lived, scores = jax.eval_shape(first_step, params, key)
        nothing = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)  # noqa: E731
        return PartialLifetime(
            key=jax.random.key_data(key),
            state=jax.tree.map(nothing, lived.state),
            world=jax.tree.map(nothing, lived.world),
            position=jnp.zeros((), jnp.int32),
            length=jnp.asarray(length, jnp.int32),
            curves={name + CURVE: jnp.full(self.length, jnp.nan, jnp.float32) for name in scores.measures},
        )

    def run(
        self, params: Params, lifetime: PartialLifetime, window: int, segment: int | None = None
    ) -> tuple[Array, tuple[PartialLifetime, Metrics]]:
        """Continues a lifetime for `window` steps, or as many as are left.

        The whole task is drawn again and its window cut out. Steps beyond the end of the lifetime are computed, since
        shapes are static, but have no weight.

        Returns:
          The share of these steps in the lifetime's loss times its number of windows; the lifetime afterwards; and
          metrics: loss and measures of this window, and curves of the measures as last seen.
        """
        assert isinstance(self.objective, LinearObjective)  # `Experiment` refuses others
        position, length = lifetime.position, lifetime.length
        task, fresh, _ = self._begin(params, jax.random.wrap_key_data(lifetime.key))
        state, world = optax.tree.where(position == 0, (fresh, task.world), (lifetime.state, lifetime.world))

        at = position + jnp.arange(window)
        lived = (jnp.arange(self.length) < length)[:, None]
        weight = task.weight * lived
        windows = (length + window - 1) // window
        shares = self.objective.weights(weight, length) * windows
        steps, weight, shares = jax.tree.map(lambda array: _rows(array, at), (task.steps, weight, shares))
        unrolled = unroll(self.learner, params, state, task, world=world, steps=steps, segment=segment)
        scores = task.score(steps, unrolled.outputs, unrolled.outcomes)
        loss = jnp.sum(shares * scores.loss)

        seen = jnp.where(at < length, at, self.length)  # what is out of range is dropped
        now = curves(scores.measures)
        kept = {name: curve.at[seen].set(now[name], mode="drop") for name, curve in lifetime.curves.items()}
        after = lifetime._replace(state=unrolled.state, world=unrolled.world, position=position + window, curves=kept)
        return loss, (after, {**means(scores.measures, weight), **kept, "loss": loss})

    def _begin(self, params: Params, key: Key) -> tuple[Task, State, Key]:
        """The task of a lifetime, the state it starts from, and a key for the objective."""
        task_key, state_key = jax.random.split(key)
        task = self.tasks.sample(self.data, task_key)
        state = self.learner.initial_state(params, state_key, self.tasks.spec)
        return task, state, jax.random.fold_in(key, OBJECTIVE_STREAM)


def _rows(array: Array, at: Array) -> Array:
    """The rows of an array at some places, 0 beyond its end."""
    return jnp.take(array, at, axis=0, mode="fill", fill_value=0)
