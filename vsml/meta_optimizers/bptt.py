"""Backpropagation through whole lifetimes: the exact meta-gradient of the population's mean loss.

    g = mean_p d/dV_M L_p(V_M)

Memory: the unroll is rematerialised in segments, so that it grows as T / segment + segment learner states.

Source: Werbos 1990; checkpointing after Griewank 1992 and Chen et al. 2016, arXiv 1604.06174.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import optax

from vsml.errors import UserError
from vsml.fields import MAY_CHANGE
from vsml.meta_optimizers.base import EstimatorState, Lifetimes, MetaOptimizer, Population
from vsml.types import Key, Metrics, Params


def check_backprop(name: str, segment: int | None, clip: float | None) -> None:
    """Raises `UserError` for a segment or a clip that is none."""
    if segment is not None and segment < 1:
        raise UserError(f"meta_optimizers.{name}.segment is {segment}: set it to 1 or more, or None")
    if clip is not None and not clip > 0:
        raise UserError(f"meta_optimizers.{name}.clip is {clip}: set it above 0, or None")


def clip_to(norm: float | None, gradient: Params) -> Params:
    """The gradient of one lifetime with its global norm clipped to `norm`; None leaves it alone."""
    if norm is None:
        return gradient
    clipped, _ = optax.clip_by_global_norm(norm).update(gradient, optax.EmptyState())
    return clipped


@dataclass(frozen=True)
class BPTT(MetaOptimizer):
    """Backprop through time over the whole lifetime.

    Attributes:
      segment: examples per rematerialised segment. With T or more the state of every example is kept, which saves a run
        forward; memory is smallest at about sqrt(T). None chooses between the two: T as long as these states take no
        more than 256 MiB on a device.
      clip: global norm that the gradient of each lifetime is clipped to before the mean; None leaves it alone, and the
        mean is the exact meta-gradient. Backprop through long lifetimes explodes in a few of them, which would
        otherwise own the direction of the step, however short a clip after the mean makes it.
    """

    segment: int | None = field(default=None, metadata=MAY_CHANGE)
    clip: float | None = None

    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backprop("BPTT", self.segment, self.clip)

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        segment = self.segment or lifetimes.auto_segment(self.at_once(population.keys))

        def member(key: Key) -> tuple[Params, Metrics]:
            gradient, metrics = jax.grad(lambda p: lifetimes.loss(p, key, segment), has_aux=True)(params)
            return clip_to(self.clip, gradient), metrics

        gradient, metrics = self.mean_of_each(member, population.keys)
        return gradient, state, metrics
