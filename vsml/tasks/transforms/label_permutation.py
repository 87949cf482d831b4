"""A random renaming of the classes, the same for all examples of a lifetime: labels can only be learned, not known."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.tasks.base import Transform
from vsml.tasks.transforms.chance import check_probability, happens
from vsml.types import Array, Key


@dataclass(frozen=True)
class LabelPermutation(Transform):
    """Permutes the labels.

    Attributes:
      probability: share of the lifetimes that are permuted.
    """

    probability: float = 1.0

    def __post_init__(self):
        check_probability("transforms.LabelPermutation", self.probability)

    def relabel(self, key: Key, num_classes: int) -> Array:
        chance_key, order_key = jax.random.split(key)
        same = jnp.arange(num_classes, dtype=jnp.int32)
        return jnp.where(happens(chance_key, self.probability), jax.random.permutation(order_key, same), same)
