"""Evolution strategies: the gradient of the loss smoothed by Gaussian noise, from antithetic pairs.

    eps_p ~ N(0, I)      L+-_p = L_p(V_M +- sigma eps_p)      g = mean_p eps_p (L+_p - L-_p) / (2 sigma)

Both halves of a pair live the same lifetime (same task, same initial state), so that their difference is due to eps
alone.

Source: Salimans et al. 2017, arXiv 1703.03864; settings of Kirsch & Schmidhuber 2021, arXiv 2012.14905.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.meta_optimizers.base import Lifetimes, MetaOptimizer
from vsml.types import Array, Key, Metrics, Params


def noise_like(key: Key, params: Params) -> Params:
    """Standard normal noise in the shape of `params`."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


@dataclass(frozen=True)
class ES(MetaOptimizer):
    """Antithetic evolution strategies without fitness shaping. A population member is a pair.

    Attributes:
      sigma: standard deviation of the perturbations of V_M.
    """

    sigma: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise UserError(f"meta_optimizers.ES.sigma is {self.sigma}: set it above 0")

    def gradient(self, params: Params, state: Any, keys: Key, lifetimes: Lifetimes) -> tuple[Params, Any, Metrics]:
        def pair(key: Key) -> tuple[Params, Metrics]:
            lifetime_key, noise_key = jax.random.split(key)
            noise = noise_like(noise_key, params)

            def loss(scale: Array) -> tuple[Array, Metrics]:
                return lifetimes.loss(jax.tree.map(lambda p, e: p + scale * e, params, noise), lifetime_key)

            losses, metrics = jax.vmap(loss)(jnp.array([self.sigma, -self.sigma]))
            slope = (losses[0] - losses[1]) / (2 * self.sigma)
            return jax.tree.map(lambda e: slope * e, noise), jax.tree.map(lambda m: m.mean(axis=0), metrics)

        gradient, metrics = self.over_members(pair, keys)
        return gradient, state, metrics
