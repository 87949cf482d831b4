"""Feed-forward sub-RNN: a multi-layer perceptron proposes the next state; a local update rule.

    a_0 = [s, fwd, bwd]     a_l = act(W_l a_{l-1} + b_l)     p, g = W_L a_{L-1} + b_L
    residual   s' = s + rate p
    gated      s' = s + k (p - s),   k = sig(g + log(rate / (1 - rate)))
    plain      s' = p
    messages: linear heads on s', see `heads.py`

Source: residual and gated changes of synapses by a shared net as in Gregor 2020, arXiv 2003.03124 (the forms are ours);
`plain` is the general f_RNN of Kirsch & Schmidhuber 2021, arXiv 2012.14905.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from vsml.cells.activations import ACTIVATIONS, Activation
from vsml.cells.heads import incoming_columns, init_heads, linear
from vsml.cells.vector import VectorCell
from vsml.errors import UserError
from vsml.hardware import product
from vsml.types import Array, Key, Params, State


@dataclass(frozen=True)
class MLP(VectorCell):
    """Multi-layer perceptron that adds to the state, moves it or replaces it.

    Attributes:
      size: N, the length of the state vector of one sub-RNN.
      layer_norm: LayerNorm on each message, per sub-RNN, before the reduction.
      hidden: sizes of the hidden layers; () is an affine proposal.
      activation: of the hidden layers.
      update_rule: `residual` adds the proposal to the state, which may grow without bound; `gated` moves the state
        towards it, entry by entry; `plain` replaces the state by it.
      rate: share of the proposal that is taken over, for gates at the start of meta-training: the smaller, the more
        constant states are; adding up over a lifetime asks for less than gates do. `plain` always takes all of it.
    """

    hidden: tuple[int, ...] = (32,)
    activation: Activation = "tanh"
    update_rule: Literal["residual", "gated", "plain"] = "gated"
    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(size < 1 for size in self.hidden):
            raise UserError(f"cells.MLP.hidden is {list(self.hidden)}: give every hidden layer 1 unit or more")
        if not 0 < self.rate < 1:
            raise UserError(f"cells.MLP.rate is {self.rate}: set it above 0 and below 1")

    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        num_outputs = self.size * (2 if self.update_rule == "gated" else 1)
        sizes = (self.size + 2 * incoming, *self.hidden, num_outputs)
        heads_key, *keys = jax.random.split(key, len(sizes))
        return {
            "layers": [linear(k, n_out, n_in) for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)],
            **init_heads(heads_key, self.size, outgoing, self.layer_norm),
        }

    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        first, *others = params["layers"]
        inputs = jnp.concatenate([state["s"], forward_in, backward_in])
        weights = incoming_columns(first["w"], self.size, forward_in.shape[0], backward_in.shape[0])
        outputs = product(weights.T, inputs) + first["b"][:, None]
        for layer in others:
            outputs = product(layer["w"].T, ACTIVATIONS[self.activation](outputs)) + layer["b"][:, None]
        return {"s": self._changed(state["s"], outputs)}

    def _changed(self, s: Array, outputs: Array) -> Array:
        """The next state [N, units], given what the last layer says."""
        if self.update_rule == "plain":
            return outputs
        if self.update_rule == "residual":
            return s + self.rate * outputs
        proposal, gate = jnp.split(outputs, 2)
        return s + jax.nn.sigmoid(gate + math.log(self.rate / (1 - self.rate))) * (proposal - s)
