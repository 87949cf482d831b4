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

from vsml.meta_optimizers.base import EstimatorState, Lifetimes, Population, Progress, mean_over_members
from vsml.meta_optimizers.es import check_sigma, noise_like, shifted, sigma_at
from vsml.meta_optimizers.truncation import Truncated, end_where
from vsml.types import Array, Key, Metrics, Params, State


class Pair(NamedTuple):
    """What a member carries from meta-step to meta-step."""

    progress: Progress  # leaves of `state` and `accuracy_curve` [2, ...]
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
        progress = self.start_staggered(params, keys, lifetimes)
        both = lambda leaf: jnp.stack([leaf, leaf], axis=1)  # noqa: E731
        progress = progress._replace(
            state=jax.tree.map(both, progress.state), accuracy_curve=both(progress.accuracy_curve)
        )
        return Pair(progress, jax.vmap(lambda _: self.nothing(params))(keys))

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
            lifetime_key, noise_key = jax.random.split(key)
            progress, renewed = self.renew(pair.progress, lifetime_key, lifetimes)
            noise = noise_like(noise_key, params)

            def half(scale: Array, state: State, curve: Array) -> tuple[Array, tuple[Progress, Metrics]]:
                own = progress._replace(state=state, accuracy_curve=curve)
                return lifetimes.run(shifted(params, noise, scale), own, window)

            losses, (lived, metrics) = self.for_each(
                half, sigma * jnp.array([1.0, -1.0]), progress.state, progress.accuracy_curve
            )
            # Both live the same lifetime.
            progress = lived._replace(key=lived.key[0], position=lived.position[0], length=lived.length[0])
            before = jax.tree.map(lambda leaf: jnp.where(renewed, 0, leaf), pair.accumulated)
            accumulated, direction = self.accumulate(before, jax.tree.map(lambda e: e / sigma, noise))
            slope = (losses[0] - losses[1]) / 2
            progress = end_where(~jnp.isfinite(losses).all(), progress)
            gradient = jax.tree.map(lambda d: slope * d, direction)
            return (gradient, mean_over_members(metrics)), Pair(progress, accumulated)

        (gradient, metrics), members = self.mean_and_each(member, population.keys, state.members)
        return gradient, EstimatorState(members=members), metrics
