"""Objectives by hand, with masks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.objectives import Discounted, Improvement, Last, OnlineMean
from vsml.objectives.losses import cross_entropy, masked_mean
from vsml.tasks.base import Task

# Logits whose softmax is a plain fraction: [T = 3, B = 2, classes = 2].
PROBABILITIES = np.array([[[0.5, 0.5], [0.25, 0.75]], [[0.2, 0.8], [0.9, 0.1]], [[0.6, 0.4], [0.99, 0.01]]])
LOGITS = jnp.asarray(np.log(PROBABILITIES) + 3.0, jnp.float32)
LABELS = jax.nn.one_hot(jnp.array([[0, 1], [0, 0], [1, 1]]), 2)
# Losses -log of: [[1/2, 3/4], [1/5, 9/10], [2/5, 1/100]].


def _task(mask) -> Task:
    return Task(x=jnp.zeros((3, 2, 1)), y=LABELS, mask=jnp.array(mask, jnp.float32))


def _mean_of(*probabilities: float) -> float:
    return -sum(map(math.log, probabilities)) / len(probabilities)


def test_cross_entropy():
    expected = -np.log([[0.5, 0.75], [0.2, 0.9], [0.4, 0.01]])
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), expected, rtol=1e-5)


def test_cross_entropy_of_hopeless_logits_is_finite():
    np.testing.assert_allclose(cross_entropy(jnp.array([1e4, -1e4]), jnp.array([0.0, 1.0])), 2e4)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[1, 1], [1, 1], [1, 1]], _mean_of(0.5, 0.75, 0.2, 0.9, 0.4, 0.01)),
        ([[1, 0], [0, 1], [1, 0]], _mean_of(0.5, 0.9, 0.4)),
        ([[0, 0], [1, 0], [0, 0]], _mean_of(0.2)),
        ([[0, 0], [0, 0], [0, 0]], 0.0),
    ],
)
def test_online_mean(mask, expected):
    np.testing.assert_allclose(OnlineMean().loss(LOGITS, _task(mask)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("count", "mask", "expected"),
    [
        (1, [[1, 1], [1, 1], [1, 1]], _mean_of(0.4, 0.01)),
        (1, [[1, 1], [1, 1], [0, 1]], _mean_of(0.01)),
        (1, [[1, 1], [1, 1], [0, 0]], 0.0),
        (2, [[1, 1], [1, 0], [1, 1]], _mean_of(0.2, 0.4, 0.01)),
        (3, [[1, 1], [1, 1], [1, 1]], _mean_of(0.5, 0.75, 0.2, 0.9, 0.4, 0.01)),
    ],
)
def test_last(count, mask, expected):
    np.testing.assert_allclose(Last(count).loss(LOGITS, _task(mask)), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [0, -1])
def test_last_of_nothing_is_refused(count):
    with pytest.raises(UserError, match=f"count is {count}: set it to 1 or more"):
        Last(count)


ALL = [[1, 1], [1, 1], [1, 1]]
SOME = [[1, 0], [1, 1], [0, 1]]
CE = -np.log([[0.5, 0.75], [0.2, 0.9], [0.4, 0.01]])


@pytest.mark.parametrize(
    ("factor", "mask", "weights"),
    [
        (1.0, ALL, [[1 / 6, 1 / 6], [1 / 6, 1 / 6], [1 / 6, 1 / 6]]),
        (0.5, ALL, [[4 / 14, 4 / 14], [2 / 14, 2 / 14], [1 / 14, 1 / 14]]),
        (2.0, ALL, [[1 / 14, 1 / 14], [2 / 14, 2 / 14], [4 / 14, 4 / 14]]),
        (0.5, SOME, [[4 / 9, 0], [2 / 9, 2 / 9], [0, 1 / 9]]),
        (2.0, np.zeros((3, 2)), np.zeros((3, 2))),
    ],
)
def test_discounted(factor, mask, weights):
    np.testing.assert_allclose(Discounted(factor).weights(jnp.array(mask, jnp.float32), 3), weights, rtol=1e-6)
    np.testing.assert_allclose(Discounted(factor).loss(LOGITS, _task(mask)), np.sum(weights * CE), rtol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_no_lifetime_is_too_long_to_discount(factor):
    weights = Discounted(factor).weights(jnp.ones((5_000, 1)), 5_000)
    np.testing.assert_allclose(np.sort(weights[:, 0])[-3:], [1 / 8, 1 / 4, 1 / 2], rtol=1e-4)
    assert (jnp.argmax(weights) == 0) == (factor < 1)


@pytest.mark.parametrize(
    ("count", "mask", "expected"),
    [
        (1, ALL, _mean_of(0.4, 0.01) - _mean_of(0.5, 0.75)),
        (1, SOME, _mean_of(0.01) - _mean_of(0.5)),
        (2, SOME, _mean_of(0.2, 0.9, 0.01) - _mean_of(0.5, 0.2, 0.9)),
        (3, ALL, 0.0),
    ],
)
def test_improvement(count, mask, expected):
    np.testing.assert_allclose(Improvement(count).loss(LOGITS, _task(mask)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (OnlineMean(), [[0.25, 0.25], [0.25, 0.25], [0, 0]]),
        (Last(), [[0, 0], [0.5, 0.5], [0, 0]]),
        (Discounted(2.0), [[1 / 6, 1 / 6], [2 / 6, 2 / 6], [0, 0]]),
        (Improvement(), [[-0.5, -0.5], [0.5, 0.5], [0, 0]]),
    ],
)
def test_weights_of_a_shorter_lifetime(objective, weights):
    """Two steps of three."""
    mask = jnp.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(objective.weights(mask, jnp.array(2)), weights, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(UserError, match=r"objectives\.Discounted\.factor is .*: set it above 0"):
        Discounted(factor)


def test_improvement_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"Improvement\.count is 0: set it to 1 or more"):
        Improvement(0)


def test_what_is_masked_has_no_gradient():
    mask = [[1, 0], [0, 1], [1, 0]]
    gradient = jax.grad(lambda logits: OnlineMean().loss(logits, _task(mask)))(LOGITS)
    np.testing.assert_array_equal(jnp.any(gradient, axis=-1), np.array(mask, bool))
    # d/dlogits of a mean over three: (softmax - label) / 3.
    np.testing.assert_allclose(gradient[1, 1], [-0.1 / 3, 0.1 / 3], rtol=1e-4)


def test_masked_mean():
    np.testing.assert_allclose(masked_mean(jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 0.0, 1.0])), 2.5)
