"""A random order of the inputs, the same for all examples of a lifetime: where a pixel is tells nothing."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.tasks.base import Examples, Transform
from vsml.tasks.transforms.chance import check_probability, happens
from vsml.types import Key


@dataclass(frozen=True)
class PixelPermutation(Transform):
    """Permutes the flattened input; its shape stays.

    Attributes:
      probability: share of the lifetimes that are permuted.
    """

    probability: float = 1.0

    def __post_init__(self):
        check_probability("transforms.PixelPermutation", self.probability)

    def apply(self, key: Key, examples: Examples) -> Examples:
        chance_key, order_key = jax.random.split(key)
        flat = examples.x.reshape(examples.x.shape[0], -1)
        same = jnp.arange(flat.shape[1])
        order = jnp.where(happens(chance_key, self.probability), jax.random.permutation(order_key, same), same)
        return examples._replace(x=flat[:, order].reshape(examples.x.shape))
