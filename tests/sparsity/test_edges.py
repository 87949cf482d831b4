"""Wirings that are lists of edges: who is connected, what they hear, and derivatives of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.sparsity import Block, Conv, Dense, Local, Random, Wiring
from vsml.sparsity.edges import wire_edges

# 3 inputs, 4 outputs: three outputs receive from input 1, output 0 receives from two, output 2 from none.
BEFORE, BEHIND = np.array([1, 0, 1, 2, 1]), np.array([0, 0, 1, 3, 3])
SENT = jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0]])


def pairs(wiring: Wiring) -> list[tuple[int, int]]:
    return sorted(zip(wiring.input_of.tolist(), wiring.output_of.tolist(), strict=True))


@pytest.mark.parametrize(
    ("reduction", "forward", "backward"),
    [
        ("sum", [3, 3, 0, 9], [2, 9, 4]),
        ("mean", [3 / 2, 3, 0, 9 / 2], [2, 3, 4]),
        ("sqrt", [3 / 2**0.5, 3, 0, 9 / 2**0.5], [2, 9 / 3**0.5, 4]),
    ],
)
def test_every_neuron_hears_its_own_edges(reduction, forward, backward):
    wiring = wire_edges(BEFORE, BEHIND, 3, 4, reduction)
    assert (wiring.units, wiring.inputs, wiring.outputs, wiring.fan_in, wiring.places) == (5, 3, 4, 1, 1)
    np.testing.assert_allclose(wiring.reduce_forward(SENT), [forward], rtol=1e-6)
    np.testing.assert_allclose(wiring.reduce_backward(SENT), [backward], rtol=1e-6)
    for reduce in (wiring.reduce_forward, wiring.reduce_backward):
        heard = np.asarray(reduce(jnp.ones((1, 5))))
        np.testing.assert_allclose(heard, np.broadcast_to(reduce.total, heard.shape), rtol=1e-6)


def test_every_edge_hears_its_two_neurons():
    wiring = wire_edges(BEFORE, BEHIND, 3, 4, "sum")
    np.testing.assert_array_equal(wiring.spread_forward(jnp.array([[10.0, 20.0, 30.0]])), [[20, 10, 20, 30, 20]])
    np.testing.assert_array_equal(wiring.spread_backward(jnp.array([[1.0, 2.0, 3.0, 4.0]])), [[1, 1, 2, 4, 4]])


def test_a_grid_has_every_edge_once_and_input_by_input():
    inputs, outputs = np.indices((2, 3)).reshape(2, -1)
    assert wire_edges(inputs, outputs, 2, 3, "mean").is_grid
    assert Dense().wire((4,), (2,), "mean").is_grid
    backwards = slice(None, None, -1)
    assert not wire_edges(inputs[backwards], outputs[backwards], 2, 3, "mean").is_grid
    assert not wire_edges(inputs[[0, 1, 2, 3, 4, 4]], outputs[[0, 1, 2, 3, 4, 4]], 2, 3, "mean").is_grid
    assert not wire_edges(BEFORE, BEHIND, 3, 4, "mean").is_grid
    assert not Conv(kernel=1).wire((2, 2, 1), (2, 2, 1), "mean").is_grid


def test_derivatives_are_those_of_the_linear_maps():
    wiring = wire_edges(BEFORE, BEHIND, 3, 4, "mean")
    maps = [
        (wiring.spread_forward, 3, lambda g: [[g[0, 1], g[0, 0] + g[0, 2] + g[0, 4], g[0, 3]]]),
        (wiring.reduce_forward, 5, lambda g: [[g[0, 0] / 2, g[0, 0] / 2, g[0, 1], g[0, 3] / 2, g[0, 3] / 2]]),
    ]
    for apply, size, transposed in maps:
        out, pull = jax.vjp(apply, jnp.zeros((1, size)))
        cotangent = jnp.arange(1.0, out.size + 1)[None]
        np.testing.assert_allclose(pull(cotangent)[0], transposed(cotangent), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (3, 3, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]),
        # Inputs at 1/8, 3/8, 5/8, 7/8, outputs at 1/4 and 3/4, at most 1/2 away from each other.
        (4, 2, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 1)]),
        (2, 4, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]),
    ],
)
def test_a_band(inputs, outputs, expected):
    assert pairs(Local(1).wire((inputs,), (outputs,), "sum")) == expected


@pytest.mark.parametrize("inputs", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("outputs", [1, 3, 8, 10])
@pytest.mark.parametrize("width", [1, 2])
def test_a_band_reaches_every_neuron_and_is_what_it_says(inputs, outputs, width):
    a, b = np.indices((inputs, outputs))
    away = np.abs((a + 0.5) / inputs - (b + 0.5) / outputs)
    expected = np.argwhere(away <= width / min(inputs, outputs) + 1e-9)
    wiring = Local(width).wire((inputs,), (outputs,), "sum")
    assert pairs(wiring) == [tuple(edge) for edge in expected.tolist()]
    assert set(wiring.input_of) == set(range(inputs))
    assert set(wiring.output_of) == set(range(outputs))


def test_random_edges():
    wiring = Random(density=0.3, seed=5).wire((2, 5), (7,), "mean")
    assert (wiring.units, wiring.fan_in) == (21, 3)
    assert len(set(pairs(wiring))) == 21  # no input twice
    np.testing.assert_array_equal(np.bincount(wiring.output_of), np.full(7, 3))
    assert pairs(wiring) == pairs(Random(density=0.3, seed=5).wire((10,), (7,), "sum"))
    assert pairs(wiring) != pairs(Random(density=0.3, seed=6).wire((10,), (7,), "sum"))


def test_random_edges_are_everywhere_and_at_least_one():
    drawn = Random(density=0.25).wire((20,), (400,), "sum")
    # 100 of 400 outputs hear an input on average, with a standard deviation of (400 x 1/4 x 3/4)^1/2 = 8.7.
    assert np.all(np.abs(np.bincount(drawn.input_of, minlength=20) - 100) < 5 * 8.7)
    assert Random(density=0.01).wire((10,), (3,), "sum").units == 3
    assert pairs(Random(density=1.0).wire((4,), (3,), "sum")) == pairs(Dense().wire((4,), (3,), "sum"))


def test_blocks():
    # Inputs 0 1 2 | 3 4, outputs 0 1 | 2: floor(2 a / 5) and floor(2 b / 3).
    first = [(a, b) for a in (0, 1, 2) for b in (0, 1)]
    assert pairs(Block(2).wire((5,), (3,), "sum")) == [*first, (3, 2), (4, 2)]
    assert pairs(Block(3).wire((3,), (3,), "sum")) == [(0, 0), (1, 1), (2, 2)]
    assert pairs(Block(1).wire((4,), (3,), "sum")) == pairs(Dense().wire((4,), (3,), "sum"))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Local(width=0), "sparsity.Local.width is 0"),
        (lambda: Random(density=0.0), "sparsity.Random.density is 0.0"),
        (lambda: Random(density=1.5), "sparsity.Random.density is 1.5"),
        (lambda: Random(seed=-1), "sparsity.Random.seed is -1"),
        (lambda: Block(blocks=0), "sparsity.Block.blocks is 0"),
        (lambda: Block(blocks=4).wire((5,), (3,), "sum"), "blocks is 4, but a layer of 5 x 3 neurons has room for 3"),
    ],
)
def test_mistakes_are_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()
