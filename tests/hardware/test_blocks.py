"""Blocks of sub-RNNs: the same numbers, forward and backward, alone and vectorised, as all sub-RNNs at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.cells import GRU, LSTM
from vsml.cells.base import Cell
from vsml.hardware import blocks

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


def ticks(cell: Cell, params: Any, state: Any, heard: Any) -> Any:
    return cell.update(params, cell.update(params, state, *heard), *heard)


def assert_close(first: Any, second: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), first, second)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("lifetimes", [None, 3])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_equal_all_at_once_forward_and_backward(cell: Cell, lifetimes: int | None):
    trees = case(cell, lifetimes)
    update = partial(ticks, cell)

    def value_and_slopes(function: Any) -> Any:
        def weighted(params: Any, state: Any, heard: Any) -> Any:
            new = function(params, state, heard)
            return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(new)), new

        run = jax.value_and_grad(weighted, argnums=(0, 1, 2), has_aux=True)
        return jax.jit(run if lifetimes is None else jax.vmap(run))(*trees)

    assert_close(value_and_slopes(partial(blocks.in_blocks, update)), value_and_slopes(update))
