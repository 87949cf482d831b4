"""Objectives by hand, with masks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.objectives import Discounted, Improvement, Last, OnlineMean
from vsml.objectives.weights import weighted_mean

# [T = 3, B = 2].
LOSSES = jnp.asarray(-np.log([[0.5, 0.75], [0.2, 0.9], [0.4, 0.01]]), jnp.float32)


def _array(mask) -> jax.Array:
    return jnp.array(mask, jnp.float32)


def _mean_of(*probabilities: float) -> float:
    return -sum(map(math.log, probabilities)) / len(probabilities)


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
    np.testing.assert_allclose(OnlineMean().loss(LOSSES, _array(mask)), expected, rtol=1e-5)


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
    np.testing.assert_allclose(Last(count).loss(LOSSES, _array(mask)), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [0, -1])
def test_last_of_nothing_is_refused(count):
    with pytest.raises(UserError, match=f"count is {count}: set it to 1 or more"):
        Last(count)


ALL = [[1, 1], [1, 1], [1, 1]]
SOME = [[1, 0], [1, 1], [0, 1]]


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
    np.testing.assert_allclose(
        Discounted(factor).loss(LOSSES, _array(mask)), np.sum(weights * np.asarray(LOSSES)), rtol=1e-5
    )


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
    np.testing.assert_allclose(Improvement(count).loss(LOSSES, _array(mask)), expected, rtol=1e-5, atol=1e-6)


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
    gradient = jax.grad(lambda losses: OnlineMean().loss(losses, _array(mask)))(LOSSES)
    np.testing.assert_allclose(gradient, np.array(mask) / 3, rtol=1e-6)


def test_weighted_mean():
    np.testing.assert_allclose(weighted_mean(jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 0.0, 1.0])), 2.5)
