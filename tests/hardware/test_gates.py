"""Gates are the functions that they stand for, and their slopes those of these functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.hardware.gates import opened, tanh, tanh_gates


def test_tanh_is_within_a_few_roundings_of_the_true_one():
    x = np.concatenate([np.linspace(-20, 20, 400_001), np.geomspace(1e-30, 1, 10_001)]).astype(np.float32)
    expected = np.tanh(x.astype(np.float64))
    for function in (tanh, jax.jit(tanh)):
        found = np.asarray(function(jnp.asarray(x)), np.float64)
        np.testing.assert_allclose(found, expected, rtol=4e-7)
        np.testing.assert_array_equal(found, -np.asarray(function(-jnp.asarray(x)), np.float64))
    slope = jax.vmap(jax.grad(tanh))(jnp.asarray(x))
    np.testing.assert_allclose(slope, 1 - expected**2, atol=1e-6)


def test_tanh_of_what_is_no_number_or_without_end():
    np.testing.assert_allclose(tanh(jnp.array([jnp.inf, -jnp.inf, 0.0])), [1, -1, 0], atol=4e-7)
    assert jnp.isnan(tanh(jnp.array([jnp.nan]))).all()


def test_tanh_is_that_of_jax_in_double_precision():
    with jax.enable_x64(True):
        x = jnp.linspace(-3.0, 3.0, 11)
        assert x.dtype == jnp.float64
        np.testing.assert_array_equal(tanh(x), jnp.tanh(x))


def test_gates_are_logistic_functions():
    z = jnp.linspace(-12.0, 12.0, 301)
    np.testing.assert_allclose(opened(tanh(z / 2)), jax.nn.sigmoid(z), atol=3e-7)


@pytest.mark.parametrize("count", [1, 3])
def test_slopes_of_gates_are_those_of_tanh(count: int):
    inputs = jax.random.normal(jax.random.key(0), (6, 4))
    weighed = jax.random.normal(jax.random.key(1), (6, 4))
    split = jax.grad(lambda x: jnp.sum(weighed * jnp.concatenate(tanh_gates(x, count))))(inputs)
    np.testing.assert_allclose(split, jax.grad(lambda x: jnp.sum(weighed * jnp.tanh(x)))(inputs), rtol=1e-5)
