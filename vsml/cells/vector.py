"""Cells whose state is one vector s, from which linear heads read the messages (see `heads.py`).

s' = update(s, fwd, bwd),   fwd_out = f_fwd(s'),   bwd_out = f_bwd(s')
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from vsml.cells.base import Cell
from vsml.cells.heads import reduced_message, truncated_normal
from vsml.errors import UserError
from vsml.sparsity.base import Reduce
from vsml.types import Array, Key, Params, State


def partly_random(key: Key, size: int, units: int, fan_in: int, random_share: float) -> Array:
    """Vectors [size, units]: the first `random_share` truncated normal with std 1 / sqrt(fan_in), the rest 0."""
    num_random = round(size * random_share)
    random = truncated_normal(key, (num_random, units), fan_in**-0.5)
    return jnp.concatenate([random, jnp.zeros((size - num_random, units))])


@dataclass(frozen=True)
class VectorCell(Cell):
    """A state vector with linear message heads; a subclass says how the vector changes.

    Attributes:
      size: N, the length of the state vector of one sub-RNN.
      layer_norm: LayerNorm on each message, per sub-RNN, before the reduction.
    """

    size: int = 16
    layer_norm: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"cells.{type(self).__name__}.size is {self.size}: set it to 1 or more")

    def initial_state(self, key: Key, units: int, fan_in: int, random_share: float) -> State:
        """The first `random_share` of s is truncated normal with std 1 / sqrt(fan_in), the rest 0."""
        return {"s": partly_random(key, self.size, units, fan_in, random_share)}

    def messages(
        self, params: Params, state: State, forward_in: Array, backward_in: Array, forward: Reduce, backward: Reduce
    ) -> tuple[Array, Array]:
        return (
            reduced_message(params["forward"], state["s"], forward),
            reduced_message(params["backward"], state["s"], backward),
        )
