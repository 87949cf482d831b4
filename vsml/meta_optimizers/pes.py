"""Persistent evolution strategies: truncated ES without its bias.

    eps_p,w ~ N(0, I) in window w    xi_p,w = sum_{v <= w} eps_p,v / sigma_v    g = mean_p xi_p,w (L+_p,w - L-_p,w) / 2

The loss of a window depends on the perturbations of all windows of its lifetime so far, by way of the state; weighing
it with their sum gives the gradient of the lifetime's smoothed loss, where every window is perturbed again. The sum is
carried from meta-step to meta-step; its variance, and with it that of g, grows with the number of windows.

Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.meta_optimizers.truncated_es import TruncatedES
from vsml.types import Params


@dataclass(frozen=True)
class PES(TruncatedES):
    """Truncated evolution strategies that remember their perturbations: unbiased. A population member is a pair."""

    def nothing(self, params: Params) -> Params:
        return jax.tree.map(jnp.zeros_like, params)

    def accumulate(self, accumulated: Params, drawn: Params) -> tuple[Params, Params]:
        total = jax.tree.map(jnp.add, accumulated, drawn)
        return total, total
