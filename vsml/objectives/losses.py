"""Cross-entropy of single predictions, shared by the objectives."""

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
