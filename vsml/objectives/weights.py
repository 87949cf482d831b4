"""Ways to weigh the losses of single predictions, shared by the objectives."""

from __future__ import annotations

import jax.numpy as jnp

from vsml.types import Array


def weighted_mean(values: Array, weight: Array) -> Array:
    """Mean of `values` weighted by `weight`, of the same shape; 0 where the weight is empty."""
    total = jnp.sum(weight)
    return jnp.sum(values * weight) / jnp.where(total == 0, 1.0, total)


def shares(weights: Array) -> Array:
    """Weights scaled so that they sum to 1; all 0 where they are."""
    total = jnp.sum(weights)
    return weights / jnp.where(total == 0, 1.0, total)


def between(weight: Array, start: Array | int, end: Array | int) -> Array:
    """1 for the steps start..end - 1 of a weight [T, B], 0 elsewhere: [T, 1]."""
    step = jnp.arange(weight.shape[0])[:, None]
    return ((start <= step) & (step < end)).astype(weight.dtype)
