"""Contract of what meta-training minimises.

An objective gets a learner, its meta-parameters, the state that a lifetime starts from, and a task; what it does with
them is its own. The usual kind runs the lifetime and weighs its losses (`PredictionObjective`); another may regress
single sub-RNNs and never run one. One that asks for small outputs, whatever they are worth:

>>> import jax, jax.numpy as jnp
>>> from dataclasses import dataclass
>>> from vsml.learners import MetaRNN
>>> from vsml.tasks import ClassificationTask, TaskSpec
>>> @dataclass(frozen=True)
... class SmallOutputs(Objective):
...     def evaluate(self, learner, params, state, task, key, segment=None):
...         size = jnp.square(unroll(learner, params, state, task, segment=segment).outputs).mean((1, 2))  # [T]
...         return size.mean(), {"loss": size.mean(), "size_curve": size}
>>> learner, spec = MetaRNN(hidden_size=2), TaskSpec((3,), num_outputs=2, length=4)
>>> params = learner.init(jax.random.key(0), spec)
>>> task = ClassificationTask(jnp.ones((4, 1, 3)), jax.nn.one_hot(jnp.ones((4, 1), int), 2), jnp.ones((4, 1)))
>>> state = learner.initial_state(params, jax.random.key(1), spec)
>>> loss, metrics = SmallOutputs().evaluate(learner, params, state, task, jax.random.key(2))
>>> metrics["size_curve"].shape
(4,)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.objectives.weights import weighted_mean
from vsml.tasks.base import Task
from vsml.types import Array, Key, Metrics, Params, State

CURVE = "_curve"
"""What the name of a metric over the steps of a lifetime ends in."""


class Objective(ABC):
    """What meta-training minimises, lifetime by lifetime."""

    @abstractmethod
    def evaluate(
        self, learner: Learner, params: Params, state: State, task: Task, key: Key, segment: int | None = None
    ) -> tuple[Array, Metrics]:
        """The loss of one lifetime. Pure and traced.

        Args:
          learner: the learning algorithm.
          params: its meta-parameters.
          state: what the lifetime starts from, for `spec.batch` parallel examples.
          task: what the lifetime is lived on.
          key: for what else is random.
          segment: where the loss is differentiated by backprop, examples per rematerialised segment, as for `unroll`.

        Returns:
          The loss [], and metrics: `loss`, the same, and others by name: scalars [], and curves [T] over the steps of
          the lifetime.
        """


class PredictionObjective(Objective):
    """An objective that runs the lifetime, and sees only what its predictions were worth."""

    @abstractmethod
    def loss(self, losses: Array, weight: Array) -> Array:
        """Scalar loss of one lifetime.

        Args:
          losses: [T, B], of the single predictions, each made before its answer.
          weight: [T, B], how much each counts (`Task.weight`).
        """

    def evaluate(
        self, learner: Learner, params: Params, state: State, task: Task, key: Key, segment: int | None = None
    ) -> tuple[Array, Metrics]:
        lived = unroll(learner, params, state, task, segment=segment)
        scores = task.score(task.steps, lived.outputs, lived.outcomes)
        loss = self.loss(scores.loss, task.weight)
        return loss, {**means(scores.measures, task.weight), **curves(scores.measures), "loss": loss}


class LinearObjective(PredictionObjective):
    """A weighted sum of the losses of single predictions, so that a lifetime may be cut into windows.

    L = sum_tb w_tb L_tb
    """

    @abstractmethod
    def weights(self, weight: Array, length: Array | int) -> Array:
        """The weight of every prediction in the loss.

        Args:
          weight: [T, B], how much the task lets it count; 0 beyond the end of the lifetime.
          length: examples of the lifetime, 1..T; may be traced.

        Returns:
          [T, B], 0 where `weight` is 0.
        """

    def loss(self, losses: Array, weight: Array) -> Array:
        return jnp.sum(self.weights(weight, weight.shape[0]) * losses)


def means(measures: Mapping[str, Array], weight: Array) -> Metrics:
    """The mean of each measure [T, B] over the predictions that count: []."""
    return {name: weighted_mean(values, weight) for name, values in measures.items()}


def curves(measures: Mapping[str, Array]) -> Metrics:
    """Each measure [T, B] over the lifetime, the mean over the batch: [T]."""
    return {name + CURVE: jnp.mean(values, axis=1) for name, values in measures.items()}
