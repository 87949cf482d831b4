"""Hebbian fast weights: one layer whose weights change by the product of what they connect.

    u_t = [x_t, e_{t-1}, y_{t-1}]                    e_t = dL/dy^_t
    y^_t = u_t (w + coeff * F_t) + b                 p_t = tanh(y^_t), the activity of the outputs
    hebb  F_ij <- (1 - eta) F_ij + eta u_i p_j       eta = sig(rate), F = 0 at birth
    oja   F_ij <- F_ij + eta p_j (u_i - p_j F_ij)

V_M is w, coeff, b and rate; V_L is F. Both rules keep F within what the inputs span, so logits need no bound.

Source: Miconi, Clune & Stanley 2018, "Differentiable plasticity", arXiv 1804.02464, and Oja 1982; as a baseline with
these sizes and starts in Kirsch & Schmidhuber 2021, arXiv 2012.14905. That the activity is squashed in the rules, but
not in the prediction, is this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, features, init_front_end, num_features
from vsml.learners.feedback import as_vector, feedback_size, no_feedback
from vsml.learners.layers import init_affine
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class FastWeights(NamedTuple):
    """What Hebbian fast weights carry through a lifetime, for B parallel examples."""

    fast: Array  # [B, features + feedback_size, num_outputs], F
    feedback: Array  # [B, feedback_size], of the previous example


@dataclass(frozen=True)
class HebbianFastWeights(Learner):
    """One layer with slow weights, and fast ones that follow Hebb's or Oja's rule at a learned rate.

    The B examples of a batch are B parallel streams: each has its own F and receives its own feedback only.

    Attributes:
      rule: how F changes. `hebb` forgets at a constant rate; `oja` as far as the output neuron is active.
      feedback: `delayed`: the error and the label of example t enter together with x_{t+1}, as in the paper's
        baselines. F then never meets x_t together with its label, and there is no recurrence to remember one of them:
        what is learned stays in V_M. `second_pass`: after its prediction x_t enters once more, together with its own
        error and label, and F learns from that; predictions are made with both silent. Meta-trained for 500 steps on
        30 examples of three digits with permuted labels, it is right in .58 (hebb) and .64 (oja) of them, delayed in
        .34, which is guessing.
      rate: start of the learned rate, before the sigmoid.
      coeff: start of all learned coefficients of F.
      front_end: what turns images into features; None reads them as they are.
    """

    rule: Literal["hebb", "oja"] = "hebb"
    feedback: Literal["delayed", "second_pass"] = "delayed"
    rate: float = -4.5
    coeff: float = 0.01
    front_end: ConvFrontEnd | None = None

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """w truncated normal with std 1 / sqrt(fan_in), b 0; `rate` and `coeff` at their starts."""
        layer_key, front_key = jax.random.split(key)
        layer = init_affine(layer_key, self._num_inputs(spec), spec.num_outputs)
        plastic = {"coeff": jnp.full_like(layer["w"], self.coeff), "rate": jnp.full((), self.rate, jnp.float32)}
        return layer | plastic | init_front_end(self.front_end, front_key, spec)

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> FastWeights:
        """All zeros, in every lifetime: the slow weights already tell the connections apart."""
        fast = jnp.zeros((spec.batch, self._num_inputs(spec), spec.num_outputs), jnp.float32)
        return FastWeights(fast, no_feedback(spec))

    def predict(self, params: Params, state: FastWeights, x: Array) -> tuple[FastWeights, Array]:
        inputs = jnp.concatenate([features(self.front_end, params, x), state.feedback], axis=1)
        output = _activity(params, state.fast, inputs)
        if self.feedback == "second_pass":
            return state, output
        return state._replace(fast=self._changed(params, state.fast, inputs, output)), output

    def learn(self, params: Params, state: FastWeights, x: Array, feedback: Feedback) -> FastWeights:
        """Keeps the feedback for the next example, or lets it change F in a second pass."""
        if self.feedback == "delayed":
            return state._replace(feedback=as_vector(feedback, x.shape[0]))
        inputs = jnp.concatenate([features(self.front_end, params, x), as_vector(feedback, x.shape[0])], axis=1)
        return state._replace(fast=self._changed(params, state.fast, inputs, _activity(params, state.fast, inputs)))

    def learned_variables(self, state: FastWeights) -> State:
        """F; the feedback is in flight."""
        return state.fast

    def _num_inputs(self, spec: TaskSpec) -> int:
        return num_features(self.front_end, spec) + feedback_size(spec)

    def _changed(self, params: Params, fast: Array, inputs: Array, activity: Array) -> Array:
        inputs, outputs = inputs[:, :, None], jnp.tanh(activity)[:, None, :]
        forgotten = outputs**2 * fast if self.rule == "oja" else fast
        return fast + jax.nn.sigmoid(params["rate"]) * (inputs * outputs - forgotten)


def _activity(params: Params, fast: Array, inputs: Array) -> Array:
    """Outputs [B, num_outputs] of inputs [B, n]."""
    slow = inputs @ params["w"] + params["b"][None]
    return slow + jnp.einsum("bi,bij->bj", inputs, params["coeff"][None] * fast)
