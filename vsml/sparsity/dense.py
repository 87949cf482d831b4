"""Every input neuron is connected to every output neuron: a grid of in x out sub-RNNs.

    fwd_b(k+1) = R_a f_fwd(s_ab(k)),   bwd_a(k-1) = R_b f_bwd(s_ab(k)),   R = mean, sum or sum / sqrt(n)

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, equations of the layered form. The paper sums; `mean` is how its
results were obtained; `sqrt` keeps the variance of independent messages.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from vsml.sparsity.base import Reduce, Reduction, Sparsity, Wiring
from vsml.types import Array


def reduction_scale(reduction: Reduction, count: int) -> float:
    """What the sum over `count` messages is multiplied with."""
    return {"mean": 1.0 / count, "sum": 1.0, "sqrt": count**-0.5}[reduction]


@dataclass(frozen=True)
class Dense(Sparsity):
    """All in x out sub-RNNs exist; sub-RNN (a, b) is unit a * out + b."""

    def wire(self, num_inputs: int, num_outputs: int, reduction: Reduction) -> Wiring:
        grid = (num_inputs, num_outputs)
        units = num_inputs * num_outputs

        def spread(message: Array, axis: int) -> Array:
            return jnp.broadcast_to(jnp.expand_dims(message, axis), (message.shape[0], *grid)).reshape(-1, units)

        def reduce(axis: int, count: int) -> Reduce:
            scale = reduction_scale(reduction, count)
            return Reduce(lambda sent: jnp.sum(sent.reshape(-1, *grid), axis=axis) * scale, total=count * scale)

        return Wiring(
            units=units,
            fan_in=num_inputs,
            spread_forward=lambda message: spread(message, axis=2),
            spread_backward=lambda message: spread(message, axis=1),
            reduce_forward=reduce(axis=1, count=num_inputs),
            reduce_backward=reduce(axis=2, count=num_outputs),
        )
