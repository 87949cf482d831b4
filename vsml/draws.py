"""Random draws that several rooms make."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vsml.types import Array, Key


def log_uniform_int(key: Key, least: int, most: int) -> Array:
    """A number n in least..most, scalar int32, with the probability log((n + 1) / n) / log((most + 1) / least)."""
    exponent = jax.random.uniform(key) * jnp.log((most + 1) / least)
    return jnp.clip(jnp.floor(least * jnp.exp(exponent)), least, most).astype(jnp.int32)
