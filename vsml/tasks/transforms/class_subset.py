"""Lifetimes with fewer classes: a random subset of them, renamed 0, 1, ... in random order."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import Transform
from vsml.types import Array, Key


@dataclass(frozen=True)
class ClassSubset(Transform):
    """Keeps the examples of some classes, drawn per lifetime.

    Attributes:
      num_classes: how many classes a lifetime has.
    """

    num_classes: int

    def __post_init__(self):
        if self.num_classes < 1:
            raise UserError(f"transforms.ClassSubset.num_classes is {self.num_classes}: keep at least 1 class")

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        if self.num_classes > num_classes:
            raise UserError(
                f"transforms.ClassSubset cannot keep {self.num_classes} of {num_classes} classes: give fewer"
            )
        return input_shape, self.num_classes

    def relabel(self, key: Key, num_classes: int) -> Array:
        # The first `num_classes` places of a random ranking are the new labels, the rest is left out.
        rank = jax.random.permutation(key, jnp.arange(num_classes, dtype=jnp.int32))
        return jnp.where(rank < self.num_classes, rank, -1)
