"""Vanilla recurrent sub-RNN: the first equation of VSML.

    s'  = act(W [s, fwd, bwd] + b)           messages: linear heads on s', see `heads.py`

Without LayerNorm on the heads it is the paper's s' = act(s W + sum_c s_c C + sum_c s_c U), where C and U are products
of the weights that read a message and of the head that sends it; `analysis/matrix_view.py` multiplies them out.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.cells.activations import ACTIVATIONS, Activation
from vsml.cells.heads import incoming_columns, init_heads, linear
from vsml.cells.vector import VectorCell
from vsml.hardware import product
from vsml.types import Array, Key, Params, State


@dataclass(frozen=True)
class Vanilla(VectorCell):
    """Recurrent net without gates.

    Attributes:
      size: N, the length of the state vector of one sub-RNN.
      layer_norm: LayerNorm on each message, per sub-RNN, before the reduction.
      activation: `identity` makes learning linear in the state, and finite only where the weights contract.
    """

    activation: Activation = "tanh"

    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        recurrent_key, heads_key = jax.random.split(key)
        return {
            "recurrent": linear(recurrent_key, self.size, self.size + 2 * incoming),
            **init_heads(heads_key, self.size, outgoing, self.layer_norm),
        }

    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        inputs = jnp.concatenate([state["s"], forward_in, backward_in])
        own = params["recurrent"]
        weights = incoming_columns(own["w"], self.size, forward_in.shape[0], backward_in.shape[0])
        return {"s": ACTIVATIONS[self.activation](product(weights.T, inputs) + own["b"][:, None])}
