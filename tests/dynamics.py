"""An inner problem whose meta-gradient is known by hand: acting costs now and pays later, by way of the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.meta_optimizers import PartialLifetime


@dataclass(frozen=True)
class Dynamics:
    """s' = s + theta,   L = sum_t sum(cost theta - pay s + curvature s^2 / 2),   s_0 = luck n, theta [2].

    Without curvature dL/dtheta is cost T - pay T (T - 1) / 2 in both entries, whatever theta and s_0. Cut into windows
    of n examples, each starting from a constant, it is cost T - pay T (n - 1) / 2.
    """

    length: int = 6
    cost: float = 3.0
    pay: float = 2.0
    curvature: float = 0.0
    luck: float = 0.0

    def start(self, params: Any, key: Any, length: Any) -> PartialLifetime:
        state = jnp.full_like(params, jnp.nan)  # at position 0 it must not matter
        return PartialLifetime(
            jax.random.key_data(key),
            state,
            world=(),
            position=jnp.zeros((), jnp.int32),
            length=jnp.asarray(length),
            curves={},
        )

    def auto_segment(self, at_once: int) -> int:
        return at_once

    def run(self, params: Any, lifetime: Any, window: int, segment: int | None = None) -> Any:
        fresh = self.luck * jax.random.normal(jax.random.wrap_key_data(lifetime.key), params.shape)
        state, total = jnp.where(lifetime.position == 0, fresh, lifetime.state), 0.0
        for t in range(window):
            lived = lifetime.position + t < lifetime.length
            cost = jnp.sum(self.cost * params - self.pay * state + self.curvature * state**2 / 2)
            total += jnp.where(lived, cost, 0.0)
            state = state + params
        loss = total * ((lifetime.length + window - 1) // window)
        lifetime = lifetime._replace(state=state, position=lifetime.position + window)
        return loss, (lifetime, {"loss": loss, "state": state})

    def loss(self, params: Any, key: Any, segment: int | None = None) -> Any:
        loss, (_, metrics) = self.run(params, self.start(params, key, jnp.array(self.length)), self.length)
        return loss, metrics
