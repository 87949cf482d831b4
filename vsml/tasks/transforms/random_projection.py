"""A random linear map of the flattened input, which turns one data set into endlessly many tasks.

    x <- x R,  R ~ U(-l, l) of shape [n, n],  l = sqrt(6 / 2n),  so that Var(x R) = mean(x^2)

Source: the experiments of Kirsch and Schmidhuber, arXiv 2012.14905.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.tasks.base import Examples, Transform
from vsml.tasks.transforms.chance import check_probability, happens
from vsml.types import Key


@dataclass(frozen=True)
class RandomProjection(Transform):
    """Projects all inputs of a lifetime by one random matrix; their shape stays.

    Attributes:
      probability: share of the lifetimes that are projected.
    """

    probability: float = 1.0

    def __post_init__(self):
        check_probability("transforms.RandomProjection", self.probability)

    def apply(self, key: Key, examples: Examples) -> Examples:
        chance_key, matrix_key = jax.random.split(key)
        flat = examples.x.reshape(examples.x.shape[0], -1)
        size = flat.shape[1]
        limit = math.sqrt(6.0 / (2.0 * size))
        matrix = jax.random.uniform(matrix_key, (size, size), minval=-limit, maxval=limit)
        projected = (flat @ matrix).reshape(examples.x.shape)
        return examples._replace(x=jnp.where(happens(chance_key, self.probability), projected, examples.x))
