"""Blocks of sub-RNNs: the same numbers, forward and backward, alone and vectorised, as all sub-RNNs at once."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import assert_equal_up_to_order

from vsml.cells import GRU, LSTM
from vsml.cells.base import Cell
from vsml.hardware import Cut, blocks, kind
from vsml.learners.visit import visit
from vsml.sparsity import Dense

CELLS: dict[str, Cell] = {"LSTM": LSTM(size=3), "GRU": GRU(size=3)}


@pytest.fixture(params=[(1, 1), (7, 5), (10, 20), (100, 100)], ids=str)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one, with a rest that is smaller, without one, and a single block; of 20 sub-RNNs."""
    monkeypatch.setattr(blocks, "FORWARD", request.param[0])
    monkeypatch.setattr(blocks, "BACKWARD", request.param[1])


def case(cell: Cell, lifetimes: int | None = None) -> tuple[Any, Any, Any]:
    """Params, state and messages of 20 sub-RNNs, all different, and of several lifetimes."""
    params = cell.init(jax.random.key(0), 2, 2)
    state = cell.initial_state(jax.random.key(1), 20, 4, 1.0)
    trees = params, state, (jnp.zeros((1, 20)), jnp.zeros((2, 20)))
    leaves, structure = jax.tree.flatten(trees)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    lead = () if lifetimes is None else (lifetimes,)
    return structure.unflatten(
        [jax.random.normal(key, (*lead, *leaf.shape)) for key, leaf in zip(keys, leaves, strict=True)]
    )


def ticks(cell: Cell, params: Any, state: Any, incoming: Any) -> Any:
    return cell.update(params, cell.update(params, state, *incoming), *incoming)


# Of one tick: 6 terms of a product, some 14 operations on gates. Two ticks forward and back are 80, and slopes of what
# all share add up 20 sub-RNNs.
ROUNDINGS = 100


def weighted(function: Any, params: Any, state: Any, incoming: Any) -> Any:
    """A number that depends on all of the new state, and that state."""
    new = function(params, state, incoming)
    return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(new)), new


def value_and_slopes(function: Any, trees: Any, lifetimes: int | None = None) -> Any:
    run = jax.value_and_grad(partial(weighted, function), argnums=(0, 1, 2), has_aux=True)
    (_, new), slopes = jax.jit(run if lifetimes is None else jax.vmap(run))(*trees)
    return new, slopes


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("lifetimes", [None, 3])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_equal_all_at_once_forward_and_backward(cell: Cell, lifetimes: int | None):
    trees, update = case(cell, lifetimes), partial(ticks, cell)
    found = value_and_slopes(partial(blocks.in_blocks, update), trees, lifetimes)
    assert_equal_up_to_order(found, value_and_slopes(update, trees, lifetimes), ROUNDINGS)


def outer(params: Any, state: Any, incoming: Any) -> Any:
    """What each unit of a grid [numbers, rows, columns] makes of its own numbers, its row's and its column's."""
    row, column, everyone = incoming
    return jnp.tanh(params * state + row * column + jnp.sin(everyone * state))


@pytest.mark.parametrize("lifetimes", [None, 3])
@pytest.mark.parametrize(
    "cut",
    [Cut((-1,), 2, 3), Cut((-2,), 1, 1), Cut((-1, -2), 2, 2), Cut((-2, -1), 4, 3), Cut((-2, -1), 9, 9)],
    ids=str,
)
def test_what_units_of_a_grid_share_gets_all_their_slopes(cut: Cut, lifetimes: int | None):
    lead = () if lifetimes is None else (lifetimes,)
    shapes = [(2, 1, 1), (2, 3, 5), ((2, 3, 1), (2, 1, 5), (1, 1, 1))]
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda node: all(isinstance(size, int) for size in node))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    trees = structure.unflatten([jax.random.normal(k, (*lead, *shape)) for k, shape in zip(keys, leaves, strict=True)])
    found = value_and_slopes(partial(blocks.in_blocks, outer, cut=cut), trees, lifetimes)
    assert_equal_up_to_order(found, value_and_slopes(outer, trees, lifetimes), ROUNDINGS)


# ------------------------------------------------------------------------------------------- on other processors


@pytest.fixture
def no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if programs ran on an accelerator."""
    monkeypatch.setattr(kind, "is_cpu", lambda device=None: False)


def layer(cell: Cell, params: Any, state: Any, incoming: Any) -> Any:
    """The state of a layer 4 -> 5 after a visit."""
    stacked = jax.tree.map(lambda leaf: leaf[None], params)
    new, forward, backward = visit(cell, stacked, 0, Dense().wire((4,), (5,), "mean"), state, *incoming, micro_ticks=2)
    return new, forward, backward


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_block_is_a_plain_call(cell: Cell, no_cpu: None):
    trees, update = case(cell), partial(ticks, cell)
    blocked = str(jax.make_jaxpr(partial(blocks.in_blocks, update))(*trees))
    assert blocked == str(jax.make_jaxpr(update)(*trees))
    for text in (blocked, str(jax.make_jaxpr(partial(layer, cell))(*trees))):
        assert "tanh" in text
        assert not re.search(r"custom_vjp|custom_vmap|while|scan", text)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_forward_mode_works_and_slopes_are_those_of_blocks(cell: Cell, monkeypatch: pytest.MonkeyPatch):
    trees = case(cell)
    along = jax.tree.map(lambda leaf: jnp.cos(7 * leaf), trees)
    new, slopes = value_and_slopes(partial(layer, cell), trees)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(lambda: jax.jvp(partial(layer, cell), trees, along)).lower()

    monkeypatch.setattr(kind, "is_cpu", lambda device=None: False)
    plain_new, plain_slopes = value_and_slopes(partial(layer, cell), trees)
    # Here tanh is XLA's, which differs by up to 7e-7, 6 eps; each of two ticks has two in a row, forward and back.
    assert_equal_up_to_order((plain_new, plain_slopes), (new, slopes), ROUNDINGS + 6 * 8)

    def loss(*trees: Any) -> Any:
        return weighted(partial(layer, cell), *trees)[0]

    tangent = jax.jit(lambda: jax.jvp(loss, trees, along)[1])()
    linear = jax.jit(lambda: jax.linearize(loss, *trees)[1](*along))()
    terms = jax.tree.leaves(jax.tree.map(lambda slope, d: np.asarray(slope * d, np.float64).ravel(), slopes, along))
    expected, size = np.concatenate(terms).sum(), np.abs(np.concatenate(terms)).sum()
    for found in (tangent, linear):
        assert abs(found - expected) <= (ROUNDINGS + 6 * 8) * np.finfo(np.float32).eps * size
