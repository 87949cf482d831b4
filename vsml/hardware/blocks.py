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

_STARTS: Any = {"allow_negative_indices": False}
"""Else an operation of its own would look at the sign of every start."""

Update = Callable[[Params, State, Any], State]
"""(params, state, incoming) -> state; leaves of state and incoming have the sub-RNNs along one axis or several."""


class Cut(NamedTuple):
    """How units are cut into blocks: along all axes but the last one by one, along the last several at once.

    What is incoming may have a single entry along an axis, which all units there share.
    """

    axes: tuple[int, ...] = (-1,)  # of every leaf, counted from its end
    forward: int | None = None  # most units of a block; None for `FORWARD`
    backward: int | None = None  # and for `BACKWARD`


SUB_RNNS = Cut()


def in_blocks(update: Update, params: Params, state: State, incoming: Any, cut: Cut = SUB_RNNS) -> State:
    """`update(params, state, incoming)`, on a CPU block by block and then differentiable in reverse mode only.

    Args:
      update: computes every unit from its own state and messages alone, and closes over no traced values.
      params: what all units share.
      state: leaves [..., units] or as `cut` says, of floating point; the result has the same shapes.
      incoming: leaves [..., units], of floating point; 1 instead of units where all share it.
      cut: the axes of units and the size of blocks, those of sub-RNNs unless told otherwise.
    """
    return _in_blocks(update, cut, params, state, incoming) if kind.is_cpu() else update(params, state, incoming)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_blocks(update: Update, cut: Cut, params: Params, state: State, incoming: Any) -> State:
    def run(params: Params, state: State, incoming: Any) -> State:
        def put(done: State, place: Place) -> State:
            # What is overwritten was read before, by this very block.
            part = update(params, *(_part(tree, place) for tree in (done, incoming)))
            return _written(done, part, place)

        return _for_each_block(put, state, _units(state, cut), cut.forward or FORWARD)

    # What is vectorised over lifetimes goes one by one: a product of many small matrices is slow.
    return jax.custom_batching.sequential_vmap(run)(params, state, incoming)


def _forward(update: Update, cut: Cut, params: Params, state: State, incoming: Any) -> tuple[State, Any]:
    def differentiated(params: Params, state: State, incoming: Any) -> State:
        # What is computed in another way where it is differentiated, as `product_of_few` is, is so here as well.
        return jax.vjp(update, params, state, incoming)[0]

    return _in_blocks(differentiated, cut, params, state, incoming), (params, state, incoming)


def _backward(update: Update, cut: Cut, kept: Any, slope: State) -> tuple[Params, State, Any]:
    def run(params: Params, state: State, incoming: Any, slope: State) -> tuple[Params, State, Any]:
        def pull(done: Any, place: Place) -> Any:
            of_params, of_state, of_incoming = done
            own = (_part(tree, place) for tree in (state, incoming))
            more, own_state, own_incoming = jax.vjp(update, params, *own)[1](_part(slope, place))
            return (
                jax.tree.map(jnp.add, of_params, more),
                _written(of_state, own_state, place),
                _written(of_incoming, _with_others(of_incoming, own_incoming, place, units), place),
            )

        units = _units(state, cut)
        empty = jax.tree.map(jnp.zeros_like, (params, state, incoming))
        return _for_each_block(pull, empty, units, cut.backward or BACKWARD)

    return jax.custom_batching.sequential_vmap(run)(*kept, slope)


_in_blocks.defvjp(_forward, _backward)

Place = dict[int, tuple[Any, int]]
"""Of each axis, the first unit of a block and how many there are."""


def _units(state: State, cut: Cut) -> dict[int, int]:
    """How many there are along each axis."""
    shape = jax.tree.leaves(state)[0].shape
    return {axis: shape[axis] for axis in cut.axes}


def _for_each_block(step: Callable[[Any, Place], Any], carry: Any, units: dict[int, int], block: int) -> Any:
    """carry = step(carry, place) for blocks of one size and one of the rest."""
    (axis, count), *inner = units.items()
    if inner:

        def along_inner(so_far: Any, outer: Place) -> Any:
            return _for_each_block(lambda last, place: step(last, {**outer, **place}), so_far, dict(inner), block)

        return _for_each_block(along_inner, carry, {axis: count}, 1)
    blocks = -(-count // block)
    size = -(-count // blocks)
    whole = count // size
    if whole == 1:
        carry = step(carry, {axis: (0, size)})
    else:
        carry = jax.lax.fori_loop(0, whole, lambda index, so_far: step(so_far, {axis: (index * size, size)}), carry)
    return carry if whole * size == count else step(carry, {axis: (whole * size, count - whole * size)})


def _part(tree: Any, place: Place) -> Any:
    """The units of a block, and what they share."""

    def of(leaf: Array) -> Array:
        starts, shape = _corner(leaf, place)
        return leaf if shape == leaf.shape else jax.lax.dynamic_slice(leaf, starts, shape, **_STARTS)

    return jax.tree.map(of, tree)


def _written(tree: Any, part: Any, place: Place) -> Any:
    """A tree with these units replaced."""

    def onto(leaf: Array, own: Array) -> Array:
        if leaf.shape == own.shape:
            return own
        return jax.lax.dynamic_update_slice(leaf, own, _corner(leaf, place)[0], **_STARTS)

    return jax.tree.map(onto, tree, part)


def _with_others(tree: Any, part: Any, place: Place, units: dict[int, int]) -> Any:
    """The slopes of a block; where other units share what they belong to, added to those of the blocks before."""

    def added(leaf: Array, own: Array) -> Array:
        is_shared = any(leaf.shape[axis] < count for axis, count in units.items())
        return own + _part(leaf, place) if is_shared else own

    return jax.tree.map(added, tree, part)


def _corner(leaf: Array, place: Place) -> tuple[list[Any], tuple[int, ...]]:
    """Where the part of a leaf at a place begins, and its shape."""
    starts, shape = [0] * leaf.ndim, list(leaf.shape)
    for axis, (start, size) in place.items():
        if leaf.shape[axis] > 1:
            starts[axis], shape[axis] = start, size
    return starts, tuple(shape)
