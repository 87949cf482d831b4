"""The check that a cell keeps what its contract promises, made where a layer is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from vsml.cells.base import Cell
from vsml.errors import UserError
from vsml.types import Array, Params, State


def check_update(cell: Cell, params: Params, state: State, forward_in: Array, backward_in: Array, units: int) -> None:
    """Traces one micro tick for the shapes of its arguments; nothing is computed.

    Args:
      params: leaves [sets, ...].
      state: of the sub-RNNs.
      forward_in, backward_in: messages [channels, sites].
      units: number of sub-RNNs.

    Raises:
      UserError: the state is not of floating point or not [n, units]; or `update` gives back another form of state, or
        uses traced values that are not among its arguments.
    """
    name = f"cells.{type(cell).__name__}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.ndim != 2 or leaf.shape[1] != units:
            raise UserError(
                f"{name}.initial_state: state{jax.tree_util.keystr(path)} is {_form(leaf)}: make every leaf of the "
                f"state an array of floating point [n, {units}], a column for each of the {units} sub-RNNs"
            )
    own = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    alone = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    incoming = [jax.ShapeDtypeStruct((len(message), units), message.dtype) for message in (forward_in, backward_in)]
    traced, new = jax.make_jaxpr(cell.update, return_shape=True)(own, alone, *incoming)
    if jax.tree.structure(new) != jax.tree.structure(state):
        raise UserError(
            f"{name}.update takes a state {jax.tree.structure(state)} and gives {jax.tree.structure(new)}: "
            "give back the same leaves"
        )
    for (path, old), leaf in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(new), strict=True):
        if (old.shape, old.dtype) != (leaf.shape, leaf.dtype):
            raise UserError(
                f"{name}.update takes state{jax.tree_util.keystr(path)} as {_form(old)} and gives {_form(leaf)}: "
                "give back the same shape and type"
            )
    outside = [value for value in traced.consts if isinstance(value, Tracer)]
    if outside:
        raise UserError(
            f"{name}.update uses a traced array {_form(outside[0])} that is not among its arguments: "
            "make it a part of params or of the state"
        )


def _form(leaf: Any) -> str:
    return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"
