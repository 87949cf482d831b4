"""What stands in front of a learner and turns inputs into what the learner reads; it adds no meta-parameters."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State

FRONT_STREAM = 2
"""Of the key of a lifetime: the learner behind starts as it would without a front-end."""


class Reading(NamedTuple):
    """A learner and what stands in front of it."""

    front: Any
    inner: State
    read: Array | None = None  # [B, *shape], what the learner reads of the example that is answered next


@dataclass(frozen=True)
class FrontEnd(Learner):
    """A learner that reads something else than the inputs.

    Attributes:
      learner: what reads it.
    """

    learner: Learner

    @abstractmethod
    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        """Of what the learner reads of one example."""

    @abstractmethod
    def begin(self, key: Key, spec: TaskSpec) -> Any:
        """What a lifetime starts from."""

    @abstractmethod
    def see(self, front: Any, x: Array) -> tuple[Any, Array]:
        """What `learn` goes on from, and what the learner reads [B, *shape] before it predicts x [B, *input_shape]."""

    def keep(self, front: Any, x: Array, read: Array, feedback: Feedback) -> tuple[Any, Array]:
        """What the next example finds, and what the learner reads while it learns from x; `see` gave `read`."""
        return front, read

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """The meta-parameters of the learner behind."""
        return self.learner.init(key, self._inner(spec))

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Reading:
        front_key = jax.random.fold_in(key, FRONT_STREAM)
        return Reading(self.begin(front_key, spec), self.learner.initial_state(params, key, self._inner(spec)))

    def predict(self, params: Params, state: Reading, x: Array) -> tuple[Reading, Array]:
        front, read = self.see(state.front, x)
        inner, output = self.learner.predict(params, state.inner, read)
        return Reading(front, inner, read), output

    def learn(self, params: Params, state: Reading, x: Array, feedback: Feedback) -> Reading:
        front, read = self._keep(state, x, feedback)
        return Reading(front, self.learner.learn(params, state.inner, read, feedback))

    def learned_variables(self, state: Reading) -> State:
        """Those of the learner behind."""
        return self.learner.learned_variables(state.inner)

    def messages(self, params: Params, state: Reading, x: Array, feedback: Feedback) -> dict[str, Array]:
        return self.learner.messages(params, state.inner, self._keep(state, x, feedback)[1], feedback)

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """What the learner behind says of itself."""
        return self.learner.describe(self._inner(spec))

    def _keep(self, state: Reading, x: Array, feedback: Feedback) -> tuple[Any, Array]:
        assert state.read is not None  # `predict` has put it there
        return self.keep(state.front, x, state.read, feedback)

    def _inner(self, spec: TaskSpec) -> TaskSpec:
        return replace(spec, input_shape=self.shape(spec))


def unit(x: Array) -> Array:
    """[x, 1] / |[x, 1]|, [B, n + 1] of x [B, *input_shape]; the constant keeps what is left of a length near 0."""
    x = x.reshape(x.shape[0], -1)
    x = jnp.concatenate([x, jnp.ones((x.shape[0], 1))], axis=1)
    return x / jnp.sqrt(jnp.square(x).sum(1, keepdims=True))
