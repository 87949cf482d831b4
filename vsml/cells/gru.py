"""GRU sub-RNN.

    u, r = sig(W [s, fwd, bwd] + b + [offset, 0])          n = tanh(V [r s, fwd, bwd] + c)
    s'   = u s + (1 - u) n                                 messages: linear heads on s', see `heads.py`

What it remembers is also what its messages are read from: one vector per sub-RNN, where an LSTM has two.

Source: Cho et al. 2014, arXiv 1406.1078; the offset is the LSTM's of Kirsch & Schmidhuber 2021, arXiv 2012.14905.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.cells.heads import incoming_columns, init_heads, linear
from vsml.cells.vector import VectorCell
from vsml.hardware import opened, product, tanh, tanh_gates
from vsml.types import Array, Key, Params, State


@dataclass(frozen=True)
class GRU(VectorCell):
    """GRU with an update-gate offset and linear message heads.

    Attributes:
      size: N, the length of the state vector of one sub-RNN.
      layer_norm: LayerNorm on each message, per sub-RNN, before the reduction.
      gate_offset: added to the gate that keeps the state: the larger, the more constant states are at the start. At the
        5 of the paper's LSTM, short meta-training by backprop stays on its first plateau.
    """

    gate_offset: float = 1.0

    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        gates_key, candidate_key, heads_key = jax.random.split(key, 3)
        num_inputs = self.size + 2 * incoming
        return {
            "gates": linear(gates_key, 2 * self.size, num_inputs),
            "candidate": linear(candidate_key, self.size, num_inputs),
            **init_heads(heads_key, self.size, outgoing, self.layer_norm),
        }

    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        def affine(layer: Params, vector: Array) -> Array:
            weights = incoming_columns(layer["w"], self.size, forward_in.shape[0], backward_in.shape[0])
            return product(weights.T, jnp.concatenate([vector, forward_in, backward_in])) + layer["b"][:, None]

        halves = {"w": 0.5 * params["gates"]["w"], "b": 0.5 * params["gates"]["b"]}
        halves["b"] += jnp.repeat(jnp.array([0.5, 0.0]) * self.gate_offset, self.size)
        u, r = tanh_gates(affine(halves, state["s"]), 2)
        candidate = tanh(affine(params["candidate"], opened(r) * state["s"]))
        return {"s": opened(u) * state["s"] + opened(-u) * candidate}
