"""Fast weight memory: an LSTM that writes into, and reads from, an associative memory with compositional keys.

    u_t = [x_t, e_{t-1}, y_{t-1}]                          e_t = dL/dy^_t
    h, c <- LSTM(u_t, h, c)
    k1, k2, v = tanh(h W)      beta = sig(h w)             k = vec(k1 k2^T)
    F <- F + beta (v - F k) k^T                            F <- F / max(1, |F|)
    q1, q2 = tanh(h R)                                     n = LayerNorm(F vec(q1 q2^T)), without scale and offset
    y^_t = (h + n P + p) V + d, bounded as 100 tanh(y^_t / 100)

V_M is all but the state; V_L is h, c and F, which are 0 at birth.

Source: Schlag, Munkhdalai & Schmidhuber 2021, "Learning associative inference using fast weight memory", arXiv
2011.07831; as a baseline in Kirsch & Schmidhuber 2021, arXiv 2012.14905. Stated of that baseline: an LSTM of 32, a
memory of 16 x 256, the outer product of two keys, the delta rule, a read through LayerNorm, and 110,683 meta-parameters
for 784 inputs and 10 classes. Derived from the count: the LSTM has 107,136, the output 330, the affine maps that write
and ask have 1,617 and 1,056; the other 544 are one read that returns to the size of h with a bias, 16 * 32 + 32. (A
LayerNorm with scale and offset before a map without a bias would count the same; the choice is this project's.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, features, init_front_end, num_features
from vsml.learners.delta_rule import read, write
from vsml.learners.feedback import as_vector, feedback_size, no_feedback
from vsml.learners.layers import affine, bounded, check_bound, init_affine, lstm
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State

LAYER_NORM_EPSILON = 1e-5


class Memory(NamedTuple):
    """What a fast weight memory carries through a lifetime, for B parallel examples."""

    h: Array  # [B, hidden_size]
    c: Array  # [B, hidden_size]
    fast: Array  # [B, memory_size ** 2, memory_size], the transpose of F
    feedback: Array  # [B, feedback_size], of the previous example


@dataclass(frozen=True)
class FastWeightMemory(Learner):
    """An LSTM with an associative memory, which is written and then read once per example.

    The B examples of a batch are B parallel streams: each has its own state and receives its own feedback only.

    Attributes:
      hidden_size: number of LSTM units.
      memory_size: of values and of both halves of a key, whose outer product is the key.
      forget_offset: added to the forget gate, as in `MetaRNN`.
      output_bound: y^ = bound * tanh(y^ / bound) keeps a diverging learner finite; None leaves y^ alone.
      front_end: what turns images into features; None reads them as they are.
    """

    hidden_size: int = 32
    memory_size: int = 16
    forget_offset: float = 1.0
    output_bound: float | None = 100.0
    front_end: ConvFrontEnd | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "memory_size"):
            if getattr(self, name) < 1:
                raise UserError(f"learners.FastWeightMemory.{name} is {getattr(self, name)}: set it to 1 or more")
        check_bound("FastWeightMemory", self.output_bound)

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Weights truncated normal with std 1 / sqrt(fan_in), biases 0; gates i, g, f, o; writing k1, k2, v, beta."""
        gates, writing, asking, reading, output, front = jax.random.split(key, 6)
        num_inputs = num_features(self.front_end, spec) + feedback_size(spec)
        return {
            "gates": init_affine(gates, num_inputs + self.hidden_size, 4 * self.hidden_size),
            "write": init_affine(writing, self.hidden_size, 3 * self.memory_size + 1),
            "ask": init_affine(asking, self.hidden_size, 2 * self.memory_size),
            "read": init_affine(reading, self.memory_size, self.hidden_size),
            "output": init_affine(output, self.hidden_size, spec.num_outputs),
            **init_front_end(self.front_end, front, spec),
        }

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Memory:
        """All zeros, in every lifetime: one network has no symmetry to break."""
        hidden = jnp.zeros((spec.batch, self.hidden_size), jnp.float32)
        fast = jnp.zeros((spec.batch, self.memory_size**2, self.memory_size), jnp.float32)
        return Memory(hidden, hidden, fast, no_feedback(spec))

    def predict(self, params: Params, state: Memory, x: Array) -> tuple[Memory, Array]:
        inputs = jnp.concatenate([features(self.front_end, params, x), state.feedback], axis=1)
        h, c = lstm(params["gates"], inputs, state.h, state.c, self.forget_offset)
        fast = self._written(params["write"], state.fast, h)
        output = bounded(affine(params["output"], h + self._recalled(params, fast, h)), self.output_bound)
        return state._replace(h=h, c=c, fast=fast), output

    def learn(self, params: Params, state: Memory, x: Array, feedback: Feedback) -> Memory:
        """Keeps the feedback, which enters with the next example."""
        return state._replace(feedback=as_vector(feedback, x.shape[0]))

    def learned_variables(self, state: Memory) -> State:
        """h, c and F; the feedback is in flight."""
        return state.h, state.c, state.fast

    def _written(self, writing: Params, fast: Array, h: Array) -> Array:
        said = affine(writing, h)
        first, second, value = jnp.split(jnp.tanh(said[:, :-1]), 3, axis=1)
        fast = write(fast, _outer(first, second), value, jax.nn.sigmoid(said[:, -1:]))
        # The square is bounded before the root, whose slope at an empty memory is infinite.
        return fast * jax.lax.rsqrt(jnp.maximum(1.0, jnp.sum(fast**2, axis=(1, 2), keepdims=True)))

    def _recalled(self, params: Params, fast: Array, h: Array) -> Array:
        query = _outer(*jnp.split(jnp.tanh(affine(params["ask"], h)), 2, axis=1))
        recalled = jax.nn.standardize(read(fast, query), axis=1, epsilon=LAYER_NORM_EPSILON)
        return affine(params["read"], recalled)


def _outer(one: Array, other: Array) -> Array:
    """Outer products of [B, n] and [B, n], flattened to [B, n * n]."""
    return jnp.reshape(one[:, :, None] * other[:, None, :], (one.shape[0], -1))
