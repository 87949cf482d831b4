"""The order in which a lifetime meets its examples."""

from __future__ import annotations

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.tasks.shuffle import shuffled

shuffled_jit = jax.jit(shuffled)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 897, 10_000])
def test_every_epoch_is_a_fresh_bijection(size):
    orders = np.asarray(shuffled_jit(jax.random.key(0), jnp.arange(3 * size), size)).reshape(3, size)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(size), (3, 1)))
    if size >= 64:
        # Two independent orders agree at one place on average (Poisson); they also differ from no order at all.
        for a, b in itertools.combinations([*orders, np.arange(size)], 2):
            assert np.sum(a == b) < 10


def test_all_orders_are_equally_likely():
    keys = jax.random.split(jax.random.key(1), 6_000)
    orders = jax.jit(jax.vmap(lambda key: shuffled(key, jnp.arange(8), 4)))(keys)
    for epoch in (orders[:, :4], orders[:, 4:]):
        counts = collections.Counter(map(tuple, np.asarray(epoch).tolist()))
        assert len(counts) == 24
        # Chi-square with 23 degrees of freedom: p = 0.001 at 49.7.
        assert sum((n - 250) ** 2 / 250 for n in counts.values()) < 49.7


def test_neighbouring_places_are_independent():
    keys = jax.random.split(jax.random.key(2), 20_000)
    size = 5
    drawn = jax.jit(jax.vmap(lambda key: shuffled(key, jnp.array([0, 1, size, size + 1]), size)))(keys)
    counts = collections.Counter(map(tuple, np.asarray(drawn)[:, :2].tolist()))
    assert len(counts) == 20
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 43.8
    across = collections.Counter(map(tuple, np.asarray(drawn)[:, 1:3].tolist()))
    assert len(across) == 25
    assert sum((n - 800) ** 2 / 800 for n in across.values()) < 51.2


def test_large_sets_are_sampled_evenly():
    keys = jax.random.split(jax.random.key(3), 400)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: shuffled(key, jnp.arange(100), 60_000)))(keys))
    assert all(len(set(row)) == 100 for row in drawn.tolist())
    counts = np.bincount(drawn.ravel() * 50 // 60_000, minlength=50)
    assert np.sum((counts - 800) ** 2 / 800) < 85.4  # 49 degrees of freedom
    # No order survives: the correlation of place and value has standard error 1 / sqrt(40,000).
    places = np.tile(np.arange(100), 400)
    assert abs(np.corrcoef(places, drawn.ravel())[0, 1]) < 0.02
