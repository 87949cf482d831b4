"""Contract of a learning algorithm: it predicts an example, then learns from the feedback to its output.

A learner that keeps the mean of all targets and predicts it, at a meta-learned scale:

>>> import jax, jax.numpy as jnp
>>> from dataclasses import dataclass
>>> from vsml.tasks import Feedback, TaskSpec
>>> @dataclass(frozen=True)
... class MeanTarget(Learner):
...     def init(self, key, spec):
...         return {"scale": jnp.ones(())}
...     def initial_state(self, params, key, spec):
...         return {"total": jnp.zeros((spec.batch, spec.num_outputs)), "count": jnp.zeros(())}
...     def predict(self, params, state, x):
...         return state, params["scale"] * state["total"] / jnp.maximum(state["count"], 1)
...     def learn(self, params, state, x, feedback):
...         return {"total": state["total"] + feedback.target, "count": state["count"] + 1}
...     def learned_variables(self, state):
...         return state
>>> learner, spec = MeanTarget(), TaskSpec(input_shape=(2,), num_outputs=1, length=10)
>>> params = learner.init(jax.random.key(0), spec)
>>> state = learner.initial_state(params, jax.random.key(1), spec)
>>> state = learner.learn(params, state, jnp.zeros((1, 2)), Feedback(target=jnp.array([[4.0]])))
>>> learner.predict(params, state, jnp.zeros((1, 2)))[1].tolist()
[[4.0]]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import jax

from vsml.tasks.base import Feedback, Task, TaskSpec, World
from vsml.types import Array, Key, Params, State


class Step(NamedTuple):
    """One step of a lifetime: a prediction, and what came of it."""

    predicted: State  # after the prediction, before learning from its answer
    state: State  # after the step
    world: World  # of the task, after the step
    output: Array  # [B, num_outputs]
    outcome: Any  # of the task, for `Task.score`


class Learner(ABC):
    """A learning algorithm with meta-parameters V_M (`params`) and learned variables V_L (`state`).

    All methods are pure and traced. A learner is a frozen dataclass of hyperparameters.
    """

    @abstractmethod
    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Draws the meta-parameters. Raises `UserError` where tasks of this shape cannot be learned."""

    @abstractmethod
    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> State:
        """Draws what a lifetime starts from, for `spec.batch` parallel examples."""

    @abstractmethod
    def predict(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        """Outputs for inputs, before anything answers them.

        Learning is switched off by throwing the new state away: the next prediction is then made from the same state.

        Args:
          x: [B, *input_shape].

        Returns:
          The state that `learn` goes on from, which may hold more than the one that came in, and the outputs
          [B, num_outputs]: logits, values, or preferences among actions, as the task reads them.
        """

    @abstractmethod
    def learn(self, params: Params, state: State, x: Array, feedback: Feedback) -> State:
        """Takes in what answered the outputs.

        Args:
          state: as `predict` returned it for this very example.
          x: [B, *input_shape]: what `predict` was given, or what a front-end before this learner has made of the same
            example since.
          feedback: the kinds that `TaskSpec.feedback` names, the others None.

        Returns:
          The state that the next `predict` starts from.
        """

    @abstractmethod
    def learned_variables(self, state: State) -> State:
        """The part of the state that is V_L: what is learned, without messages in flight and bookkeeping."""

    def messages(self, params: Params, state: State, x: Array, feedback: Feedback) -> dict[str, Array]:
        """What units tell each other in one step, for those who look inside; {} where there is nothing to tell.

        Args:
          state, x, feedback: as for `learn`.

        Returns:
          Messages [B, channels, neurons] by name.
        """
        return {}

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """Further sizes worth showing before a run, by name."""
        return {}

    def params_shapes(self, spec: TaskSpec) -> Params:
        """Shapes and dtypes of the meta-parameters, without drawing any. Raises as `init` does."""
        return jax.eval_shape(lambda key: self.init(key, spec), jax.random.key(0))

    def step(self, params: Params, state: State, task: Task, world: World, step: Any) -> Step:
        """Predicts, asks the task, learns.

        Args:
          state: where the lifetime stands.
          task: what answers.
          world: where the task stands.
          step: one row of `task.steps`.
        """
        x = task.see(world, step)
        predicted, output = self.predict(params, state, x)
        answer = task.answer(world, step, output)
        return Step(predicted, self.learn(params, predicted, x, answer.feedback), answer.world, output, answer.outcome)
