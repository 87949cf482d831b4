"""Gradient descent: hand-derived updates, and a plain loop of jax.grad."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import step

from vsml.errors import UserError
from vsml.learners.gradient_descent import Descent, GradientDescent, Layer
from vsml.tasks.base import TaskSpec

SPEC = TaskSpec((2, 3), 4, length=3, batch=3)


def _size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("hidden", "size"), [((), 7_850), ((160,), 127_210), ((32, 16), 25_818)])
def test_parameter_counts_at_28_by_28(hidden, size):
    learner, spec = GradientDescent(optax.adam(1e-3), hidden), TaskSpec((28, 28, 1), 10, length=1)
    params = learner.init(jax.random.key(0), spec)
    state = jax.eval_shape(lambda key: learner.initial_state(params, key, spec), jax.random.key(0))
    assert params == {}
    assert _size(learner.learned_variables(state)) == size


def test_update_of_one_layer_by_hand():
    # logits (1, 0) give softmax (p, 1 - p) with p = e / (e + 1); the label is 1, so dL/dlogits = (p, -p).
    learner = GradientDescent(optax.sgd(0.5))
    network = (Layer(w=jnp.array([[1.0, 0.0], [0.0, 0.5]]), b=jnp.zeros(2)),)
    state = Descent(network, learner.optimizer.init(network))
    state, logits = step(learner, {}, state, jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))
    p = np.e / (np.e + 1)
    np.testing.assert_allclose(logits, [[1.0, 0.0]])
    np.testing.assert_allclose(state.network[0].w, [[1 - 0.5 * p, 0.5 * p], [0.0, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(state.network[0].b, [-0.5 * p, 0.5 * p], rtol=1e-6)


def test_update_is_on_the_mean_of_the_batch():
    # Zero weights predict 1/2 each; errors are (-1/2, 1/2) and (1/2, -1/2), whose mean over b is 0 and over w x/2.
    learner = GradientDescent(optax.sgd(1.0))
    network = (Layer(w=jnp.zeros((1, 2)), b=jnp.zeros(2)),)
    state = Descent(network, learner.optimizer.init(network))
    state, _ = step(learner, {}, state, jnp.array([[1.0], [3.0]]), jnp.eye(2))
    np.testing.assert_allclose(state.network[0].w, [[-0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(state.network[0].b, [0.0, 0.0], atol=1e-7)


def test_equals_backprop_by_hand_with_a_hidden_layer():
    learner = GradientDescent(optax.sgd(0.1), hidden=(2,))
    w1, b1 = np.array([[0.3, -0.2], [0.1, 0.4]]), np.array([0.05, -0.1])
    w2, b2 = np.array([[0.2, -0.5, 0.1], [0.7, 0.3, -0.4]]), np.array([0.0, 0.1, 0.2])
    x, y = np.array([[0.5, -1.5]]), np.array([[0.0, 0.0, 1.0]])
    a = np.tanh(x @ w1 + b1)
    logits = a @ w2 + b2
    error = np.exp(logits) / np.exp(logits).sum() - y
    back = (error @ w2.T) * (1 - a**2)

    network = tuple(Layer(jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32)) for w, b in ((w1, b1), (w2, b2)))
    state = Descent(network, learner.optimizer.init(network))
    state, got = step(learner, {}, state, jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(got, logits, rtol=1e-5)
    np.testing.assert_allclose(state.network[0].w, w1 - 0.1 * x.T @ back, rtol=1e-5)
    np.testing.assert_allclose(state.network[0].b, b1 - 0.1 * back[0], rtol=1e-5)
    np.testing.assert_allclose(state.network[1].w, w2 - 0.1 * a.T @ error, rtol=1e-5)
    np.testing.assert_allclose(state.network[1].b, b2 - 0.1 * error[0], rtol=1e-5)


def test_equals_a_plain_loop_with_adam():
    learner = GradientDescent(optax.adam(0.05), hidden=(3, 4))
    state = jax.jit(lambda key: learner.initial_state({}, key, SPEC))(jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (3, 3, 2, 3))
    y = jax.nn.one_hot(jax.random.randint(jax.random.key(3), (3, 3), 0, 4), 4)

    def forward(weights, inputs):
        (w1, b1), (w2, b2), (w3, b3) = weights
        hidden = jnp.tanh(jnp.tanh(inputs.reshape(3, 6) @ w1 + b1[None]) @ w2 + b2[None])
        return hidden @ w3 + b3[None]

    def loss(weights, inputs, labels):
        return -(labels * jax.nn.log_softmax(forward(weights, inputs))).sum() / 3

    optimizer = optax.adam(0.05)

    @jax.jit
    def update(weights, optimizer_state, inputs, labels):
        updates, optimizer_state = optimizer.update(jax.grad(loss)(weights, inputs, labels), optimizer_state)
        return optax.apply_updates(weights, updates), optimizer_state

    live = jax.jit(functools.partial(step, learner))
    weights = [tuple(layer) for layer in state.network]
    optimizer_state = optimizer.init(weights)
    for inputs, labels in zip(x, y, strict=True):
        expected = jax.jit(forward)(weights, inputs)
        weights, optimizer_state = update(weights, optimizer_state, inputs, labels)
        state, logits = live({}, state, inputs, labels)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_are_lecun_normal_and_new_for_each_lifetime():
    learner, spec = GradientDescent(optax.sgd(0.1), hidden=(200,)), TaskSpec((100,), 10, length=1)
    first, second = (learner.initial_state({}, jax.random.key(i), spec).network for i in (0, 1))
    np.testing.assert_allclose(jnp.std(first[0].w), 100**-0.5, rtol=0.03)
    np.testing.assert_allclose(jnp.std(first[1].w), 200**-0.5, rtol=0.06)
    assert not any(layer.b.any() for layer in first)
    assert jnp.abs(first[0].w - second[0].w).max() > 0.1


def test_refuses_an_empty_hidden_layer():
    with pytest.raises(UserError, match=r"GradientDescent\.hidden is \(0,\)"):
        GradientDescent(optax.sgd(0.1), hidden=(0,))
