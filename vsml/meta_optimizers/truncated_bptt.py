"""Truncated backpropagation through time: the exact gradient within a window, none across its start.

    g = mean_p d/dV_M L_p,w(V_M, s_p)      s_p: the state that the window starts from, a constant

Memory grows with the window, not with the lifetime, and meta-steps come sooner; what the meta-parameters did to the
state before the window is missing, so that the estimate is biased towards what pays within a window.

Source: Williams & Peng 1990, An efficient gradient-based algorithm for on-line training of recurrent network
  trajectories; Metz et al. 2019, arXiv 1810.10180, for its bias in meta-learning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from vsml.fields import MAY_CHANGE
from vsml.meta_optimizers.base import EstimatorState, Lifetimes, PartialLifetime, Population
from vsml.meta_optimizers.bptt import check_backprop, clip_to
from vsml.meta_optimizers.truncation import Truncated, end_where
from vsml.types import Key, Metrics, Params


@dataclass(frozen=True)
class TruncatedBPTT(Truncated):
    """Backprop through time over windows of lifetimes, whose state is carried from meta-step to meta-step.

    Attributes:
      segment: examples per rematerialised segment of a window; None keeps the state of every example of the window.
      clip: global norm that the gradient of each window is clipped to before the mean; None leaves it alone.
    """

    segment: int | None = field(default=None, metadata=MAY_CHANGE)
    clip: float | None = None

    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backprop("TruncatedBPTT", self.segment, self.clip)

    def init_members(self, params: Params, keys: Key, lifetimes: Lifetimes) -> PartialLifetime:
        return self.start_staggered(params, keys, lifetimes)

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        window = self.window_of(lifetimes)
        segment = window if self.segment is None else self.segment

        def member(key: Key, lifetime: PartialLifetime) -> tuple[tuple[Params, Metrics], PartialLifetime]:
            lifetime, _ = self.renew(lifetime, key, lifetimes)
            run = jax.grad(lambda p: lifetimes.run(p, lifetime, window, segment), has_aux=True)
            gradient, (lifetime, metrics) = run(params)
            finite = jnp.isfinite(metrics["loss"])
            for leaf in jax.tree.leaves(gradient):
                finite &= jnp.isfinite(leaf).all()
            return (clip_to(self.clip, gradient), metrics), end_where(~finite, lifetime)

        (gradient, metrics), members = self.mean_and_each(member, population.keys, state.members)
        return gradient, EstimatorState(members=members), metrics
