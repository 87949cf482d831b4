"""The Meta RNN that a layer of vanilla cells is, for every wiring."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.analysis.matrix_view import draw, matrix_view, save_drawing, step_difference
from vsml.cells import LSTM, Vanilla
from vsml.errors import UserError
from vsml.sparsity import Block, Conv, Dense, Local, Random, Sparsity

SIZE, MESSAGE, NEURONS = 2, 3, 4
WIRINGS: list[Sparsity] = [Dense(), Local(), Random(), Block()]
REDUCTIONS = ("sum", "mean", "sqrt")


def _params(cell, heard: int = MESSAGE):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: cell.init(key, heard=heard, sent=MESSAGE), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 3, jnp.float32), shapes)


def _layer(sparsity: Sparsity = WIRINGS[0], reduction: Any = "sum", neurons: int = NEURONS):
    cell = Vanilla(SIZE)
    return cell, _params(cell), sparsity.wire((neurons,), (neurons,), reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sparsity", WIRINGS, ids=lambda sparsity: type(sparsity).__name__)
def test_one_step_of_it_is_one_step_of_message_passing(sparsity, reduction):
    cell, params, wiring = _layer(sparsity, reduction)
    s = jnp.asarray(np.random.default_rng(1).standard_normal((SIZE, wiring.units)), jnp.float32)
    assert step_difference(cell, params, wiring, s) < 1e-6


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sparsity", WIRINGS, ids=lambda sparsity: type(sparsity).__name__)
def test_elements_of_one_name_are_one_number(sparsity, reduction):
    view = matrix_view(*_layer(sparsity, reduction))
    weights, names = view.weights.toarray(), view.names.toarray()
    np.testing.assert_array_equal(weights == 0, names == 0)
    assert set(np.unique(names)) - {0} == set(range(1, len(view.kinds) * SIZE**2 + 1))
    numbers = [np.unique(weights[names == name].round(12)) for name in range(1, names.max() + 1)]
    assert all(len(values) == 1 for values in numbers)
    assert len(np.unique(np.concatenate(numbers))) == len(numbers)


def test_dense_matrix_element_by_element():
    """The paper's equation: own state through W, all that sent to a forward through C, and to b backward through U."""
    cell, params, wiring = _layer()
    view = matrix_view(cell, params, wiring)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    own, hears_forward, hears_backward = (
        p["recurrent"]["w"][:, part] for part in (slice(0, 2), slice(2, 5), slice(5, 8))
    )
    blocks = own, hears_forward @ p["forward"]["w"], hears_backward @ p["backward"]["w"]
    bias = p["recurrent"]["b"] + NEURONS * (hears_forward @ p["forward"]["b"] + hears_backward @ p["backward"]["b"])
    expected = np.zeros((NEURONS**2 * SIZE,) * 2)
    for c, d, a, b in itertools.product(range(NEURONS), repeat=4):  # from sub-RNN (c, d) to (a, b)
        block = np.zeros((SIZE, SIZE))
        for connected, weights in zip(((c, d) == (a, b), d == a, c == b), blocks, strict=True):
            block += connected * weights.T
        row, column = SIZE * (c * NEURONS + d), SIZE * (a * NEURONS + b)
        expected[row : row + SIZE, column : column + SIZE] = block
    np.testing.assert_allclose(view.weights.toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(view.bias, np.tile(bias, NEURONS**2), atol=1e-12)
    # (a, a) hears itself both ways, (a, b) hears (b, a) both ways.
    np.testing.assert_array_equal(view.kinds, [[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 1]])


def test_one_neuron_before_and_behind_is_a_meta_rnn_without_zeros():
    view = matrix_view(*_layer(neurons=1))
    assert view.names.toarray().tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(view.kinds, [[1, 1, 1]])


def test_channels_that_ride_along_with_messages_are_silent():
    cell, _, wiring = _layer()
    s = jnp.asarray(np.random.default_rng(1).standard_normal((SIZE, wiring.units)), jnp.float32)
    assert step_difference(cell, _params(cell, heard=MESSAGE + 2), wiring, s) < 1e-6


@pytest.mark.parametrize(
    ("cell", "behind", "message"),
    [
        (LSTM(), 3, r"cells\.LSTM has no matrix view"),
        (Vanilla(layer_norm=True), 3, "messages with LayerNorm have no matrix view"),
        (Vanilla(), 2, "3 inputs and 2 outputs cannot hear itself"),
    ],
)
def test_layers_without_a_matrix_view_are_refused(cell, behind, message):
    with pytest.raises(UserError, match=message):
        matrix_view(cell, None, Dense().wire((3,), (behind,), "sum"))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_drawing_is_saved(tmp_path: Path, suffix):
    path = tmp_path / f"matrix{suffix}"
    save_drawing(matrix_view(*_layer()), path)
    assert {".png": b"PNG", ".svg": b"<svg"}[suffix] in path.read_bytes()


def test_other_pictures_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"let it end in \.png, \.svg or \.pdf"):
        save_drawing(matrix_view(*_layer()), tmp_path / "matrix.txt")


def test_equal_colours_are_equal_names():
    view = matrix_view(*_layer())
    image = np.asarray(draw(view).axes[0].images[0].get_array()).reshape(-1, 3)
    colours, colour = np.unique(image, axis=0, return_inverse=True)
    names, name = np.unique(view.names.toarray().ravel(), return_inverse=True)
    assert len(colours) == len(names) == 1 + 5 * SIZE**2
    assert len(set(zip(colour.ravel().tolist(), name.tolist(), strict=True))) == len(names)
    np.testing.assert_array_equal(image[view.names.toarray().ravel() == 0], 1.0)


def test_a_convolution_has_no_matrix_view():
    with pytest.raises(UserError, match="a convolution averages states over places"):
        matrix_view(Vanilla(), None, Conv().wire((4, 4, 1), (4, 4, 1), "sum"))


def test_what_cannot_be_seen_is_not_drawn():
    cell = Vanilla(size=64)
    view = matrix_view(cell, _params(cell), Dense().wire((7,), (7,), "sum"))
    with pytest.raises(UserError, match="3136 rows is too large to draw"):
        draw(view)
