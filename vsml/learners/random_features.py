"""Random ReLU features in front of any learner: it reads what a layer makes of the input that no lifetime changes.

    f = relu(u R + b - threshold)       R ~ N(0, 1/n) [n, F]       b ~ N(0, offset^2) [F], both drawn in every lifetime
    u = x sqrt(n + 1) / sqrt(|x|^2 + 1)

A layer of sub-RNNs adds up functions of single inputs. Sums over random features can say what such sums of pixels
cannot, and do not depend on the size of the input or on the order of its entries: a random projection of the input and
the input itself are one problem. A threshold makes features rare, so that one of them says more about what is near: the
nearer two inputs, the more features they share.

Source: Rahimi & Recht 2008, "Weighted sums of random kitchen sinks"; features as those of
`learners.RecursiveLeastSquares`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax

from vsml.errors import UserError
from vsml.learners.front_end import FrontEnd, unit
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key

OFFSET = 0.3
"""Standard deviation of b, whose values put the kinks of the features at different distances from 0."""


class Drawn(NamedTuple):
    """What a lifetime draws at its start and keeps."""

    directions: Array  # [n, F]
    offsets: Array  # [F]

    def __call__(self, x: Array, threshold: float = 0.0) -> Array:
        """Features [B, F] of x [B, *input_shape]."""
        return jax.nn.relu(x.reshape(x.shape[0], -1) @ self.directions + (self.offsets - threshold)[None])


def draw(key: Key, num_inputs: int, num_features: int) -> Drawn:
    """Directions of unit length on average, so that inputs of unit variance give features of one size at any n."""
    directions, offsets = jax.random.split(key)
    return Drawn(
        jax.random.normal(directions, (num_inputs, num_features)) / num_inputs**0.5,
        OFFSET * jax.random.normal(offsets, (num_features,)),
    )


@dataclass(frozen=True)
class RandomFeatures(FrontEnd):
    """A learner that reads random features of the inputs.

    Attributes:
      num: F, the number of features.
      threshold: in standard deviations of what it is subtracted from: 0 makes half of the features of an input 0, 1
        makes 84 % of them 0.
      same_length: whether inputs are scaled to one length, u, so that bright images have no more features than dark
        ones. If not, u = x.
    """

    num: int = 512
    threshold: float = 0.0
    same_length: bool = False

    def __post_init__(self) -> None:
        if self.num < 1:
            raise UserError(f"learners.RandomFeatures.num is {self.num}: set it to 1 or more")

    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return (self.num,)

    def begin(self, key: Key, spec: TaskSpec) -> Drawn:
        return draw(key, spec.num_inputs, self.num)

    def see(self, front: Drawn, x: Array) -> tuple[Drawn, Array]:
        """f [B, F]."""
        return front, front(_of_one_length(x) if self.same_length else x, self.threshold)

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """What the learner that reads the features says of itself, and their number."""
        return {"random features": self.num, **super().describe(spec)}


def _of_one_length(x: Array) -> Array:
    """Inputs [B, n] of about unit variance, all of one length but for the constant entry of `unit`."""
    x = unit(x)
    return x[:, :-1] * x.shape[1] ** 0.5
