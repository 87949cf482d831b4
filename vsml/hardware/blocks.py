"""Functions that treat every sub-RNN, or synapse, alike and alone, computed block by block, forward and backward.

    y[:, u] = f(params, x[:, u])          u in block 1, block 2, ...

A CPU is fastest where all that a block needs stays in its second-level cache: over all sub-RNNs at once, every gate
would be written to memory and read again. Backward, a block is computed once more from what went in and differentiated
while it is in the cache, so that nothing but the input is kept of a whole layer.

Other processors have no such cache to stay in: there the function is simply called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vsml.hardware import kind
from vsml.types import Array, Params, State

FORWARD, BACKWARD = 2048, 800
"""At most so many sub-RNNs in a block: the 64 gates of each, and backward their slopes, take 512 KiB. Half as many or
twice as many cost less than a tenth of the speed."""

Update = Callable[[Params, State, Any], State]
"""(params, state, incoming) -> state; leaves of state and incoming have the sub-RNNs along one axis."""


class Cut(NamedTuple):
    """How units are cut into blocks."""

    axis: int = -1  # of every leaf
    forward: int | None = None  # most units of a block; None for `FORWARD`
    backward: int | None = None  # and for `BACKWARD`


SUB_RNNS = Cut()


def in_blocks(update: Update, params: Params, state: State, incoming: Any, cut: Cut = SUB_RNNS) -> State:
    """`update(params, state, incoming)`, on a CPU block by block and then differentiable in reverse mode only.

    Args:
      update: computes every unit from its own state and messages alone, and closes over no traced values.
      params: what all units share.
      state: leaves [..., units] or as `cut` says, of floating point; the result has the same shapes.
      incoming: leaves [..., units], of floating point.
      cut: the axis of units and the size of blocks, those of sub-RNNs unless told otherwise.
    """
    return _in_blocks(update, cut, params, state, incoming) if kind.is_cpu() else update(params, state, incoming)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_blocks(update: Update, cut: Cut, params: Params, state: State, incoming: Any) -> State:
    def run(params: Params, state: State, incoming: Any) -> State:
        def put(done: State, start: Any, size: int) -> State:
            # What is overwritten was read before, by this very block.
            part = update(params, *(_part(tree, cut.axis, start, size) for tree in (done, incoming)))
            return _written(done, part, cut.axis, start)

        return _for_each_block(put, state, _units(state, cut.axis), cut.forward or FORWARD)

    # What is vectorised over lifetimes goes one by one: a product of many small matrices is slow.
    return jax.custom_batching.sequential_vmap(run)(params, state, incoming)


def _forward(update: Update, cut: Cut, params: Params, state: State, incoming: Any) -> tuple[State, Any]:
    return _in_blocks(update, cut, params, state, incoming), (params, state, incoming)


def _backward(update: Update, cut: Cut, kept: Any, slope: State) -> tuple[Params, State, Any]:
    def run(params: Params, state: State, incoming: Any, slope: State) -> tuple[Params, State, Any]:
        def pull(done: Any, start: Any, size: int) -> Any:
            of_params, of_state, of_incoming = done
            own = (_part(tree, cut.axis, start, size) for tree in (state, incoming))
            more, own_state, own_incoming = jax.vjp(update, params, *own)[1](_part(slope, cut.axis, start, size))
            return (
                jax.tree.map(jnp.add, of_params, more),
                _written(of_state, own_state, cut.axis, start),
                _written(of_incoming, own_incoming, cut.axis, start),
            )

        empty = jax.tree.map(jnp.zeros_like, (params, state, incoming))
        return _for_each_block(pull, empty, _units(state, cut.axis), cut.backward or BACKWARD)

    return jax.custom_batching.sequential_vmap(run)(*kept, slope)


_in_blocks.defvjp(_forward, _backward)


def _units(tree: Any, axis: int) -> int:
    return jax.tree.leaves(tree)[0].shape[axis]


def _for_each_block(step: Callable[[Any, Any, int], Any], carry: Any, units: int, block: int) -> Any:
    """carry = step(carry, start, size) for blocks of one size and one of the rest."""
    count = -(-units // block)
    size = -(-units // count)
    whole = units // size
    if whole == 1:
        carry = step(carry, 0, size)
    else:
        carry = jax.lax.fori_loop(0, whole, lambda index, so_far: step(so_far, index * size, size), carry)
    return carry if whole * size == units else step(carry, whole * size, units - whole * size)


def _part(tree: Any, axis: int, start: Any, size: int) -> Any:
    """The units start..start + size - 1."""

    def of(leaf: Array) -> Array:
        whole = leaf.shape[axis] == size
        return leaf if whole else jax.lax.dynamic_slice_in_dim(leaf, start, size, axis)

    return jax.tree.map(of, tree)


def _written(tree: Any, part: Any, axis: int, start: Any) -> Any:
    """A tree with these units replaced."""

    def onto(leaf: Array, own: Array) -> Array:
        whole = leaf.shape == own.shape
        return own if whole else jax.lax.dynamic_update_slice_in_dim(leaf, own, start, axis)

    return jax.tree.map(onto, tree, part)
