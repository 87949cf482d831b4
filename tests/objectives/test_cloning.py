"""Cloning: its targets are the gradient of a network, and exact backprop leaves nothing to explain."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from backprop import backprop
from noise_tasks import NoiseTasks

from vsml.cells import LSTM, MLP, Bilinear
from vsml.errors import UserError
from vsml.learners import VSML, MetaRNN
from vsml.objectives import Cloning
from vsml.objectives.cloning import Terms
from vsml.sharing import Layerwise

RATE = 0.05
CLONING = Cloning(RATE, RATE, units=16, followed=3, bias_std=0.1)
"""With equal rates the bias of `Bilinear` is where cloning looks for it."""


def _clone(cell, **options) -> VSML:
    return backprop(cell, **{"hidden": (4,), "message_size": 1, "output_channel": 0, **options})


def _backprop(**options) -> VSML:
    return _clone(Bilinear(rank=5, start="backprop", learning_rate=RATE, bias_learning_rate=RATE), **options)


def _lifetime(learner: VSML, seed: int = 0):
    tasks = NoiseTasks(num_inputs=5, num_classes=3, length=4)
    params_key, state_key, task_key, key = jax.random.split(jax.random.key(seed), 4)
    params = learner.init(params_key, tasks.spec)
    return params, learner.initial_state(params, state_key, tasks.spec), tasks.sample((), task_key), key


def test_targets_are_the_gradient_of_a_network():
    """Two layers, y_b = sum_a tanh(x_a) w_ab + b_ab, the error at the outputs that of the cross-entropy."""
    rng = np.random.default_rng(0)
    sizes = (5, 4, 3)
    layers = [
        tuple(jnp.asarray(rng.normal(size=(before, behind)), jnp.float32) for _ in range(2))
        for before, behind in itertools.pairwise(sizes)
    ]
    x, label = jnp.asarray(rng.normal(size=5), jnp.float32), jnp.array([0.0, 1.0, 0.0])

    def loss(layers, x):
        neurons = [x]
        for w, b in layers:
            neurons.append(jnp.sum(jnp.tanh(neurons[-1])[:, None] * w + b, axis=0))
        return optax.softmax_cross_entropy(neurons[-1], label), neurons

    (slopes, at_input), neurons = jax.grad(loss, argnums=(0, 1), has_aux=True)(layers, x)
    cloning, error = Cloning(0.1, 0.02), jax.nn.softmax(neurons[-1]) - label
    for index in (1, 0):
        shape = sizes[index], sizes[index + 1]
        before = jnp.broadcast_to(neurons[index][:, None], shape)
        targets = cloning.targets(before, jnp.broadcast_to(error[None], shape), *layers[index])
        np.testing.assert_allclose(targets.forward.sum(axis=0), neurons[index + 1], rtol=1e-5)
        np.testing.assert_allclose(targets.weight, -0.1 * slopes[index][0], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(targets.bias, -0.02 * slopes[index][1], rtol=1e-4, atol=1e-7)
        error = targets.backward.sum(axis=1)
    np.testing.assert_allclose(error, at_input, rtol=1e-4, atol=1e-7)


def test_reading_is_the_inverse_of_writing():
    cloning = Cloning(learning_rate=0.1, bias_learning_rate=0.001)
    w, b = jnp.array([1.0, 2.0]), jnp.array([0.5, -0.25])
    memory = cloning.write(jnp.full((3, 2), 9.0), w, b)
    np.testing.assert_allclose(memory, [[1, 2], [9, 9], [50, -25]], rtol=1e-6)
    np.testing.assert_allclose(jnp.stack(cloning.read(memory)), jnp.stack([w, b]), rtol=1e-6)


@pytest.mark.parametrize("running", [0.0, 1.0], ids=["alone", "in a running clone"])
@pytest.mark.parametrize("sharing", [{}, {"sharing": Layerwise()}], ids=["shared", "layerwise"])
def test_backprop_leaves_nothing_to_explain(running, sharing):
    learner = _backprop(**sharing)
    lifetime = _lifetime(learner)
    _, metrics = jax.jit(lambda *args: replace(CLONING, running=running).evaluate(learner, *args))(*lifetime)
    for term in Terms._fields:
        np.testing.assert_allclose(metrics[f"r2_{term}"], 1, atol=1e-6)


def test_half_of_every_change_by_hand():
    """A teacher with twice the learning rates: the changes are half of the targets, which are not of mean 0."""
    learner = _backprop(hidden=())
    params, state, _, key = _lifetime(learner)
    cloning = replace(CLONING, learning_rate=2 * RATE, bias_learning_rate=2 * RATE)
    lived = cloning.drawn(learner, params, state, key)
    unexplained = cloning.unexplained(learner, params, lived)
    ((_, second),) = lived
    x, e = np.asarray(second.forward[0]), np.asarray(second.backward[0])
    for found, change in ((unexplained.weight, -2 * RATE * e * np.tanh(x)), (unexplained.bias, -2 * RATE * e)):
        both = np.concatenate([np.zeros_like(change), change])  # in the forward pass nothing is to change
        expected = np.sum(np.square(0.5 * change)) / np.sum(np.square(both - both.mean()))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert 0.2 < expected < 0.3
    np.testing.assert_allclose(unexplained.forward, 0, atol=1e-6)
    np.testing.assert_allclose(unexplained.backward, 0, atol=1e-6)


def test_other_channels_are_to_stay_silent():
    """The genome of backprop sends forward in every channel, backward in the first: two channels are one too many."""
    learner = _backprop(hidden=(), message_size=2)
    params, state, _, key = _lifetime(learner)
    unexplained = CLONING.unexplained(learner, params, CLONING.drawn(learner, params, state, key))
    ((first, _),) = CLONING.drawn(learner, params, state, key)
    forward = np.asarray(
        CLONING.targets(first.forward[0], 0 * first.forward[0], *CLONING.read(first.cells["s"])).forward
    )
    np.testing.assert_allclose(
        unexplained.forward, np.sum(np.square(forward)) / np.sum(np.square(forward - forward.mean())), rtol=1e-4
    )
    np.testing.assert_allclose(unexplained.backward, 0, atol=1e-6)


@pytest.mark.parametrize("cell", [LSTM(4), Bilinear(rank=5, start="backprop", learning_rate=RATE)])
def test_a_running_clone_is_looked_at_as_it_is(cell):
    """Each visit leads to where the next one begins; what arrives at the first layer is the task's input."""
    learner = _clone(cell, micro_ticks=1 if isinstance(cell, Bilinear) else 2)
    params, state, task, key = _lifetime(learner)
    cloning = replace(CLONING, followed=100)  # all of them
    for layer, (first, second) in enumerate(cloning.met(learner, params, state, task, key)):
        units = (5 * 4, 4 * 3)[layer]

        def by_example(leaf, units=units):
            return np.asarray(leaf).reshape(leaf.shape[0], -1, units)

        for visits, then, is_backward in ((first, second, False), (second, first, True)):
            cells, _, _ = learner.visit_alone(params, *visits, layer, is_backward)
            for name in cells:
                start, end = by_example(then.cells[name]), by_example(cells[name])
                start, end = (start[:, 1:], end[:, :-1]) if is_backward else (start, end)
                np.testing.assert_allclose(start, end, atol=1e-6)
        if layer == 0:
            arrived, given = by_example(first.forward)[0], np.asarray(task.x[:, 0])
            for own, right in zip(arrived, given, strict=True):
                np.testing.assert_array_equal(np.unique(own), np.sort(right))


def test_some_of_it_is_learned_in_seconds():
    """Weights and biases start to follow the error, and stay in the forward pass."""
    learner = _clone(MLP(8, update_rule="residual", rate=0.01), hidden=())
    params, state, task, key = _lifetime(learner)
    cloning = replace(CLONING, learning_rate=0.01, bias_learning_rate=0.001, units=128)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-2, 300)))

    def step(carry, key):
        params, moments = carry
        slope, metrics = jax.grad(lambda p: cloning.evaluate(learner, p, state, task, key), has_aux=True)(params)
        updates, moments = optimizer.update(slope, moments, params)
        return (optax.apply_updates(params, updates), moments), metrics

    _, metrics = jax.jit(lambda carry: jax.lax.scan(step, carry, jax.random.split(key, 300)))(
        (params, optimizer.init(params))
    )
    assert metrics["loss"][-20:].mean() < 0.7 * metrics["loss"][0]
    for term in ("weight", "bias"):
        assert metrics[f"r2_{term}"][-20:].mean() > 0.7


@pytest.mark.parametrize(
    ("field", "value", "mend"),
    [
        ("learning_rate", 0.0, "above 0"),
        ("weight_std", -1.0, "above 0"),
        ("running", 1.5, "between 0 and 1"),
        ("units", 1, "to 2 or more"),
        ("settle", -1, "to 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(field, value, mend):
    with pytest.raises(UserError, match=rf"objectives\.Cloning\.{field} is {value}: set it {mend}"):
        Cloning(**{field: value})


def test_learners_that_cannot_be_a_clone_are_refused():
    task: Any = None
    with pytest.raises(UserError, match=r"learners\.MetaRNN has none: choose learners/vsml\.gin"):
        Cloning().evaluate(MetaRNN(), {}, {}, task, jax.random.key(0))
    delayed = replace(_backprop(), clear_feedback=False)
    with pytest.raises(UserError, match=r"clear_feedback is False, but backprop needs True"):
        Cloning().evaluate(delayed, {}, {}, task, jax.random.key(0))
