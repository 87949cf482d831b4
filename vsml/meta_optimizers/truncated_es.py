"""Truncated evolution strategies: antithetic pairs that live on by one window of a lifetime per meta-step.

    eps_p ~ N(0, I) at every meta-step      g = mean_p eps_p (L+_p,w - L-_p,w) / (2 sigma)

Both halves of a pair keep a state of their own through the same lifetime. What earlier perturbations did to the state
is not accounted for, so that the estimate is biased towards what pays within a window; PES is the cure.

Source: the baseline of Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vsml.meta_optimizers.base import EstimatorState, Lifetimes, PartialLifetime, Population, mean_over_members
from vsml.meta_optimizers.es import check_sigma, noise_key, noise_like, shifted, sigma_at
from vsml.meta_optimizers.truncation import Truncated, end_where
from vsml.tasks.base import World
from vsml.types import Array, Key, Metrics, Params, State

Own = tuple[State, World, Metrics]
"""What each half of a pair has for itself: the learner's state, the task's world, and curves."""


class Pair(NamedTuple):
    """What a member carries from meta-step to meta-step."""

    lifetime: PartialLifetime  # leaves of `state`, `world` and `curves` [2, ...]
    accumulated: Params  # PES: sum of eps / sigma over the windows of this lifetime so far; otherwise ()


@dataclass(frozen=True)
class TruncatedES(Truncated):
    """Antithetic evolution strategies on windows of lifetimes. A population member is a pair.

    Attributes:
      sigma: standard deviation of the perturbations of V_M: a number, or an optax schedule of the meta-step.
    """

    sigma: float | optax.Schedule = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sigma(f"meta_optimizers.{type(self).__name__}", self.sigma)

    def init_members(self, params: Params, keys: Key, lifetimes: Lifetimes) -> Pair:
        lifetime = self.start_staggered(params, keys, lifetimes)
        lifetime = _with_own(lifetime, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf], axis=1), _own(lifetime)))
        return Pair(lifetime, jax.vmap(lambda _: self.nothing(params))(keys))

    def nothing(self, params: Params) -> Params:
        """What a lifetime starts to accumulate from."""
        return ()

    def accumulate(self, accumulated: Params, drawn: Params) -> tuple[Params, Params]:
        """What is carried on after eps / sigma = `drawn`, and the direction that the difference of a pair counts in."""
        return accumulated, drawn

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        sigma, window = sigma_at(self.sigma, population.step), self.window_of(lifetimes)

        def member(key: Key, pair: Pair) -> tuple[tuple[Params, Metrics], Pair]:
            lifetime, renewed = self.renew(pair.lifetime, key, lifetimes)
            noise = noise_like(noise_key(key), params)

            def half(scale: Array, own: Own) -> tuple[Array, tuple[PartialLifetime, Metrics]]:
                return lifetimes.run(shifted(params, noise, scale), _with_own(lifetime, own), window)

            losses, (lived, metrics) = self.for_each(half, sigma * jnp.array([1.0, -1.0]), _own(lifetime))
            # Both live the same lifetime.
            lifetime = lived._replace(key=lived.key[0], position=lived.position[0], length=lived.length[0])
            before = jax.tree.map(lambda leaf: jnp.where(renewed, 0, leaf), pair.accumulated)
            accumulated, direction = self.accumulate(before, jax.tree.map(lambda e: e / sigma, noise))
            slope = (losses[0] - losses[1]) / 2
            lifetime = end_where(~jnp.isfinite(losses).all(), lifetime)
            gradient = jax.tree.map(lambda d: slope * d, direction)
            return (gradient, mean_over_members(metrics)), Pair(lifetime, accumulated)

        (gradient, metrics), members = self.mean_and_each(member, population.keys, state.members)
        return gradient, EstimatorState(members=members), metrics


def _own(lifetime: PartialLifetime) -> Own:
    return lifetime.state, lifetime.world, lifetime.curves


def _with_own(lifetime: PartialLifetime, own: Own) -> PartialLifetime:
    state, world, curves = own
    return lifetime._replace(state=state, world=world, curves=curves)
