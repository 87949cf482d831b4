"""Matrix products: their precision, and the forms that are fast.

`float32`: products as exact as their operands, on every device; accelerators would round these by default.
`bfloat16`: operands are rounded to 8 bits of mantissa, sums are single precision, and so are states, gates and
meta-parameters. On accelerators this holds for every product; on a CPU, which gains nothing from it, for those of
sub-RNN states with weights (`product`), so that one can see what it would do.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Literal

import jax
import jax.numpy as jnp

from vsml.hardware import kind
from vsml.types import Array

Precision = Literal["float32", "bfloat16"]

_ROUNDED = "BF16_BF16_F32"

SMALL = 2**14
"""Entries of the matrix that sums over senders, up to which it is used."""


def products_in(precision: Precision) -> AbstractContextManager[None]:
    """The precision of all products that are traced within this context."""
    exact = None if kind.is_cpu() else "float32"  # a CPU never rounds
    return jax.default_matmul_precision(_ROUNDED if precision == "bfloat16" else exact)


def _in_context() -> str | None:
    return getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009  a context's value is not to be `read`


def product(columns: Array, inputs: Array) -> Array:
    """The products of weights, given as columns [k, n], with inputs [k, ...]: [n, ...].

    Columns with columns: XLA's CPU compiler has a faster routine for that, if the columns lie in memory so. The
    precision is that of the context.
    """
    rows, *units = inputs.shape
    flat = inputs.reshape(rows, math.prod(units))
    found = jax.lax.dot_general(_rounded(columns), _rounded(flat), (((0,), (0,)), ((), ())))
    return found.reshape(columns.shape[1], *units)


def product_of_few(columns: Array, inputs: Array) -> Array:
    """As `product`, for k so small that a CPU sums faster where it uses the result.

    Where slopes are taken, it is a product: what needs them would repeat the sum, each for itself.
    """
    return _sum_of_few(columns, inputs) if kind.is_cpu() else product(columns, inputs)


@jax.custom_jvp
def _sum_of_few(columns: Array, inputs: Array) -> Array:
    columns, inputs = _rounded(columns), _rounded(inputs)
    return jnp.sum(columns.reshape(*columns.shape, *(1,) * (inputs.ndim - 1)) * inputs[:, None], axis=0)


@_sum_of_few.defjvp
def _sum_of_few_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (columns, inputs), (more_columns, more_inputs) = primals, tangents
    return product(columns, inputs), product(more_columns, inputs) + product(columns, more_inputs)


def _rounded(operand: Array) -> Array:
    """With fewer bits where the context says so and the processor does not do it by itself."""
    rounds = kind.is_cpu() and _in_context() == _ROUNDED
    return jax.lax.reduce_precision(operand, 8, 7) if rounds else operand


def sums_as_product(entries: int) -> bool:
    """Whether to sum over groups of sub-RNNs by a product with a 0-1 matrix of so many entries.

    Backward, the slope of a sum is spread over sub-RNNs; in XLA's CPU code every operation that reads it would spread
    it again, number by number.
    """
    return kind.is_cpu() and entries <= SMALL
