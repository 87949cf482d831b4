"""A shift within a lifetime: what a transform has drawn holds up to some example; from there on another draw does.

With `LabelPermutation` the labels change their meaning, with `RandomProjection` or `PixelPermutation` the inputs do:
does the learner notice, forget and learn again? Wrap one transform for one shift, several at the same example for a new
task, a wrapped one again for a further shift.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.errors import UserError
from vsml.tasks.base import Examples, Transform
from vsml.types import Array, Key


@dataclass(frozen=True)
class Redrawn(Transform):
    """Draws the randomness of a transform again in mid-lifetime.

    Attributes:
      transform: any; up to the shift a lifetime is what it would be with this one alone.
      at: the first example of the new draw, counted from 0 in the order of presentation (with B examples per step,
        example `at` is of step `at // B`).
    """

    transform: Transform
    at: int

    def __post_init__(self):
        if self.at < 1:
            raise UserError(f"transforms.Redrawn.at is {self.at}: give at least 1, the second example")
        if self.at in self.transform.changes:
            raise UserError(f"transforms.Redrawn.at is {self.at}, where its transform changes already: give another")

    @property
    def changes(self) -> tuple[int, ...]:
        return tuple(sorted((*self.transform.changes, self.at)))

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        return self.transform.output_spec(input_shape, num_classes)

    def relabel(self, key: Key, num_classes: int) -> Array | None:
        return self.transform.relabel(key, num_classes)

    def apply(self, key: Key, examples: Examples) -> Examples:
        return self.transform.apply(key, examples)
