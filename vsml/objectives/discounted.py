"""Mean loss with weights that fall or grow over a lifetime: learn fast, or know much in the end.

    L = sum_t gamma^t L_t / sum_t gamma^t

Source: gamma < 1 is the usual discount of the future; gamma > 1 weighs late predictions more, between the online mean
  (gamma = 1) and the last prediction (gamma to infinity). Weights over the inner steps: Andrychowicz et al. 2016, arXiv
  1606.04474, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp

from vsml.errors import UserError
from vsml.objectives.base import LinearObjective
from vsml.objectives.weights import shares
from vsml.types import Array


@dataclass(frozen=True)
class Discounted(LinearObjective):
    """Mean loss where the task lets it count, the weight of every step `factor` times that of the step before.

    Attributes:
      factor: gamma, above 0; below 1 early predictions count more, above 1 late ones.
    """

    factor: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise UserError(f"objectives.Discounted.factor is {self.factor}: set it above 0, and finite")

    def weights(self, weight: Array, length: Array | int) -> Array:
        # Counted from where the weight is largest, which no lifetime is too long for.
        largest = 0 if self.factor <= 1 else length - 1
        steps = (jnp.arange(weight.shape[0]) - largest)[:, None]
        # Beyond the end of the lifetime the weight is 0, and powers might overflow.
        exponents = jnp.where(jnp.arange(weight.shape[0])[:, None] < length, steps * math.log(self.factor), 0.0)
        return shares(weight * jnp.exp(exponents).astype(weight.dtype))
