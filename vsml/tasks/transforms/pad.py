"""Zeros around the input and classes that never occur, for learners whose meta-parameters fix both sizes."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import Examples, Transform
from vsml.types import Key


@dataclass(frozen=True)
class Pad(Transform):
    """Pads with zeros: images centred in height and width (an odd pixel goes below and right), other axes at their end.

    Attributes:
      input_shape: new shape of an input, with as many axes as the old one; by default unchanged.
      num_classes: new number of classes; by default unchanged.
    """

    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None

    def __post_init__(self):
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", tuple(self.input_shape))

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        shape = input_shape if self.input_shape is None else self.input_shape
        classes = num_classes if self.num_classes is None else self.num_classes
        if len(shape) != len(input_shape) or any(new < old for new, old in zip(shape, input_shape, strict=True)):
            raise UserError(f"transforms.Pad cannot pad inputs {list(input_shape)} to {list(shape)}: give larger sizes")
        if classes < num_classes:
            raise UserError(f"transforms.Pad cannot pad {num_classes} classes to {classes}: give at least as many")
        return shape, classes

    def apply(self, key: Key, examples: Examples) -> Examples:
        old = examples.x.shape[1:]
        added = [new - size for new, size in zip(self.input_shape or old, old, strict=True)]
        before = [n // 2 if len(old) == 3 and axis < 2 else 0 for axis, n in enumerate(added)]
        widths = [(0, 0), *((first, n - first) for first, n in zip(before, added, strict=True))]
        return examples._replace(x=jnp.pad(examples.x, widths))
