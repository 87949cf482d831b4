"""LSTM sub-RNN, the paper's cell.

    z = [h, fwd, bwd]                                       i, g, f, o = W z + b
    c' = sig(f + offset) c + sig(i - offset) tanh(g)        h' = sig(o) tanh(c')
    messages: linear heads on h', see `heads.py`

With offset 5 states are nearly constant at the start of meta-training: a sub-RNN begins as a memory that learns to
write.

Source: Hochreiter & Schmidhuber 1997; gate offsets and sizes of Kirsch & Schmidhuber 2021, arXiv 2012.14905, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from vsml.cells.base import Cell
from vsml.cells.heads import incoming_columns, init_heads, linear, reduced_message
from vsml.cells.vector import partly_random
from vsml.errors import UserError
from vsml.hardware import opened, product, tanh, tanh_gates
from vsml.sparsity.base import Reduce
from vsml.types import Array, Key, Params, State


@dataclass(frozen=True)
class LSTM(Cell):
    """LSTM with gate offsets and linear message heads.

    Attributes:
      size: N, the number of hidden units h (and memory cells c) of one sub-RNN.
      gate_offset: added to the forget gate and subtracted from the input gate. 5 is the paper's; 1 lets short
        meta-training by backprop leave its first plateau sooner.
      layer_norm: LayerNorm on each message, per sub-RNN, before the reduction.
    """

    size: int = 16
    gate_offset: float = 5.0
    layer_norm: bool = False

    memory: ClassVar[str] = "c"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"cells.LSTM.size is {self.size}: set it to 1 or more")

    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        gates_key, heads_key = jax.random.split(key)
        return {
            "gates": linear(gates_key, 4 * self.size, self.size + 2 * incoming),
            **init_heads(heads_key, self.size, outgoing, self.layer_norm),
        }

    def initial_state(self, key: Key, units: int, fan_in: int, random_share: float) -> State:
        """h = 0; the first `random_share` of c is truncated normal with std 1 / sqrt(fan_in), the rest 0."""
        memory = partly_random(key, self.size, units, fan_in, random_share)
        return {"h": jnp.zeros((self.size, units)), "c": memory}

    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        # Messages ride as extra rows of the one matrix product: adding their products to the gates afterwards would
        # move four times as many numbers.
        inputs = jnp.concatenate([state["h"], forward_in, backward_in])
        weights = incoming_columns(params["gates"]["w"], self.size, forward_in.shape[0], backward_in.shape[0])
        halves = jnp.repeat(jnp.array([0.5, 1.0, 0.5, 0.5]), self.size)  # of i, g, f, o
        offset = jnp.repeat(jnp.array([-0.5, 0.0, 0.5, 0.0]) * self.gate_offset, self.size)
        bias = halves * params["gates"]["b"] + offset
        i, g, f, o = tanh_gates(product(halves[None, :] * weights.T, inputs) + bias[:, None], 4)
        memory = opened(f) * state["c"] + opened(i) * g
        return {"h": opened(o) * tanh(memory), "c": memory}

    def messages(
        self, params: Params, state: State, forward_in: Array, backward_in: Array, forward: Reduce, backward: Reduce
    ) -> tuple[Array, Array]:
        return (
            reduced_message(params["forward"], state["h"], forward),
            reduced_message(params["backward"], state["h"], backward),
        )
