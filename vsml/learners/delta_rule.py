"""Delta-rule fast weight programmer: a slow layer writes keys and values into a fast one, and asks it.

    u_t = [x_t, e_{t-1}, y_{t-1}]                    e_t = dL/dy^_t
    k, q, v, beta = u_t S + d                        k, q <- phi(k), phi(q)      beta <- sig(beta)
    F <- F + phi(k) (v - phi(k) F)^T beta            only what the memory does not know yet is written
    y^_t = phi(q) F                                  phi(z) = (elu(z) + 1) / sum(elu(z) + 1), F = 0 at birth

V_M is the slow layer S, d; V_L is F. Keys sum to 1, so that a write never overshoots and logits stay among the values.

Source: Schlag, Irie & Schmidhuber 2021, "Linear Transformers are secretly fast weight programmers", arXiv 2102.11174:
the rule, and the normalised keys. Kirsch & Schmidhuber 2021, arXiv 2012.14905, use it as a baseline with keys and
queries of 64. That values are logits, and all of it one layer, is this project's reading: 111,895 meta-parameters
for 784 inputs and 10 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, features, init_front_end, num_features
from vsml.learners.feedback import as_vector, feedback_size, no_feedback
from vsml.learners.layers import affine, init_affine
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class ProgrammedWeights(NamedTuple):
    """What a delta-rule fast weight programmer carries through a lifetime, for B parallel examples."""

    fast: Array  # [B, key_size, num_outputs], F
    feedback: Array  # [B, feedback_size], of the previous example


class Program(NamedTuple):
    """What the slow layer says of one example."""

    key: Array  # [B, key_size], of sum 1
    query: Array  # [B, key_size], of sum 1
    value: Array  # [B, num_outputs]
    beta: Array  # [B, 1], how much of the difference is written, 0..1


@dataclass(frozen=True)
class DeltaRule(Learner):
    """Fast weights that a slow layer programs by the delta rule.

    The B examples of a batch are B parallel streams: each has its own F and receives its own feedback only.

    Attributes:
      key_size: of keys and queries.
      feedback: `delayed`: the error and the label of example t enter together with x_{t+1}, as in the paper's
        baselines, and F is written before it is asked. Key and value then never come from x_t and its own label, and
        there is no recurrence to remember one of them: what is learned stays in V_M. `second_pass`: F is asked about
        x_t with both silent, and written after the prediction from x_t, its error and its label. Meta-trained for 500
        steps on 30 examples of three digits with permuted labels, it is right in .70 of them, delayed in .34, which is
        guessing.
      front_end: what turns images into features; None reads them as they are.
    """

    key_size: int = 64
    feedback: Literal["delayed", "second_pass"] = "delayed"
    front_end: ConvFrontEnd | None = None

    def __post_init__(self) -> None:
        if self.key_size < 1:
            raise UserError(f"learners.DeltaRule.key_size is {self.key_size}: set it to 1 or more")

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Weights truncated normal with std 1 / sqrt(fan_in), biases 0; outputs in the order k, q, v, beta."""
        slow_key, front_key = jax.random.split(key)
        num_inputs = num_features(self.front_end, spec) + feedback_size(spec)
        slow = init_affine(slow_key, num_inputs, 2 * self.key_size + spec.num_outputs + 1)
        return {"slow": slow} | init_front_end(self.front_end, front_key, spec)

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> ProgrammedWeights:
        """All zeros, in every lifetime: keys and values already differ."""
        fast = jnp.zeros((spec.batch, self.key_size, spec.num_outputs), jnp.float32)
        return ProgrammedWeights(fast, no_feedback(spec))

    def predict(self, params: Params, state: ProgrammedWeights, x: Array) -> tuple[ProgrammedWeights, Array]:
        program = self._program(params, x, state.feedback)
        if self.feedback == "delayed":
            state = state._replace(fast=write(state.fast, program.key, program.value, program.beta))
        return state, read(state.fast, program.query)

    def learn(self, params: Params, state: ProgrammedWeights, x: Array, feedback: Feedback) -> ProgrammedWeights:
        """Keeps the feedback for the next example, or writes F in a second pass."""
        if self.feedback == "delayed":
            return state._replace(feedback=as_vector(feedback, x.shape[0]))
        program = self._program(params, x, as_vector(feedback, x.shape[0]))
        return state._replace(fast=write(state.fast, program.key, program.value, program.beta))

    def learned_variables(self, state: ProgrammedWeights) -> State:
        """F; the feedback is in flight."""
        return state.fast

    def _program(self, params: Params, x: Array, feedback: Array) -> Program:
        said = affine(params["slow"], jnp.concatenate([features(self.front_end, params, x), feedback], axis=1))
        n = self.key_size
        key, query, value, beta = jnp.split(said, [n, 2 * n, said.shape[1] - 1], axis=1)
        return Program(_positive(key), _positive(query), value, jax.nn.sigmoid(beta))


def read(fast: Array, query: Array) -> Array:
    """What fast weights [B, n, m] hold under queries [B, n]: [B, m]."""
    return jnp.einsum("bi,bij->bj", query, fast)


def write(fast: Array, key: Array, value: Array, beta: Array) -> Array:
    """Moves what fast weights [B, n, m] hold under keys [B, n] towards values [B, m], by beta [B, 1]."""
    return fast + key[:, :, None] * (beta * (value - read(fast, key)))[:, None, :]


def _positive(z: Array) -> Array:
    """phi: positive, and of sum 1."""
    positive = jax.nn.elu(z) + 1
    return positive / jnp.sum(positive, axis=1, keepdims=True)
