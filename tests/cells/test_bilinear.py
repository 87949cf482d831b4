"""The bilinear sub-RNN: its plain twin, and stacks of it that are gradient descent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backprop import backprop
from plain import ALONE
from plain_cell import HEARD, check_two_ticks
from stepping import step

from vsml.cells import Bilinear
from vsml.errors import UserError
from vsml.learners import VSML
from vsml.sharing import Grouped, Shared, Typed
from vsml.tasks.base import TaskSpec

NUM_INPUTS, NUM_CLASSES, LENGTH = 64, 10, 100
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
FACTORS = ("state", "forward", "backward")


def _task(seed: int = 0):
    """Inputs [T, 1, 64] and noisy labels [T, 1, 10] of a linear teacher."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((LENGTH, 1, NUM_INPUTS))
    labels = np.argmax(x @ rng.standard_normal((NUM_INPUTS, NUM_CLASSES)), axis=-1)
    return jnp.asarray(x, jnp.float32), jax.nn.one_hot(labels, NUM_CLASSES)


def _weights(cells, sizes):
    """(w, b) of every layer, [in, out] each: the first and the last entry of the states of its sub-RNNs."""
    return [
        tuple(np.asarray(cell["s"][0, entry]).reshape(before, behind) for entry in (0, -1))
        for cell, before, behind in zip(cells, sizes[:-1], sizes[1:], strict=True)
    ]


def _gradient_descent(network, x, y, rate, bias_rate):
    """Predictions of, and network after, online SGD on y_b = sum_a tanh(x_a) w_ab + b_ab, layer by layer."""

    def predict(network, x):
        for w, b in network:
            x = jnp.tanh(x) @ w + jnp.sum(b, axis=0)
        return x

    def loss(network, x, y):
        logits = predict(network, x)
        return -jnp.sum(y * jax.nn.log_softmax(logits)), logits

    def step(network, example):
        gradient, logits = jax.grad(loss, has_aux=True)(network, *example)
        network = [(w - rate * dw, b - bias_rate * db) for (w, b), (dw, db) in zip(network, gradient, strict=True)]
        return network, logits

    return jax.lax.scan(step, network, (x[:, 0], y[:, 0]))


@pytest.mark.parametrize(
    ("hidden", "sharing"),
    [((), Shared()), ((16,), Shared()), ((16,), Grouped(groups=2, by="random")), ((16,), Typed(embedding_size=2))],
    ids=["depth 1", "depth 2", "depth 2, two sets", "depth 2, typed"],
)
def test_stacks_with_the_backprop_genome_are_gradient_descent(hidden, sharing):
    cell = Bilinear(size=3, start="backprop", learning_rate=0.05, bias_learning_rate=0.002)
    learner = backprop(cell, sharing=sharing, hidden=hidden, message_size=3)
    sizes = (NUM_INPUTS, *hidden, NUM_CLASSES)
    spec, (x, y) = TaskSpec((NUM_INPUTS,), NUM_CLASSES, length=LENGTH), _task()
    params = learner.init(jax.random.key(0), spec)
    state = learner.initial_state(params, jax.random.key(1), spec)
    run = jax.jit(lambda state: jax.lax.scan(lambda s, example: step(learner, params, s, *example), state, (x, y)))
    final, predictions = run.lower(state).compile()(state)

    network = _weights(state["cells"], sizes)
    descend = jax.jit(lambda network: _gradient_descent(network, x, y, rate=0.05, bias_rate=0.002))
    trained, expected = descend.lower(network).compile()(network)
    np.testing.assert_allclose(predictions[:, 0], expected, atol=1e-5)
    for own, exact, start in zip(_weights(final["cells"], sizes), trained, network, strict=True):
        for variable, exact_variable, start_variable in zip(own, exact, start, strict=True):
            np.testing.assert_allclose(variable, exact_variable, atol=1e-5)
            assert np.abs(variable - start_variable).max() > 1e-3


def test_spare_products_of_the_backprop_genome_can_be_learned():
    """They have random factors that nothing reads yet: a genome of zeros there would have no gradient at all."""
    draw = jax.jit(
        lambda key: [Bilinear(3, 7, start).init(key, incoming=4, outgoing=2) for start in ("random", "backprop")]
    )
    key = jax.random.key(0)
    random, backprop = jax.tree.map(np.asarray, draw.lower(key).compile()(key))
    for name in ("state", "forward", "backward"):
        for leaf in ("w", "b"):
            np.testing.assert_array_equal(backprop[name][leaf][5:], random[name][leaf][5:])
            assert np.all(backprop[name][leaf][5:] != 0)
    for name in ("direction", "send_forward", "send_backward"):
        assert not np.any(backprop[name][:, 5:])
        assert np.all(random[name] != 0)


@pytest.mark.parametrize("incoming", HEARD)
def test_one_sub_rnn_after_another(incoming):
    def products(params, s, forward, backward):
        read = [np.concatenate([params[name]["b"][:, None], params[name]["w"]], axis=1) for name in FACTORS]
        incoming = s, np.concatenate([np.tanh(forward), np.tanh(forward) ** 2]), backward
        return np.prod(
            [own @ np.concatenate([[1.0], values]) for own, values in zip(read, incoming, strict=True)], axis=0
        )

    def tick(params, s, forward, backward):
        kept = s * (1 - 0.2 * min(np.abs(np.tanh(forward)).sum(), 1))
        kept[0] = s[0]
        return np.clip(kept + 0.3 * params["direction"] @ products(params, s, forward, backward), -0.4, 0.4)

    def send(params, s, forward, backward):
        p = products(params, s, forward, backward)
        return params["send_forward"] @ p, params["send_backward"] @ p

    check_two_ticks(Bilinear(size=4, rank=3, learning_rate=0.3, bound=0.4, leak=0.2), incoming, tick, send)


def test_sizes():
    params = jax.eval_shape(lambda key: Bilinear(size=5, rank=6).init(key, incoming=7, outgoing=3), jax.random.key(0))
    factors = {name: {"w": (6, n), "b": (6,)} for name, n in zip(FACTORS, (5, 2 * 7, 7), strict=True)}
    read_outs = {"direction": (5, 6), "send_forward": (3, 6), "send_backward": (3, 6)}
    assert jax.tree.map(lambda leaf: leaf.shape, params) == factors | read_outs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"cells\.Bilinear\.size is 0"),
        ({"bound": 0.0}, r"cells\.Bilinear\.bound is 0\.0: set it above 0"),
        ({"learning_rate": -0.1}, r"cells\.Bilinear\.learning_rate is -0\.1: set it above 0"),
        ({"rank": 0}, r"cells\.Bilinear\.rank is 0"),
        ({"leak": 1.5}, r"cells\.Bilinear\.leak is 1\.5: set it between 0 and 1"),
        ({"start": "backprop", "rank": 4}, "needs a weight, a bias and 5 products"),
        ({"start": "backprop", "size": 1}, "needs a weight, a bias and 5 products"),
    ],
)
def test_genomes_that_are_too_small_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Bilinear(**options)


def test_clearing_what_no_backward_pass_left_is_refused():
    with pytest.raises(UserError, match="no backward pass to clear"):
        VSML(Bilinear(), clear_feedback=True)


def test_without_silent_inputs_a_sub_rnn_neither_changes_nor_sends_where_its_forward_message_is_0():
    cell = Bilinear(size=3, rank=6, silent_inputs=False)
    params = jax.tree.map(lambda leaf: leaf + 0.3, cell.init(jax.random.key(0), 2, 2))
    state = cell.initial_state(jax.random.key(1), units=4, fan_in=4, random_share=1.0)
    forward, backward = jnp.array([[0.0, 1.0, 0.0, -2.0]] * 2), jnp.ones((2, 4))
    changed = np.asarray(cell.update(params, state, forward, backward)["s"] != state["s"]).any(0)
    sent = cell.messages(params, state, forward, backward, ALONE, ALONE)
    heard = [False, True, False, True]
    np.testing.assert_array_equal(changed, heard)
    for message in sent:
        np.testing.assert_array_equal(np.asarray(message != 0).any(0), heard)
    assert "b" in Bilinear(size=3).init(jax.random.key(0), 2, 2)["forward"]
