"""Evolution strategies: the gradient of the loss smoothed by Gaussian noise, from antithetic pairs.

    eps_p ~ N(0, I)      L+-_p = L_p(V_M +- sigma eps_p)      g = mean_p eps_p (F+_p - F-_p) / (2 sigma)

Both halves of a pair live the same lifetime (same task, same initial state), so that their difference is due to eps
alone. It is the lifetime that the member of this index lives under backprop: comparisons of estimators are paired. F is
L, or L shaped by its place among the losses of the whole population, both halves of every pair: its z-score, or its
centred rank, which makes the estimate blind to the scale of the loss and to outliers.

Source: Salimans et al. 2017, arXiv 1703.03864; settings of Kirsch & Schmidhuber 2021, arXiv 2012.14905.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from vsml.errors import UserError
from vsml.meta_optimizers.base import (
    NOISE_STREAM,
    EstimatorState,
    Lifetimes,
    MetaOptimizer,
    Population,
    mean_over_members,
)
from vsml.types import Array, Key, Metrics, Params


def noise_key(key: Key) -> Key:
    """The key of a member's noise; the key itself is that of its lifetime, the same as under backprop."""
    return jax.random.fold_in(key, NOISE_STREAM)


def noise_like(key: Key, params: Params) -> Params:
    """Standard normal noise in the shape of `params`."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def shifted(params: Params, noise: Params, scale: Array) -> Params:
    """params + scale * noise."""
    return jax.tree.map(lambda p, e: p + scale * e, params, noise)


def check_sigma(name: str, sigma: float | optax.Schedule) -> None:
    """Raises `UserError` for a number that is no standard deviation; schedules are taken at their word."""
    if not callable(sigma) and not sigma > 0:
        raise UserError(f"{name}.sigma is {sigma}: set it above 0")


def sigma_at(sigma: float | optax.Schedule, step: Array | int) -> Array:
    """The standard deviation of the perturbations at a meta-step."""
    return jnp.asarray(sigma(step) if callable(sigma) else sigma, float)


def z_scores(losses: Array) -> Array:
    """Losses scaled to mean 0 and standard deviation 1; 0 where all are the same."""
    deviation = losses.std()
    return (losses - losses.mean()) / jnp.where(deviation == 0, 1.0, deviation)


def centred_ranks(losses: Array) -> Array:
    """Ranks of the losses, scaled to -1/2 (lowest) .. 1/2 (highest); equal losses share the mean of their ranks."""
    flat = losses.ravel()
    ordered = jnp.sort(flat)
    below, not_above = (jnp.searchsorted(ordered, flat, side=side) for side in ("left", "right"))
    ranks = (below + not_above - 1) / 2
    return (ranks / (flat.size - 1) - 0.5).astype(losses.dtype).reshape(losses.shape)


SHAPINGS = {"none": lambda losses: losses, "z_score": z_scores, "centred_rank": centred_ranks}


@dataclass(frozen=True)
class ES(MetaOptimizer):
    """Antithetic evolution strategies. A population member is a pair.

    Attributes:
      sigma: standard deviation of the perturbations of V_M: a number, or an optax schedule of the meta-step.
      shaping: of the losses: `none` (the paper's choice), `z_score` or `centred_rank` over the population.
    """

    sigma: float | optax.Schedule = 0.05
    shaping: Literal["none", "z_score", "centred_rank"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sigma("meta_optimizers.ES", self.sigma)
        if self.shaping not in SHAPINGS:
            raise UserError(f"meta_optimizers.ES.shaping is {self.shaping!r}: choose one of {', '.join(SHAPINGS)}")

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        sigma = sigma_at(self.sigma, population.step)

        def pair(key: Key) -> tuple[Array, Metrics]:
            noise = noise_like(noise_key(key), params)
            losses, metrics = self.for_each(
                lambda scale: lifetimes.loss(shifted(params, noise, scale), key),
                sigma * jnp.array([1.0, -1.0]),
            )
            return losses, mean_over_members(metrics)

        def pull(key: Key, slope: Array) -> Params:
            noise = noise_like(noise_key(key), params)  # drawn again rather than kept
            return jax.tree.map(lambda e: slope * e, noise)

        losses, metrics = self.for_each(pair, population.keys)
        scores = self._shaped(losses, population)
        slopes = (scores[:, 0] - scores[:, 1]) / (2 * sigma)
        gradient = self.mean_of_each(pull, population.keys, slopes)
        return gradient, state, mean_over_members(metrics)

    def _shaped(self, losses: Array, population: Population) -> Array:
        """The losses [members, 2] of the pairs on this device, as they count."""
        if self.shaping == "none":
            return losses
        return population.own(SHAPINGS[self.shaping](population.everyone(losses)))
