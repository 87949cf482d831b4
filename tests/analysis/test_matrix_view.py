"""The Meta RNN that a network of vanilla cells is, for every wiring and sharing, and its pictures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import ES, NO_EVALUATORS, TINY, call

from vsml.analysis import matrix_drawing
from vsml.analysis.connections import OUTSIDE, connections
from vsml.analysis.matrix_drawing import draw, draw_connections, save_drawing
from vsml.analysis.matrix_view import MatrixView, Network, matrix_view, network_of, step_difference
from vsml.analysis.network_picture import network_picture
from vsml.cells import LSTM, Vanilla
from vsml.errors import UserError
from vsml.learners import VSML, MetaRNN
from vsml.learners.visit import visit
from vsml.sharing import Grouped, Layerwise, Shared, Sharing, Typed, Unshared
from vsml.sparsity import Block, Conv, Dense, Local, Random, Sparsity
from vsml.tasks.base import TaskSpec

SIZE, MESSAGE = 2, 3
WIRINGS: list[Sparsity] = [Dense(), Local(), Random(), Block()]
SHARINGS: list[Sharing] = [
    Shared(),
    Layerwise(),
    Grouped(groups=3),
    Grouped(groups=2, by="input"),
    Typed(),
    Unshared(),
]
REDUCTIONS = ("sum", "mean", "sqrt")
TWO_LAYERS = (5, 4, 3)


def name_of(part: object) -> str:
    return type(part).__name__


def network(
    neurons: tuple[int, ...] = TWO_LAYERS,
    sharing: Sharing = SHARINGS[0],
    sparsity: Sparsity = WIRINGS[0],
    reduction: Any = "sum",
    ring: bool = False,
    sizes: tuple[int, int] = (SIZE, MESSAGE),
) -> Network:
    """A network of vanilla cells with parameters that are all different, biases too."""
    cell = Vanilla(sizes[0])
    before, *hidden, behind = neurons
    learner = VSML(cell, sharing, sparsity, hidden=tuple(hidden), message_size=sizes[1], reduction=reduction)
    spec = TaskSpec((before,), behind, 1)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: learner.init(key, spec), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 3, jnp.float32), shapes)
    return network_of(learner, params, spec)._replace(ring=ring)


def states_and_messages(network: Network) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    rng = np.random.default_rng(1)
    size, channels = network.cell.size, network.params["forward"]["w"].shape[1]  # pyright: ignore
    shapes = [(size, w.units) for w in network.wirings]
    ends = (channels, network.wirings[0].inputs), (channels, network.wirings[-1].outputs)
    *s, forward, backward = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (*shapes, *ends))
    return s, forward, backward


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sparsity", WIRINGS, ids=name_of)
def test_one_step_of_it_is_one_round_of_messages(sparsity: Sparsity, reduction: str):
    for layers in (
        network((5, 3), SHARINGS[0], sparsity, reduction),
        network(TWO_LAYERS, SHARINGS[0], sparsity, reduction),
    ):
        assert step_difference(layers, *states_and_messages(layers)) < 1e-6


@pytest.mark.parametrize("sharing", SHARINGS, ids=name_of)
def test_it_is_for_every_sharing(sharing: Sharing):
    layers = network(TWO_LAYERS, sharing, reduction="mean")
    assert step_difference(layers, *states_and_messages(layers)) < 1e-6


def test_it_is_for_a_layer_of_real_size():
    layer = network((64, 10), reduction="sqrt", sizes=(16, 8))
    view = matrix_view(layer)
    assert view.weights.shape == (10_240, 10_240)
    assert view.inputs.shape == (74 * 8, 10_240)
    assert step_difference(layer, *states_and_messages(layer)) < 1e-5


@pytest.mark.parametrize("sparsity", WIRINGS, ids=name_of)
def test_it_is_for_a_ring(sparsity: Sparsity):
    for neurons in ((4, 4), (4, 3, 4)):
        layers = network(neurons, SHARINGS[0], sparsity, "mean", ring=True)
        assert step_difference(layers, *states_and_messages(layers)) < 1e-6


def test_a_pass_takes_the_columns_of_one_layer_after_the_other():
    """Layer 2 of a forward pass hears what layer 1 has made of the input in that very pass."""
    layers = network()
    view, (states, forward, backward) = matrix_view(layers), states_and_messages(layers)
    first, second = (wiring.units * SIZE for wiring in layers.wirings)
    s, u = (np.concatenate([np.asarray(a).T.ravel() for a in arrays]) for arrays in (states, (forward, backward)))
    after_first = np.concatenate([view.step(s, u)[0][:first], s[first:]])
    stepped = view.step(after_first, u)[0][first : first + second]
    one, two = layers.wirings
    # What layer 2 sent backward before this pass, without an update of it.
    silent = jnp.zeros((MESSAGE, two.units))
    *_, before = visit(layers.cell, layers.params, 0, two, {"s": states[1]}, silent, silent, 0)
    heard = one.spread_forward(forward), one.spread_backward(before)
    _, message, _ = visit(layers.cell, layers.params, 0, one, {"s": states[0]}, *heard, 1)
    heard = two.spread_forward(message), two.spread_backward(backward)
    passed, *_ = visit(layers.cell, layers.params, 0, two, {"s": states[1]}, *heard, 1)
    np.testing.assert_allclose(stepped, np.asarray(passed["s"]).T.ravel(), atol=1e-6)


def names_are_numbers(view: MatrixView) -> None:
    """Elements of one name are one number, those of two names two; without a name there is zero."""
    weights, names = view.matrix.toarray(), view.names.toarray()
    np.testing.assert_array_equal(weights == 0, names == 0)
    numbers = [np.unique(weights[names == name].round(12)) for name in range(1, names.max() + 1)]
    assert all(len(values) == 1 for values in numbers)
    assert len(np.unique(np.concatenate(numbers))) == len(numbers)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sparsity", WIRINGS, ids=name_of)
def test_elements_of_one_name_are_one_number_in_a_ring(sparsity: Sparsity, reduction: str):
    view = matrix_view(network((4, 4), SHARINGS[0], sparsity, reduction, ring=True))
    assert set(np.unique(view.names.toarray())) - {0} == set(range(1, len(view.connections.kinds) * SIZE**2 + 1))
    names_are_numbers(view)


@pytest.mark.parametrize("sharing", SHARINGS, ids=name_of)
def test_elements_of_one_name_are_one_number(sharing: Sharing):
    found = matrix_view(network(TWO_LAYERS, sharing, reduction="mean"))
    # What leaves by a sum is the head itself, as what arrives is the weight itself: no name is shared by chance.
    names_are_numbers(found)


def test_a_ring_of_one_layer_element_by_element():
    """The paper's equation: own state through W, all that sent to a forward through C, and to b backward through U."""
    neurons = 4
    layer = network((neurons, neurons), ring=True)
    view = matrix_view(layer)
    p = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), layer.params)
    own, hears_forward, hears_backward = (
        p["recurrent"]["w"][:, part] for part in (slice(0, 2), slice(2, 5), slice(5, 8))
    )
    blocks = own, hears_forward @ p["forward"]["w"], hears_backward @ p["backward"]["w"]
    bias = p["recurrent"]["b"] + neurons * (hears_forward @ p["forward"]["b"] + hears_backward @ p["backward"]["b"])
    expected = np.zeros((neurons**2 * SIZE,) * 2)
    for c, d, a, b in itertools.product(range(neurons), repeat=4):  # from sub-RNN (c, d) to (a, b)
        block = np.zeros((SIZE, SIZE))
        for connected, weights in zip(((c, d) == (a, b), d == a, c == b), blocks, strict=True):
            block += connected * weights.T
        row, column = SIZE * (c * neurons + d), SIZE * (a * neurons + b)
        expected[row : row + SIZE, column : column + SIZE] = block
    np.testing.assert_allclose(view.weights.toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(view.bias, np.tile(bias, neurons**2), atol=1e-12)
    # (a, a) hears itself both ways, (a, b) hears (b, a) both ways.
    shares = [kind[:3] for kind in view.connections.kinds]
    assert shares == [(1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 1)]


def test_a_single_layer_does_not_hear_itself():
    """Its state matrix is W along the diagonal; what is heard and sent goes through V and M."""
    layer = network((5, 3))
    view = matrix_view(layer)
    p = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), layer.params)
    hears_forward, hears_backward = p["recurrent"]["w"][:, 2:5], p["recurrent"]["w"][:, 5:8]
    np.testing.assert_allclose(view.weights.toarray(), np.kron(np.eye(15), p["recurrent"]["w"][:, :2].T), atol=1e-12)
    from_inputs = np.kron(np.kron(np.eye(5), np.ones((1, 3))), hears_forward.T)
    from_feedback = np.kron(np.kron(np.ones((1, 5)), np.eye(3)), hears_backward.T)
    np.testing.assert_allclose(view.inputs.toarray(), np.vstack([from_inputs, from_feedback]), atol=1e-12)
    to_outputs = np.kron(np.kron(np.ones((5, 1)), np.eye(3)), p["forward"]["w"].T)
    to_inputs = np.kron(np.kron(np.eye(5), np.ones((3, 1))), p["backward"]["w"].T)
    np.testing.assert_allclose(view.outputs.toarray(), np.hstack([to_outputs, to_inputs]), atol=1e-12)
    leaving = [np.tile(5 * p["forward"]["b"], 3), np.tile(3 * p["backward"]["b"], 5)]
    np.testing.assert_allclose(view.leaving, np.concatenate(leaving), atol=1e-12)
    np.testing.assert_allclose(view.bias, np.tile(p["recurrent"]["b"], 15), atol=1e-12)


def test_one_neuron_before_and_behind_is_a_meta_rnn_without_zeros():
    view = matrix_view(network((1, 1), ring=True))
    assert view.names.toarray().tolist() == [[1, 2], [3, 4]]
    assert [kind[:3] for kind in view.connections.kinds] == [(1, 1, 1)]


@pytest.mark.parametrize(
    ("sharing", "own", "forward", "backward"),
    [
        (Shared(), {(0, 0)}, {(0, 0)}, {(0, 0)}),
        (Layerwise(), {(0, 0), (1, 1)}, {(0, 1)}, {(1, 0)}),
        (Grouped(groups=2, by="input"), {(0, 0), (1, 1)}, {(0, 0), (0, 1), (1, 0), (1, 1)}, None),
        (
            Unshared(),
            {(u, u) for u in range(32)},
            {(4 * a + b, 20 + 3 * b + c) for a in range(5) for b in range(4) for c in range(3)},
            None,
        ),
    ],
    ids=["Shared", "Layerwise", "Grouped", "Unshared"],
)
def test_kinds_name_the_parameter_sets_of_both_ends(sharing, own, forward, backward):
    layers = network(TWO_LAYERS, sharing)
    kinds = [kind for kind in connections(layers.wirings, layers.sets).kinds if OUTSIDE not in kind[3:]]
    found = {part: {kind[3:] for kind in kinds if kind.type == part} for part in ("own", "forward", "backward")}
    assert found["own"] == own
    assert found["forward"] == forward
    assert found["backward"] == (backward or {(b, a) for a, b in forward})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (LSTM(), r"cells\.LSTM has no matrix view"),
        (Vanilla(layer_norm=True), "messages with LayerNorm have no matrix view"),
    ],
)
def test_cells_without_a_matrix_view_are_refused(cell, message):
    with pytest.raises(UserError, match=message):
        matrix_view(network()._replace(cell=cell))


def test_ends_that_make_no_ring_are_refused():
    with pytest.raises(UserError, match="5 inputs and 3 outputs cannot form a ring"):
        matrix_view(network(ring=True))


def test_a_convolution_has_no_matrix_view():
    wiring = Conv().wire((4, 4, 1), (4, 4, 1), "sum")
    with pytest.raises(UserError, match="a convolution averages states over places"):
        connections([wiring], [0])


def test_too_many_pairs_are_refused_before_they_are_listed():
    wirings = [Dense().wire((1000,), (1000,), "sum"), Dense().wire((1000,), (10,), "sum")]
    with pytest.raises(UserError, match="20,000,000 pairs of sub-RNNs send to each other, too many to draw"):
        connections(wirings, [0, 0])


@pytest.mark.parametrize("ring", [False, True])
def test_equal_colours_are_equal_names(ring: bool):
    view = matrix_view(network((4, 4) if ring else TWO_LAYERS, ring=ring))
    image = np.asarray(draw(view, "").axes[0].images[0].get_array()).reshape(-1, 3)
    _, colour = np.unique(image, axis=0, return_inverse=True)
    names, name = np.unique(view.names.toarray().ravel(), return_inverse=True)
    pairs = set(zip(colour.ravel().tolist(), name.ravel().tolist(), strict=True))
    assert len(pairs) == len(names) == len(set(colour.ravel().tolist()))
    np.testing.assert_array_equal(image[view.names.toarray().ravel() == 0], 1.0)


def test_what_is_too_large_is_drawn_by_pairs_of_nodes():
    view = matrix_view(network((64, 10), sizes=(16, 8)))
    figure = draw(view, "64 -> 10")
    (image,) = figure.axes[0].images
    pixels = np.asarray(image.get_array())
    assert pixels.shape == (714, 714, 3)
    coloured = np.any(pixels != 1, axis=2)
    assert coloured.sum() == 640 * 5  # its own state, what it hears from both sides, what it sends to both sides
    np.testing.assert_array_equal(np.diag(coloured[74:, :640]), True)
    assert "a pixel is a pair of nodes" in figure.axes[0].get_title()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["inputs (64)", "feedback (10)", "layer 1 (640)"]


def test_of_too_many_nodes_a_pixel_is_several_pairs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matrix_drawing, "PIXELS", 20)
    layers = network()
    found = connections(layers.wirings, layers.sets)
    figure = draw_connections(found, "")
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert pixels.shape == (20, 20, 3)
    # 40 nodes along either side: a pixel is coloured where one of its four pairs is connected.
    connected = np.zeros(found.shape, bool)
    connected[found.senders, found.receivers] = True
    np.testing.assert_array_equal(np.any(pixels != 1, axis=2), connected.reshape(20, 2, 20, 2).any(axis=(1, 3)))
    assert "a pixel is up to 2 x 2 pairs" in figure.axes[0].get_title()


def test_the_legend_lists_kinds_or_types():
    def legend(sharing: Sharing) -> set[str]:
        layers = network(TWO_LAYERS, sharing, reduction="mean")
        (found,) = draw_connections(connections(layers.wirings, layers.sets), "").legends
        return {text.get_text() for text in found.get_texts()}

    assert {"own", "0.2 forward", "0.333 backward", "forward in", "0.25 forward out"} <= legend(Shared())
    assert {"own, set 1", "own, set 2", "0.2 forward, set 1 to 2", "backward in, set 2"} <= legend(Layerwise())
    assert {"own (32 shades)", "forward (60 shades)", "backward (60 shades)"} <= legend(Unshared())


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_drawing_is_saved(tmp_path: Path, suffix: str):
    path = tmp_path / "new" / f"matrix{suffix}"
    save_drawing(draw(matrix_view(network((2, 2))), ""), path)
    assert {".png": b"PNG", ".svg": b"<svg"}[suffix] in path.read_bytes()


def test_other_pictures_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"use a name that ends in \.png, \.svg or \.pdf"):
        save_drawing(draw(matrix_view(network((2, 2))), ""), tmp_path / "matrix.txt")


def test_a_learner_without_sub_rnns_has_no_picture():
    with pytest.raises(UserError, match=r"learners\.MetaRNN has no sub-RNNs to draw"):
        network_picture(MetaRNN(), None, TaskSpec((4,), 2, 1))


def test_the_verb_draws_a_recipe_and_a_trained_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    out = tmp_path / "recipe.png"
    outcome = call(capfd, "matrix", "quickstart", "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "cells.LSTM, 64 -> 10 neurons: 640 sub-RNNs, sharing.Shared; without weights: cells.LSTM has" in outcome.out
    assert out.read_bytes().startswith(b"\x89PNG")

    small = ("cells/vanilla.gin", "cells.Vanilla.size=1", "learners.VSML.message_size=2", "STEPS=1", "POPULATION=4")
    tiny = [word for word in TINY if "LSTM" not in word and not word.startswith("POPULATION")]
    assert call(capfd, "train", *tiny, *small, *ES, *NO_EVALUATORS, "--run_dir", tmp_path / "run").code == 0
    outcome = call(capfd, "matrix", tmp_path / "run", "--out", tmp_path / "run.svg")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{tmp_path / 'run.svg'}: cells.Vanilla, 64 -> 10 neurons: 640 sub-RNNs, sharing.Shared\n"
    assert call(capfd, "report", tmp_path / "run").code == 0
    assert "![The network as the weight matrix" in (tmp_path / "run" / "report" / "report.md").read_text()
    assert (tmp_path / "run" / "report" / "network.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "matrix needs a run or a recipe"),
        (["."], "no config.json in it, so this is not a run directory"),
        (["quickstrat"], "there is no recipe quickstrat; did you mean quickstart?"),
        (["quickstart", "learners/meta_rnn.gin"], "learners.MetaRNN has no sub-RNNs to draw"),
        (["quickstart", "--out", "matrix.txt"], "use a name that ends in .png, .svg or .pdf"),
    ],
)
def test_what_cannot_be_drawn_ends_in_one_line(tmp_path, monkeypatch, capfd, words: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    outcome = call(capfd, "matrix", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
