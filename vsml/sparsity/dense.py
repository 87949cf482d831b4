"""Every input neuron is connected to every output neuron: a grid of in x out sub-RNNs.

    fwd_b(k+1) = R_a f_fwd(s_ab(k)),   bwd_a(k-1) = R_b f_bwd(s_ab(k)),   R = mean, sum or sum / sqrt(n)

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, equations of the layered form. The paper sums; `mean` is how its
results were obtained; `sqrt` keeps the variance of independent messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.hardware import sums_as_product
from vsml.sparsity.base import Reduce, Reduction, Shape, Sparsity, Wiring, reduction_scale
from vsml.types import Array

MOST_UNITS = 2**31 - 1
"""Places are 32-bit integers."""


@dataclass(frozen=True)
class Dense(Sparsity):
    """All in x out sub-RNNs exist; sub-RNN (a, b) is unit a * out + b."""

    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        grid = (math.prod(input_shape), math.prod(output_shape))
        units = grid[0] * grid[1]
        if units > MOST_UNITS:
            raise UserError(
                f"sparsity.Dense: a layer of {grid[0]:,} x {grid[1]:,} neurons would have {units:,} sub-RNNs, more "
                "than can be numbered: lower its sizes, or wire it sparsely, as sparsity/local.gin does"
            )
        inputs, outputs = np.indices(grid)

        def spread(message: Array, axis: int) -> Array:
            return jnp.broadcast_to(jnp.expand_dims(message, axis), (message.shape[0], *grid)).reshape(-1, units)

        def reduce(axis: int, count: int) -> Reduce:
            scale = float(reduction_scale(reduction, count))
            receiver, receivers = (outputs, grid[1]) if axis == 1 else (inputs, grid[0])
            if not sums_as_product(units * receivers):
                return Reduce(lambda out: jnp.sum(out.reshape(-1, *grid), axis=axis) * scale, total=count * scale)
            matrix = scale * (receiver.reshape(-1, 1) == np.arange(receivers))
            return Reduce(lambda out: out @ matrix.astype(out.dtype), total=count * scale)

        return Wiring(
            inputs=grid[0],
            outputs=grid[1],
            units=units,
            fan_in=grid[0],
            input_of=inputs.ravel(),
            output_of=outputs.ravel(),
            spread_forward=lambda message: spread(message, axis=2),
            spread_backward=lambda message: spread(message, axis=1),
            reduce_forward=reduce(axis=1, count=grid[0]),
            reduce_backward=reduce(axis=2, count=grid[1]),
        )
