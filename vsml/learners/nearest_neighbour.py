"""Nearest neighbour: an example is of the class of the nearest example seen so far.

    y^ = y_j,  j = argmin_i |x - x_i|^2          i over all examples so far, or the last `memory` of them
    z_c = -min_{i of class c} |x - x_i|^2 / v    v the mean of |x - x_j|^2 so far, for `confidence`

Distances are |x|^2 - 2 x x_i + |x_i|^2: a matrix product with the stored examples.

Source: Cover & Hart 1967, "Nearest neighbor pattern classification".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from vsml.errors import UserError
from vsml.hardware import products_in
from vsml.learners.base import Learner
from vsml.learners.confidence import as_logits, no_evidence, weighed
from vsml.learners.feedback import check_feedback
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Stored(NamedTuple):
    """What nearest neighbour carries through a lifetime."""

    x: Array  # [memory, n]
    squared: Array  # [memory] their squared lengths
    label: Array  # [memory, C] bool, one True where an example is stored
    count: Array  # [] int32, examples so far; the next one is stored at count % memory
    total: Array  # [] sum of the squared distances of examples from their nearest neighbours
    compared: Array  # [] number of these
    evidence: Array  # [K], see `confidence`


@dataclass(frozen=True)
class NearestNeighbour(Learner):
    """Predicts the class of the nearest example; of equally near ones that of the first class.

    It has no meta-parameters: `params` is {}. It keeps what it has seen, so its memory is as long as a lifetime. The
    examples of a batch are learned together.

    Attributes:
      memory: how many examples are kept, the last ones; None for all T * B of a lifetime.
    """

    memory: int | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise UserError(f"learners.NearestNeighbour.memory is {self.memory}: set it to 1 or more, or to None")

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """No meta-parameters: {}."""
        return {}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Stored:
        """Nothing stored. Raises `UserError` where tasks give no target, or a batch does not fit into the memory."""
        check_feedback("learners.NearestNeighbour", ("target",), spec, "use another learner")
        memory = self.memory or spec.length * spec.batch
        if memory < spec.batch:
            raise UserError(
                f"learners.NearestNeighbour.memory is {memory}, but {spec.batch} examples come at once: set it to "
                f"{spec.batch} or more"
            )
        return Stored(
            x=jnp.zeros((memory, spec.num_inputs), jnp.float32),
            squared=jnp.zeros(memory, jnp.float32),
            label=jnp.zeros((memory, spec.num_outputs), bool),
            count=jnp.zeros((), jnp.int32),
            total=jnp.zeros(()),
            compared=jnp.zeros(()),
            evidence=no_evidence(),
        )

    def predict(self, params: Params, state: Stored, x: Array) -> tuple[Stored, Array]:
        return state, as_logits(state.evidence, *_scores(state, _nearest(state, x)))

    def learn(self, params: Params, state: Stored, x: Array, feedback: Feedback) -> Stored:
        """Stores the examples that have a target."""
        assert feedback.target is not None  # `initial_state` refuses other tasks
        target = feedback.target
        given = jnp.ones(x.shape[0]) if feedback.given is None else feedback.given
        memory = state.label.shape[0]
        order = jnp.cumsum(given).astype(jnp.int32)
        place = jnp.where(given > 0, (state.count + order - 1) % memory, memory)  # beyond the end: not stored
        nearest = _nearest(state, x)
        flat = x.reshape(x.shape[0], -1)
        known = given * (state.count > 0)
        return Stored(
            x=state.x.at[place].set(flat, mode="drop"),
            squared=state.squared.at[place].set(jnp.sum(flat**2, 1), mode="drop"),
            label=state.label.at[place].set(target == jnp.max(target, 1, keepdims=True), mode="drop"),
            count=state.count + order[-1],
            total=state.total + jnp.sum(jnp.where(known > 0, jnp.min(nearest, 1), 0)),
            compared=state.compared + known.sum(),
            evidence=weighed(state.evidence, *_scores(state, nearest), target),
        )

    def learned_variables(self, state: Stored) -> State:
        """The examples and their labels."""
        return state.x, state.label


def _nearest(state: Stored, x: Array) -> Array:
    """Squared distance to the nearest example of each class, [B, C]; infinite where there is none."""
    x = x.reshape(x.shape[0], -1)
    with products_in("float32"):
        squared = jnp.sum(x**2, 1)[:, None] - 2 * x @ state.x.T + state.squared[None]
    return jnp.min(jnp.where(state.label[None], jnp.maximum(squared, 0)[:, :, None], jnp.inf), axis=1)


def _scores(state: Stored, nearest: Array) -> tuple[Array, Array]:
    """What `confidence` is asked with: scores, and which classes were seen."""
    scale = state.total / jnp.maximum(state.compared, 1)
    seen = jnp.isfinite(nearest[0])
    return -jnp.where(seen, nearest, 0) / jnp.where(scale > 0, scale, 1), seen
