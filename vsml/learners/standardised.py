"""Inputs standardised while they come, in front of any learner: it needs no statistics of the data beforehand.

    after t inputs of a lifetime, the present one included, entry by entry:

    m_t = sum_i x_i / t      v_t = sum_i (x_i - m_t)^2 / t      z = clip((x - m_t) / sqrt(v_t), -bound, bound)

z = 0 where all inputs so far are the same, so in the first. The sum of squares is brought up to date as by Welford
1962, "Note on a method for calculating corrected sums of squares and products", so that it does not cancel where the
mean is large.
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


class Moments(NamedTuple):
    """Of all inputs so far."""

    count: Array  # scalar
    mean: Array  # [*input_shape]
    squares: Array  # [*input_shape], sum of squared differences from the mean

    def with_batch(self, x: Array) -> Moments:
        """After the inputs [B, *input_shape]."""
        size = x.shape[0]
        count, mean = self.count + size, x.mean(axis=0)
        shift = mean - self.mean
        squares = jnp.square(x - mean[None]).sum(axis=0) + jnp.square(shift) * (self.count * size / count)
        return Moments(count, self.mean + shift * (size / count), self.squares + squares)

    def standardised(self, x: Array, bound: float) -> Array:
        """x [B, *input_shape] in standard deviations; 0 where inputs vary by no more than rounding."""
        std = jnp.sqrt(self.squares / self.count)
        varies = std > ROUNDING * jnp.abs(self.mean)
        scale = jnp.where(varies, 1 / jnp.where(varies, std, 1.0), 0.0)
        return jnp.clip((x - self.mean[None]) * scale[None], -bound, bound)


@dataclass(frozen=True)
class Standardised(FrontEnd):
    """A learner that reads inputs of about mean 0 and variance 1, whatever the scale of the data.

    Attributes:
      bound: of what is read, in standard deviations: an entry that has been constant so far may change.
    """

    bound: float = 3.0

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise UserError(f"learners.Standardised.bound is {self.bound}: set it above 0")

    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return spec.input_shape

    def begin(self, key: Key, spec: TaskSpec) -> Moments:
        return Moments(jnp.zeros(()), jnp.zeros(spec.input_shape), jnp.zeros(spec.input_shape))

    def see(self, front: Moments, x: Array) -> tuple[Moments, Array]:
        """z [B, *input_shape]; x counts among the inputs so far."""
        moments = front.with_batch(x)
        return moments, moments.standardised(x, self.bound)
