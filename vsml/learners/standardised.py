"""Inputs standardised while they come, in front of any learner: it needs no statistics of the data beforehand.

    after t inputs of a lifetime, the present one included, entry by entry:

    m_t = sum_i x_i / t      v_t = sum_i (x_i - m_t)^2 / t      z = clip((x - m_t) / sqrt(v_t), -bound, bound)

z = 0 where all inputs so far are the same, so in the first. The sum of squares is brought up to date as by Welford
1962, "Note on a method for calculating corrected sums of squares and products", so that it does not cancel where the
mean is large.

One bad input, of other units or with a code for a missing value, must not own the moments. With m and s = sqrt(v) of
the inputs before x, and the mean over its entries with s > 0,

    x is far where  (mean sqrt(|x - m| / s))^2 > FAR     and then enters as  x' = m + clip(x - m, -bound s, bound s)

but only after FEW inputs, and only while fewer than one in RARE so far were far: what comes more often is how the data
are now, and enters as it is. A mean of roots, since an entry that has hardly varied, such as a pixel at the edge of
images, has a very large |x - m| / s in ordinary data. The root mean square is then above 3 in 6 % of the images of
MNIST, up to 200; the square of the mean of roots is never above 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.front_end import FrontEnd
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key

ROUNDING = 1e-6
"""Standard deviations up to this share of the mean may be rounding of float32."""
LARGEST = 1e18
"""Of what is read: float32 holds the square."""
FAR = 10.0
"""Standard deviations; digits, MNIST, wine, breast cancer and iris have 8 at most, also one class after the other."""
FEW = 5
RARE = 10


class Moments(NamedTuple):
    """Of all inputs so far."""

    count: Array  # scalar
    mean: Array  # [*input_shape]
    squares: Array  # [*input_shape], sum of squared differences from the mean
    far: Array | int = 0  # how many of the inputs were far from those before

    @property
    def std(self) -> Array:
        """[*input_shape]; 0 where inputs vary by no more than rounding."""
        std = jnp.sqrt(self.squares / jnp.maximum(self.count, 1))
        return jnp.where(std > ROUNDING * jnp.abs(self.mean), std, 0.0)

    def with_batch(self, x: Array) -> Moments:
        """After the inputs [B, *input_shape]."""
        size = x.shape[0]
        count, mean = self.count + size, x.mean(axis=0)
        shift = mean - self.mean
        squares = jnp.square(x - mean[None]).sum(axis=0) + jnp.square(shift) * (self.count * size / count)
        return Moments(count, self.mean + shift * (size / count), self.squares + squares, self.far)

    def bounded(self, x: Array, bound: float) -> tuple[Moments, Array]:
        """x [B, *input_shape] as it should enter, where inputs far from all before are bounded; these are counted."""
        std, entries = self.std, tuple(range(1, x.ndim))
        shift = x - self.mean[None]
        roots = jnp.sqrt(jnp.abs(shift) * _inverse(std)[None]).sum(entries) / jnp.maximum((std > 0).sum(), 1)
        far = (jnp.square(roots) > FAR) & (self.count >= FEW) & (RARE * self.far < self.count)
        near = self.mean[None] + jnp.clip(shift, -bound * std[None], bound * std[None])
        return self._replace(far=self.far + far.sum()), jnp.where(jnp.expand_dims(far, entries), near, x)

    def standardised(self, x: Array, bound: float) -> Array:
        """x [B, *input_shape] in standard deviations; 0 where inputs vary by no more than rounding."""
        return jnp.clip((x - self.mean[None]) * _inverse(self.std)[None], -bound, bound)


@dataclass(frozen=True)
class Standardised(FrontEnd):
    """A learner that reads inputs of about mean 0 and variance 1, whatever the scale of the data.

    Attributes:
      bound: of what is read, in standard deviations: an entry that has been constant so far may change. An input that
        is far from all before counts as one within it.
    """

    bound: float = 3.0

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise UserError(f"learners.Standardised.bound is {self.bound}: set it above 0")

    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return spec.input_shape

    def begin(self, key: Key, spec: TaskSpec) -> Moments:
        none = jnp.zeros(spec.input_shape)
        return Moments(jnp.zeros(()), none, none, jnp.int32(0))

    def see(self, front: Moments, x: Array) -> tuple[Moments, Array]:
        """z [B, *input_shape]; x counts among the inputs so far."""
        x = jnp.clip(x, -LARGEST, LARGEST)
        front, counted = front.bounded(x, self.bound)
        moments = front.with_batch(counted)
        return moments, moments.standardised(x, self.bound)


def _inverse(std: Array) -> Array:
    """1 / std, and 0 where std is 0."""
    return jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1.0), 0.0)
