"""Every image moved by a few pixels of its own: in meta-training, features that do not mind where a stroke is.

    x_n[i, j] <- x_n[i + u_n, j + v_n]      u_n, v_n ~ U{-pixels, ..., pixels};  beyond the border the nearest pixel

Source: as augmentation of Omniglot, Santoro, Bartunov, Botvinick, Wierstra, Lillicrap 2016, "Meta-learning with
memory-augmented neural networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import Examples, Transform
from vsml.types import Array, Key


@dataclass(frozen=True)
class Translate(Transform):
    """Moves each image [height, width, channels] of a lifetime, independently of the others.

    Attributes:
      pixels: the largest distance, up or down and left or right.
    """

    pixels: int = 2

    def __post_init__(self):
        if self.pixels < 1:
            raise UserError(f"transforms.Translate.pixels is {self.pixels}: give at least 1, or leave it out")

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        if len(input_shape) != 3:
            raise UserError(
                f"transforms.Translate needs images [height, width, channels], not {list(input_shape)}: leave it out"
            )
        return input_shape, num_classes

    def apply(self, key: Key, examples: Examples) -> Examples:
        border = (self.pixels, self.pixels)
        padded = jnp.pad(examples.x, ((0, 0), border, border, (0, 0)), mode="edge")
        corners = jax.random.randint(key, (len(examples.x), 2), 0, 2 * self.pixels + 1)

        def moved(image: Array, corner: Array) -> Array:
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), examples.x.shape[1:])

        return examples._replace(x=jax.vmap(moved)(padded, corners))
