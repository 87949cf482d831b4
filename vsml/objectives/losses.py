"""Cross-entropy of single predictions and ways to weigh it, shared by the objectives."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vsml.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy in nats of `logits` [..., classes] against one-hot `labels` [..., classes]: [...]."""
    return -jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of `values` where `mask`, of the same shape, is 1; 0 where the mask is empty."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def shares(weights: Array) -> Array:
    """Weights scaled so that they sum to 1; all 0 where they are."""
    total = jnp.sum(weights)
    return weights / jnp.where(total == 0, 1.0, total)


def between(mask: Array, start: Array | int, end: Array | int) -> Array:
    """1 for the steps start..end - 1 of a mask [T, B], 0 elsewhere: [T, 1]."""
    step = jnp.arange(mask.shape[0])[:, None]
    return ((start <= step) & (step < end)).astype(mask.dtype)
