"""VSML: its sizes, its plain twin under every option, its symmetries, and the Meta RNN it contains."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import pairwise
from stepping import step
from twin import cells_of, plain_lifetime

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.learners.meta_rnn import MetaRNN, Recurrence
from vsml.learners.vsml import VSML
from vsml.sharing import Layerwise, Shared
from vsml.sparsity import Dense
from vsml.tasks.base import TaskSpec

NUM_INPUTS, NUM_CLASSES, LENGTH = 4, 3, 4
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.

# ---------------------------------------------------------------------------------------------------------- sizes


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("layer_norm", "expected"), [(False, 2_384), (True, 2_416)])
def test_sizes_of_the_paper(layer_norm, expected):
    # Gates 4 * 16 * (16 + 8 + 8) + 4 * 16 = 2,112; heads 2 * (8 * 16 + 8) = 272; LayerNorm 2 * (8 + 8) = 32.
    learner, spec = VSML(LSTM(layer_norm=layer_norm)), TaskSpec((28, 28), 10, length=1)
    key = jax.random.key(0)
    params = jax.eval_shape(lambda k: learner.init(k, spec), key)
    state = jax.eval_shape(lambda k: learner.initial_state(None, k, spec), key)
    assert _count(params) == expected
    assert _count(learner.learned_variables(state)) == 784 * 10 * 2 * 16 == 250_880
    assert learner.describe(spec) == {"sub-RNNs": 7_840}


def test_sizes_with_message_buffers():
    learner, spec = VSML(LSTM(), recirculate=True), TaskSpec((28, 28), 10, length=1)
    state = jax.eval_shape(lambda k: learner.initial_state(None, k, spec), jax.random.key(0))
    assert _count(state) == 250_880 + 8 * (784 + 10) == 257_232


@pytest.mark.parametrize(
    ("sharing", "sets"),
    [
        (Shared(), 1),
        (Shared(separate_backward=True), 2),
        (Layerwise(), 3),
        (Layerwise(separate_backward=True), 6),
    ],
)
def test_number_of_parameter_sets(sharing, sets):
    learner = VSML(LSTM(), sharing=sharing, hidden=(5, 7), feedback="backward_pass")
    params = jax.eval_shape(lambda k: learner.init(k, TaskSpec((4,), 3, length=1)), jax.random.key(0))
    assert _count(params) == sets * 2_384


def test_sets_are_drawn_independently():
    learner = VSML(LSTM(), sharing=Layerwise(), hidden=(2,))
    params = jax.jit(lambda: learner.init(jax.random.key(0), TaskSpec((4,), 3, length=1)))()
    gates = np.asarray(params["cell"]["gates"]["w"])
    assert not np.any(gates[0] == gates[1])


def test_initial_state_is_shared_by_the_batch_but_not_by_lifetimes():
    learner, spec = VSML(LSTM(), hidden=(2,)), TaskSpec((4,), 3, length=1, batch=3)
    draw = jax.jit(lambda seed: learner.initial_state(None, jax.random.key(seed), spec))
    one, other = (jax.tree.map(np.asarray, draw(seed)) for seed in (0, 1))
    for cell, cell_of_other, (units, fan_in) in zip(one["cells"], other["cells"], [(8, 4), (6, 2)], strict=True):
        assert cell["c"].shape == cell["h"].shape == (3, 16, units)
        np.testing.assert_array_equal(cell["c"], np.broadcast_to(cell["c"][:1], cell["c"].shape))
        assert not np.any(cell["c"][:, :8] == cell_of_other["c"][:, :8])
        assert np.all(cell["c"][:, :8] != 0)
        assert not np.any(cell["c"][:, 8:])
        assert not np.any(cell["h"])
        assert np.max(np.abs(cell["c"])) <= 2 / fan_in**0.5  # cut at two standard deviations
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((one["input"], one["backward"])))


# ------------------------------------------------------------------------------------------------- the plain twin

OPTIONS: dict[str, tuple[Any, ...]] = {
    "hidden": ((3,), (), (3, 2)),
    "timing": ("delayed", "backward_pass", "backward_pass, own set"),
    "sharing": (Shared, Layerwise),
    "reduction": ("mean", "sum", "sqrt"),
    "layer_norm": (False, True),
    "micro_ticks": (1, 2, 3),
    "channels": ("error", "label", "error and label"),
    "recirculate": (False, True),
    "gate_offset": (1.0, 5.0, 0.0),
    "output_channel": (1, 0, 2),
    "output_bound": (None, 2.0, 0.5),
    "merge_share": (0.5, 0.0, 1.0),
    "batch": (1, 2, 3),
}


def _learner(choice: dict[str, Any]) -> VSML:
    return VSML(
        cell=LSTM(size=4, gate_offset=choice["gate_offset"], layer_norm=choice["layer_norm"]),
        sharing=choice["sharing"](separate_backward=choice["timing"].endswith("own set")),
        hidden=choice["hidden"],
        message_size=3,
        micro_ticks=choice["micro_ticks"],
        reduction=choice["reduction"],
        feedback="delayed" if choice["timing"] == "delayed" else "backward_pass",
        feed_error="error" in choice["channels"],
        feed_label="label" in choice["channels"],
        recirculate=choice["recirculate"],
        output_channel=choice["output_channel"],
        output_bound=choice["output_bound"],
        merge_share=choice["merge_share"],
    )


def _draw(rng: np.random.Generator, shape: Any, stddev: float) -> Any:
    return jnp.asarray(stddev * rng.standard_normal(shape.shape), shape.dtype)


def _parameters(learner: VSML, spec: TaskSpec) -> Any:
    """Large enough for every term to matter, biases included; drawn by NumPy, which has nothing to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: learner.init(key, spec), jax.random.key(0))
    cell = {
        name: {leaf: _draw(rng, shape, 0.6 if leaf == "w" else 0.4) for leaf, shape in group.items()}
        for name, group in shapes["cell"].items()
    }
    for group in cell.values():
        if "scale" in group:
            group["scale"] += 1.0
    return {"cell": cell}


def _state(learner: VSML, spec: TaskSpec) -> Any:
    """Random h and c, different in all examples of a batch; no message in flight."""
    rng = np.random.default_rng(1)
    state = jax.eval_shape(lambda key: learner.initial_state(None, key, spec), jax.random.key(0))
    cells = jax.tree.map(lambda shape: _draw(rng, shape, 0.7), state["cells"])
    return {**jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), state), "cells": cells}


def _lifetime(learner: VSML, batch: int, length: int = LENGTH) -> tuple[Any, Any, Any, Any]:
    """Meta-parameters, a state, inputs and labels."""
    spec, rng = TaskSpec((NUM_INPUTS,), NUM_CLASSES, length, batch), np.random.default_rng(2)
    x = jnp.asarray(rng.standard_normal((length, batch, NUM_INPUTS)), float)
    y = jnp.asarray(np.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, (length, batch))], float)
    return _parameters(learner, spec), _state(learner, spec), x, y


@functools.partial(jax.jit, static_argnums=0)
def _run(learner: VSML, params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return jax.lax.scan(lambda s, example: step(learner, params, s, *example), state, (x, y))


@pytest.mark.parametrize(
    "choice", pairwise(OPTIONS), ids=lambda choice: "-".join(getattr(v, "__name__", str(v)) for v in choice.values())
)
def test_equals_the_plain_twin(choice):
    learner = _learner(choice)
    params, state, x, y = _lifetime(learner, choice["batch"])
    after, predictions = jax.device_get(_run(learner, params, state, x, y))
    expected, streams = plain_lifetime(learner, params, state, x, y)
    np.testing.assert_allclose(predictions, expected, rtol=1e-5, atol=1e-5)
    for cell, twin_cell in zip(after["cells"], cells_of(streams, (4, *learner.hidden, 3)), strict=True):
        np.testing.assert_allclose(cell["h"], twin_cell["h"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(cell["c"], twin_cell["c"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("batch", "hidden")])
def test_the_twin_tells_every_option(name):
    """Without this, equality with the twin might hold only because an option changes nothing that it could see."""
    usual = {
        "hidden": (3,),
        "timing": "backward_pass",
        "sharing": Shared,
        "reduction": "sqrt",
        "layer_norm": False,
        "micro_ticks": 2,
        "channels": "error",
        "recirculate": False,
        "gate_offset": 1.0,
        "output_channel": 1,
        "output_bound": None,
        "merge_share": 0.5,
        "batch": 2,
    }
    # Sets for every layer and pass, so that all sharings read of the same draw.
    params, _, x, y = _lifetime(_learner({**usual, "timing": "backward_pass, own set", "sharing": Layerwise}), batch=2)
    cell = params["cell"]
    cell["forward"] |= {"scale": jnp.ones((4, 3)), "offset": jnp.zeros((4, 3))}
    cell["backward"] |= cell["forward"] | cell["backward"]
    state = _lifetime(_learner(usual), batch=2)[1]
    outcomes = [plain_lifetime(_learner({**usual, name: value}), params, state, x, y)[0] for value in OPTIONS[name]]
    for one, other in itertools.combinations(outcomes, 2):
        assert np.max(np.abs(one - other)) > 1e-3


def test_a_batch_of_streams_without_merging_is_that_many_lifetimes():
    learner = _learner({**pairwise(OPTIONS)[0], "merge_share": 0.0})
    params, state, x, y = _lifetime(learner, batch=3)
    _, together = _run(learner, params, state, x, y)
    for member in range(3):
        alone = slice(member, member + 1)
        own_state = jax.tree.map(lambda leaf, alone=alone: leaf[alone], state)
        _, predictions = _run(learner, params, own_state, x[:, alone], y[:, alone])
        np.testing.assert_allclose(together[:, alone], predictions, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("feedback", ["delayed", "backward_pass"])
def test_a_prediction_does_not_know_its_label_but_the_next_one_does(feedback):
    learner = VSML(LSTM(size=4, gate_offset=1.0), message_size=3, feedback=feedback, feed_label=True)
    params, state, x, y = _lifetime(learner, batch=1)
    _, before = _run(learner, params, state, x, y)
    _, after = _run(learner, params, state, x, y.at[1].set(jnp.roll(y[1], 1, axis=-1)))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert np.min(np.max(np.abs(before[2:] - after[2:]), axis=(1, 2))) > 1e-4


def test_any_shape_of_input_is_read_in_storage_order():
    learner = VSML(LSTM(size=4, gate_offset=1.0), message_size=3)
    params, state, x, y = _lifetime(learner, batch=2)
    _, flat = _run(learner, params, state, x, y)
    _, square = _run(learner, params, state, x.reshape(LENGTH, 2, 2, 2), y)
    np.testing.assert_array_equal(flat, square)


# ------------------------------------------------------------------------------------------------------ symmetries

SYMMETRIC = [
    VSML(LSTM(size=4, gate_offset=1.0), hidden=(5,), message_size=3, reduction="sqrt", recirculate=True),
    VSML(
        LSTM(size=4, gate_offset=0.0, layer_norm=True),
        sharing=Layerwise(separate_backward=True),
        hidden=(5,),
        message_size=3,
        micro_ticks=1,
        feedback="backward_pass",
        feed_label=True,
    ),
]


def _permuted(cell: dict[str, Any], rows: Any, columns: Any) -> dict[str, Any]:
    def permute(leaf):
        grid = leaf.reshape(*leaf.shape[:2], len(rows), len(columns))
        return grid[:, :, rows][:, :, :, columns].reshape(leaf.shape)

    return jax.tree.map(permute, cell)


@pytest.mark.parametrize("learner", SYMMETRIC, ids=["delayed", "backward_pass"])
@pytest.mark.parametrize("what", ["inputs", "hidden", "outputs", "all"])
def test_permuting_neurons_with_their_states_permutes_the_result(learner, what):
    """Double precision, because a permuted sum rounds differently and learning amplifies that."""
    with jax.enable_x64(True):
        params, state, x, y = _lifetime(learner, batch=2)
        identity = {"inputs": jnp.arange(4), "hidden": jnp.arange(5), "outputs": jnp.arange(3)}
        turned = {
            "inputs": jnp.array([2, 0, 3, 1]),
            "hidden": jnp.array([3, 0, 4, 2, 1]),
            "outputs": jnp.array([2, 0, 1]),
        }
        inputs, hidden, outputs = (
            (turned if what in (name, "all") else identity)[name] for name in ("inputs", "hidden", "outputs")
        )
        first_cell, second_cell = state["cells"]
        cells = [_permuted(first_cell, inputs, hidden), _permuted(second_cell, hidden, outputs)]

        after, predictions = _run(learner, params, state, x, y)
        after_permuted, permuted = _run(learner, params, {**state, "cells": cells}, x[..., inputs], y[..., outputs])

        np.testing.assert_allclose(permuted, predictions[..., outputs], rtol=1e-12, atol=1e-12)
        first, second = after["cells"]
        for cell, expected in zip(
            after_permuted["cells"],
            [_permuted(first, inputs, hidden), _permuted(second, hidden, outputs)],
            strict=True,
        ):
            np.testing.assert_allclose(cell["h"], expected["h"], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(cell["c"], expected["c"], rtol=1e-12, atol=1e-12)

        # The states matter: where neurons are permuted on one side only, the predictions are others.
        half = [cells[0], second_cell] if what == "hidden" else cells
        _, without = _run(learner, params, {**state, "cells": half}, x, y)
        assert np.max(np.abs(without - predictions)) > 1e-3


# ------------------------------------------------------------------------------------------- A = B = 1: a Meta RNN


def _tiny_lifetime(learner: VSML, length: int = 6):
    """One input and one output. The softmax of one logit is 1, so real-valued labels give the error 1 - y something."""
    spec = TaskSpec((1,), 1, length)
    return _parameters(learner, spec), _state(learner, spec), *_examples(length)


def _examples(length: int) -> Any:
    return jnp.asarray(np.random.default_rng(3).standard_normal((2, length, 1, 1)), float)


@pytest.mark.parametrize("reduction", ["mean", "sum", "sqrt"])
@pytest.mark.parametrize("recirculate", [False, True])
def test_one_sub_rnn_is_a_meta_rnn(reduction, recirculate):
    learner = VSML(
        LSTM(size=5, gate_offset=2.0), message_size=3, reduction=reduction, recirculate=recirculate, feed_label=True
    )
    with jax.enable_x64(True):
        params, state, x, y = _tiny_lifetime(learner)
        _, predictions = _run(learner, params, state, x, y)

        # An ordinary LSTM: u = [h, input, silence, last error, last label, silence]; read out by a linear head.
        gates, out, back = (
            jax.tree.map(lambda leaf: np.asarray(leaf)[0], params["cell"][name])
            for name in ("gates", "forward", "backward")
        )
        h, c = (np.asarray(state["cells"][0][name])[0, :, 0] for name in "hc")
        error, label, output, returned = 0.0, 0.0, np.zeros(3), np.zeros(3)
        expected = []
        for x_t, y_t in zip(np.ravel(x), np.ravel(y), strict=True):
            last_output = output[2] if recirculate else 0.0
            own = returned[1:] if recirculate else np.zeros(2)
            u = np.array([x_t, *own, error, label, last_output])
            for _ in range(2):
                i, g, f, o = np.split(gates["w"] @ np.concatenate([h, u]) + gates["b"], 4)
                c = c / (1 + np.exp(-f - 2)) + np.tanh(g) / (1 + np.exp(-i + 2))
                h = np.tanh(c) / (1 + np.exp(-o))
            output, returned = out["w"] @ h + out["b"], back["w"] @ h + back["b"]
            logit = 100 * np.tanh(output[1] / 100)
            error, label = 1 - y_t, y_t
            expected.append(logit)
        np.testing.assert_allclose(predictions.ravel(), expected, rtol=1e-12, atol=1e-12)


def test_one_sub_rnn_is_the_meta_rnn_learner():
    """The two learners share no code; only the write gate's offset has to be carried over as a bias."""
    learner = VSML(LSTM(size=5, gate_offset=1.0), message_size=2, output_channel=0, feed_label=True)
    twin = MetaRNN(hidden_size=5, forget_offset=1.0)
    with jax.enable_x64(True):
        params, state, x, y = _tiny_lifetime(learner)
        _, predictions = _run(learner, params, state, x, y)
        gates, out = (jax.tree.map(lambda leaf: leaf[0], params["cell"][name]) for name in ("gates", "forward"))
        columns = jnp.array([5, 7, 8, 0, 1, 2, 3, 4])  # x, error, label, h; channel 1 of the input is silent
        twin_params = {
            "gates": {"w": gates["w"][:, columns].T, "b": gates["b"].at[:5].add(-1.0)},
            "output": {"w": out["w"][:1].T, "b": out["b"][:1]},
        }
        h, c = (state["cells"][0][name][:, :, 0] for name in "hc")
        twin_state = Recurrence(h, c, feedback=jnp.zeros((1, 2)))
        _, expected = _run(twin, twin_params, twin_state, x, y)
        np.testing.assert_allclose(predictions, expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- user mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feed_error": False}, "no feedback to learn from"),
        (
            {"message_size": 1, "feed_label": True, "output_channel": 0},
            "feed_label needs channel 1: set message_size",
        ),
        ({"output_channel": 8}, r"messages have channels 0\.\.7"),
        ({"micro_ticks": 0}, "micro_ticks is 0"),
        ({"output_bound": 0.0}, r"output_bound is 0\.0"),
        ({"output_bound": float("inf")}, "output_bound is inf"),
        ({"output_bound": float("nan")}, "output_bound is nan"),
        ({"hidden": (4, 0)}, r"hidden is \[4, 0\]"),
        ({"merge_share": 1.5}, "merge_share is 1.5"),
        ({"random_share": -0.5}, "random_share is -0.5"),
        ({"sparsity": (Dense(), Dense())}, "names 2 wirings for 1 layers"),
        ({"sharing": Shared(separate_backward=True)}, "no backward pass to serve"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        VSML(LSTM(), **options)


def test_a_wiring_per_layer():
    learner = VSML(LSTM(), hidden=(2,))
    spec = TaskSpec((3,), 4, length=1)
    per_layer = dataclasses.replace(learner, sparsity=(Dense(), Dense()))
    assert [w.units for w in per_layer.wirings(spec)] == [w.units for w in learner.wirings(spec)] == [6, 8]
