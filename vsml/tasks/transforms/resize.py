"""Images of another size, by bilinear interpolation; shrinking is antialiased (each output averages what it covers)."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from vsml.errors import UserError
from vsml.tasks.base import Examples, Transform
from vsml.types import Key


@dataclass(frozen=True)
class Resize(Transform):
    """Resizes images [height, width, channels].

    Attributes:
      shape: new height and width.
    """

    shape: tuple[int, int]

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise UserError(f"transforms.Resize.shape is {self.shape}: give (height, width), both at least 1")

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        if len(input_shape) != 3:
            raise UserError(
                f"transforms.Resize needs images [height, width, channels], not {list(input_shape)}: leave it out"
            )
        return (*self.shape, input_shape[2]), num_classes

    def apply(self, key: Key, examples: Examples) -> Examples:
        shape = (examples.x.shape[0], *self.shape, examples.x.shape[3])
        return examples._replace(x=jax.image.resize(examples.x, shape, "bilinear", antialias=True))
