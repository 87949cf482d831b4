"""One visit of a layer of sub-RNNs: micro ticks on the messages it receives, then the messages it sends.

    s_ab  <- f_set(ab)( s_ab, fwd_a, bwd_b )      `micro_ticks` times
    fwd_b  = R_a f_fwd(s_ab),   bwd_a = R_b f_bwd(s_ab)

Where the layer uses one set of meta-parameters, all sub-RNNs go through the same matrix products. Where it uses
several, sub-RNNs are sorted by set, those of a set go through the products together, and messages leave sub-RNN by
sub-RNN. Where sub-RNNs are at work in several places, each micro tick averages what the places make of the state; the
messages of a place come from what itself made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vsml.cells.base import Cell
from vsml.cells.check import check_update
from vsml.hardware import in_blocks
from vsml.sparsity.base import Reduce, Wiring
from vsml.types import Array, Params, State

ALONE = Reduce(lambda outgoing: outgoing, total=1.0)
"""No reduction: what each sub-RNN sends."""


def alone(units: int) -> Wiring:
    """Sub-RNNs that are connected to nothing: each receives messages of its own, and what it sends stays apart."""
    own = np.arange(units)
    keep = lambda message: message  # noqa: E731
    return Wiring(
        inputs=units,
        outputs=units,
        units=units,
        fan_in=1,
        input_of=own,
        output_of=own,
        spread_forward=keep,
        spread_backward=keep,
        reduce_forward=ALONE,
        reduce_backward=ALONE,
    )


def visit(
    cell: Cell,
    params: Params,
    sets: int | np.ndarray,
    wiring: Wiring,
    state: State,
    forward_in: Array,
    backward_in: Array,
    micro_ticks: int,
) -> tuple[State, Array, Array]:
    """Visits a layer.

    Args:
      cell: what a sub-RNN computes.
      params: parameter sets, stacked along a leading axis.
      sets: the set of all sub-RNNs, or of each, [units].
      wiring: of the layer.
      state: leaves [n, units].
      forward_in, backward_in: messages at the sites, [channels, sites].
      micro_ticks: updates on these messages.

    Returns:
      The new state, and the messages [m, out] and [m, in] that reach the output neurons and the input neurons.

    Raises:
      UserError: the cell does not keep its contract.
    """
    check_update(cell, params, state, forward_in, backward_in, wiring.units)
    if isinstance(sets, int):
        own = jax.tree.map(lambda leaf: leaf[sets], params)
        return _visit(cell, own, wiring, state, forward_in, backward_in, micro_ticks)
    return _visit_by_set(cell, params, sets, wiring, state, forward_in, backward_in, micro_ticks)


def _visit(
    cell: Cell, params: Params, wiring: Wiring, state: State, forward_in: Array, backward_in: Array, micro_ticks: int
) -> tuple[State, Array, Array]:
    incoming = forward_in, backward_in

    def ticks(count: int, params: Params, state: State, incoming: tuple[Array, Array]) -> State:
        return _tick(lambda alone: cell.update(params, alone, *incoming), state, 1, count, False)[0]

    if wiring.places == 1 and not cell.sends_before_update:
        state = sender = in_blocks(partial(ticks, micro_ticks), params, state, incoming)
    else:
        one = partial(ticks, 1)
        state, sender = _tick(
            lambda at_sites: in_blocks(one, params, at_sites, incoming),
            state,
            wiring.places,
            micro_ticks,
            cell.sends_before_update,
        )
    outgoing = cell.messages(params, sender, forward_in, backward_in, wiring.reduce_forward, wiring.reduce_backward)
    return state, *outgoing


def _visit_by_set(
    cell: Cell,
    params: Params,
    sets: np.ndarray,
    wiring: Wiring,
    state: State,
    forward_in: Array,
    backward_in: Array,
    micro_ticks: int,
) -> tuple[State, Array, Array]:
    used, order, position = _sort_by_set(sets)
    shape = (wiring.places, len(used), len(order) // len(used))

    def by_set(array: Array) -> Array:
        """[n, places * units] to [n, sets, places * units of a set]."""
        sorted_units = array.reshape(array.shape[0], -1, wiring.units)[:, :, order]
        places = sorted_units.shape[1]
        return sorted_units.reshape(-1, places, *shape[1:]).swapaxes(1, 2).reshape(-1, shape[1], places * shape[2])

    def by_unit(array: Array) -> Array:
        """The inverse of `by_set`, without the copies that fill up smaller sets."""
        places = array.shape[2] // shape[2]
        sorted_units = array.reshape(-1, shape[1], places, shape[2]).swapaxes(1, 2).reshape(-1, places, len(order))
        return sorted_units[:, :, position].reshape(-1, places * wiring.units)

    own = jax.tree.map(lambda leaf: leaf[used], params)
    incoming = by_set(forward_in), by_set(backward_in)
    update: Callable[..., Any] = jax.vmap(cell.update, in_axes=(0, 1, 1, 1), out_axes=1)
    if wiring.places == 1 and not cell.sends_before_update:
        sorted_state = jax.tree.map(by_set, state)  # once for all micro ticks
        sender, _ = _tick(lambda alone: update(own, alone, *incoming), sorted_state, 1, micro_ticks, False)
        state = jax.tree.map(by_unit, sender)
    else:
        state, at_sites = _tick(
            lambda at_sites: jax.tree.map(by_unit, update(own, jax.tree.map(by_set, at_sites), *incoming)),
            state,
            wiring.places,
            micro_ticks,
            cell.sends_before_update,
        )
        sender = jax.tree.map(by_set, at_sites)
    send = jax.vmap(lambda p, s, f, b: cell.messages(p, s, f, b, ALONE, ALONE), in_axes=(0, 1, 1, 1), out_axes=1)
    forward, backward = (by_unit(outgoing) for outgoing in send(own, sender, *incoming))
    return state, wiring.reduce_forward(forward), wiring.reduce_backward(backward)


def _tick(
    update: Callable[[State], State], state: State, places: int, micro_ticks: int, sends_before_update: bool
) -> tuple[State, State]:
    """The state after micro ticks of `update`, and what the messages are read from: states at all sites."""
    before = after = state
    for _ in range(micro_ticks):
        before = _everywhere(state, places)
        after = update(before)
        state = _average(after, places)
    return state, before if sends_before_update else after


def _sort_by_set(sets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How to make one rectangular block of sub-RNNs that are assigned to sets of unlike sizes.

    Returns:
      The sets in use; for each place in the block [sets in use * largest], set by set, the sub-RNN that stands there,
      smaller sets filled up with copies of their first; for each sub-RNN its place in the block.
    """
    used, index, counts = np.unique(sets, return_inverse=True, return_counts=True)
    by_set = np.argsort(index, kind="stable")
    starts = np.cumsum(counts) - counts
    slot = np.arange(counts.max())
    order = by_set[starts[:, None] + np.where(slot < counts[:, None], slot, 0)].ravel()
    position = np.empty(len(sets), int)
    position[by_set] = index[by_set] * counts.max() + np.arange(len(sets)) - starts[index[by_set]]
    return used, order, position


def _everywhere(state: State, places: int) -> State:
    """The state of every sub-RNN at all its sites."""
    return state if places == 1 else jax.tree.map(lambda leaf: jnp.tile(leaf, (1, places)), state)


def _average(proposed: State, places: int) -> State:
    """The mean over places of what the sites of a sub-RNN make of its state."""
    if places == 1:
        return proposed
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], places, -1).mean(axis=1), proposed)
