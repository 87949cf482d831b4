"""Convolutional front-end: an explicit loop over positions, sizes, gradient descent on its filters, and mistakes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import live, step

from vsml.cells import Bilinear
from vsml.errors import UserError
from vsml.learners import VSML, ConvFrontEnd, DeltaRule, FastWeightMemory, GradientDescent, HebbianFastWeights, MetaRNN
from vsml.tasks.base import TaskSpec

SPEC = TaskSpec((5, 4), 3, length=1, batch=2)


def _convolved(images, w, b, stride):
    """Output [B, H', W', out] by a loop over positions and taps; what lies outside of the image is 0."""
    batch, *size, _ = images.shape
    kernel, outputs = w.shape[0], [-(-n // stride) for n in size]
    # SAME: the taps reach as far beyond the image above as below it, or one pixel less.
    first = [max((m - 1) * stride + kernel - n, 0) // 2 for m, n in zip(outputs, size, strict=True)]
    result = np.tile(b, (batch, *outputs, 1))
    for i, j, di, dj in np.ndindex(*outputs, kernel, kernel):
        row, column = i * stride + di - first[0], j * stride + dj - first[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            result[:, i, j] += images[:, row, column] @ w[di, dj]
    return result


@pytest.mark.parametrize(
    "front_end",
    [ConvFrontEnd((2, 3), kernel=3, stride=2), ConvFrontEnd((2,), kernel=2, stride=3, activation="tanh")],
    ids=str,
)
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 2)])
def test_equals_a_loop_over_positions(front_end, shape):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.1, front_end.init(jax.random.key(0), shape))
    x = rng.standard_normal((2, *shape))
    expected = x.reshape(2, 5, 4, -1)
    for layer in params:
        expected = _convolved(expected, np.asarray(layer["w"]), np.asarray(layer["b"]), front_end.stride)
        expected = np.maximum(expected, 0) if front_end.activation == "relu" else np.tanh(expected)
    features = front_end(params, jnp.asarray(x, jnp.float32))
    assert features.shape == (2, *front_end.output_shape(shape))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_filters_start_with_unit_gain_and_no_bias():
    (layer,) = ConvFrontEnd((200,), kernel=5).init(jax.random.key(0), (8, 8, 2))
    assert layer["w"].shape == (5, 5, 2, 200)
    np.testing.assert_allclose(jnp.std(layer["w"]), 50**-0.5, rtol=0.03)
    assert not layer["b"].any()


def test_gradient_descent_learns_its_filters_in_the_lifetime():
    front_end = ConvFrontEnd((2,), activation="tanh")
    learner = GradientDescent(optax.sgd(0.1), hidden=(3,), front_end=front_end)
    first, other = (learner.initial_state({}, jax.random.key(seed), SPEC) for seed in (0, 1))
    shapes = [layer.w.shape for layer in first.network]
    assert shapes == [(3, 3, 1, 2), (3 * 2 * 2, 3), (3, 3)]
    assert all((a.w != b.w).any() for a, b in zip(first.network, other.network, strict=True))

    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((2, 5, 4)), jnp.float32), jnp.eye(3)[:2]
    filters, hidden, output = ((layer.w, layer.b) for layer in first.network)

    def loss(w, b):
        read = jax.lax.conv_general_dilated(x[..., None], w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        read = jnp.tanh(read + b[None, None, None]).reshape(2, -1)
        logits = jnp.tanh(read @ hidden[0] + hidden[1][None]) @ output[0] + output[1][None]
        return -(y * jax.nn.log_softmax(logits)).sum() / 2

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(*filters)
    state, _ = jax.jit(functools.partial(step, learner))({}, first, x, y)
    assert jnp.abs(gradient[0]).max() > 1e-3
    np.testing.assert_allclose(state.network[0].w, filters[0] - 0.1 * gradient[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.network[0].b, filters[1] - 0.1 * gradient[1], rtol=1e-5, atol=1e-6)


def test_sub_rnns_read_features_as_their_inputs():
    front_end = ConvFrontEnd((2,))
    learner = VSML(Bilinear(), message_size=2, feedback="backward_pass", front_end=front_end)
    plain = VSML(Bilinear(), message_size=2, feedback="backward_pass")
    params = learner.init(jax.random.key(0), SPEC)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2, 5, 4)), jnp.float32)
    features = jax.vmap(functools.partial(front_end, params["front_end"]))(images)
    spec = TaskSpec(features.shape[2:], 3, length=1, batch=2)
    alone = plain.init(jax.random.key(0), spec)
    jax.tree.map(np.testing.assert_array_equal, alone["cell"], params["cell"])
    labels = jnp.tile(jnp.eye(3)[:2], (4, 1, 1))
    outputs = []
    for one, given, of, x in ((learner, params, SPEC, images), (plain, alone, spec, features)):
        state = one.initial_state(given, jax.random.key(1), of)
        outputs.append(live(one, given, state, x, labels).outputs)
    assert np.ptp(outputs[0]) > 1e-3
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "learner",
    [
        VSML(Bilinear(), front_end=ConvFrontEnd()),
        MetaRNN(front_end=ConvFrontEnd()),
        HebbianFastWeights(front_end=ConvFrontEnd()),
        DeltaRule(front_end=ConvFrontEnd()),
        FastWeightMemory(front_end=ConvFrontEnd()),
        GradientDescent(optax.sgd(0.1), front_end=ConvFrontEnd()),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_refuses_inputs_that_are_no_images(learner):
    spec = TaskSpec((4,), 3, length=1)
    with pytest.raises(UserError, match=r"reads images \[H, W\] or \[H, W, C\], but the inputs of the tasks are \[4\]"):
        learner.initial_state(learner.init(jax.random.key(0), spec), jax.random.key(0), spec)


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (2, 0)}, {"kernel": 0}, {"stride": 0}], ids=str)
def test_refuses_sizes_below_one(options):
    with pytest.raises(UserError, match=rf"learners\.ConvFrontEnd\.{next(iter(options))} is "):
        ConvFrontEnd(**options)
