"""Transforms that happen in some lifetimes only."""

from __future__ import annotations

import jax

from vsml.errors import UserError
from vsml.types import Array, Key


def check_probability(part: str, probability: float) -> None:
    """Raises `UserError` unless `probability` is one."""
    if not 0.0 <= probability <= 1.0:
        raise UserError(f"{part}.probability is {probability}: give a number from 0 to 1")


def happens(key: Key, probability: float) -> Array:
    """Scalar bool, true with `probability`; 0 is never and 1 is always, as the uniform draw is in [0, 1)."""
    return jax.random.bernoulli(key, probability)
