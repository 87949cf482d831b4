"""Hebbian fast weights: the two rules by hand, and a loop written with numpy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import step

from vsml.learners.hebbian import FastWeights, HebbianFastWeights
from vsml.tasks.base import TaskSpec

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
SPEC = TaskSpec((2, 2), 3, length=5, batch=2)


@pytest.mark.parametrize(("rule", "kept"), [("hebb", 1 - 0.25), ("oja", 1 - 0.25 * 0.25)])
def test_one_update_by_hand(rule, kept):
    # One input, one class: u = [2, 0, 0]. F of the input is 1, so y^ = 2 (w + coeff * 1) with w = .2 and coeff chosen
    # such that tanh(y^) = 1/2. eta = 1/4: F of x is kept in part (hebb 3/4, oja 1 - 1/4 * (1/2)^2), plus 1/4 * 2 * 1/2.
    coeff = np.arctanh(0.5) / 2 - 0.2
    params = {
        "w": jnp.full((3, 1), 0.2),
        "coeff": jnp.full((3, 1), coeff),
        "b": jnp.zeros(1),
        "rate": jnp.log(jnp.array(1 / 3)),
    }
    state = FastWeights(jnp.array([[[1.0], [1.0], [0.0]]]), feedback=jnp.zeros((1, 2)))
    state, logits = step(HebbianFastWeights(rule), params, state, jnp.array([[2.0]]), jnp.array([[1.0]]))
    np.testing.assert_allclose(logits, [[np.arctanh(0.5)]], rtol=1e-6)
    # The error line hears 0: it only forgets. The label line held nothing.
    np.testing.assert_allclose(state.fast, [[[kept + 0.25], [kept], [0.0]]], rtol=1e-6)
    np.testing.assert_allclose(state.feedback[:, 1:], [[1.0]])


def test_a_second_pass_ties_an_input_to_its_own_label():
    # Only the label line has slow weights, 10 times the identity: in the second pass tanh is +-1 (to 1e-8) at the label
    # and 0 elsewhere, so that F of the input's line becomes eta * x there. Asked again, y^ = x * coeff * F.
    params = {
        "w": jnp.concatenate([jnp.zeros((3, 2)), 10 * jnp.eye(2)]),
        "coeff": jnp.full((5, 2), 0.5),
        "b": jnp.zeros(2),
        "rate": jnp.zeros(()),
    }
    learner, spec = HebbianFastWeights(feedback="second_pass"), TaskSpec((1,), 2, length=2)
    state = learner.initial_state(params, jax.random.key(0), spec)
    x, y = jnp.array([[3.0]]), jnp.array([[0.0, 1.0]])
    state, first = step(learner, params, state, x, y)
    _, second = step(learner, params, state, x, y)
    np.testing.assert_array_equal(first, [[0.0, 0.0]])
    np.testing.assert_allclose(state.fast[0, 0], [0.0, 0.5 * 3], rtol=1e-6)
    np.testing.assert_allclose(second, [[0.0, 3 * 0.5 * 1.5]], rtol=1e-6)


@pytest.mark.parametrize("rule", ["hebb", "oja"])
@pytest.mark.parametrize("feedback", ["delayed", "second_pass"])
def test_equals_a_numpy_loop(rule, feedback):
    learner = HebbianFastWeights(rule, feedback, rate=-1.0)
    params = jax.jit(learner.init, static_argnums=1)(jax.random.key(0), SPEC)
    rng = np.random.default_rng(0)
    params["coeff"] = jnp.asarray(rng.standard_normal((10, 3)), jnp.float32)
    params["b"] = params["b"] + 0.1
    w, coeff, b = (np.asarray(params[name], np.float64) for name in ("w", "coeff", "b"))
    x, y = rng.standard_normal((5, 2, 2, 2)), np.eye(3)[rng.integers(0, 3, (5, 2))]
    eta = 1 / (1 + np.exp(1.0))

    live = jax.jit(functools.partial(step, learner))
    state = learner.initial_state(params, jax.random.key(0), SPEC)
    fast, error, label = np.zeros((2, 10, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    for inputs, labels in zip(x, y, strict=True):
        expected = np.zeros((2, 3))
        for stream in range(2):
            u = np.concatenate([inputs[stream].ravel(), error[stream], label[stream]])
            expected[stream] = logits = u @ (w + coeff * fast[stream]) + b
            error[stream] = np.exp(logits) / np.exp(logits).sum() - labels[stream]
            label[stream] = labels[stream]
            if feedback == "second_pass":
                u = np.concatenate([inputs[stream].ravel(), error[stream], label[stream]])
                logits = u @ (w + coeff * fast[stream]) + b
                error[stream], label[stream] = 0, 0
            for i in range(10):
                for j in range(3):
                    post, old = np.tanh(logits[j]), fast[stream, i, j]
                    forgotten = old if rule == "hebb" else post**2 * old
                    fast[stream, i, j] = old + eta * (u[i] * post - forgotten)
        state, logits = live(params, state, jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.float32))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.fast, fast, rtol=1e-5, atol=1e-5)


def test_starts_as_the_baseline_does():
    params = HebbianFastWeights().init(jax.random.key(0), SPEC)
    np.testing.assert_allclose(jax.nn.sigmoid(params["rate"]), 0.0109869, rtol=1e-5)
    np.testing.assert_allclose(params["coeff"], np.full((10, 3), 0.01), rtol=1e-6)
