"""Matrix products: their precision, and the forms that are fast.

`float32`: products as exact as their operands, on every device; accelerators would round these by default.
`bfloat16`: operands are rounded to 8 bits of mantissa, sums are single precision, and so are states, gates and
meta-parameters. On accelerators this holds for every product; on a CPU, which gains nothing from it, for those of
sub-RNN states with weights (`product`), so that one can see what it would do.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import jax

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
    """The products of weights, given as columns [k, n], with inputs [k, units]: [n, units].

    Columns with columns: XLA's CPU compiler has a faster routine for that, if the columns lie in memory so. The
    precision is that of the context.
    """
    if kind.is_cpu() and _in_context() == _ROUNDED:
        columns, inputs = (jax.lax.reduce_precision(operand, 8, 7) for operand in (columns, inputs))
    return jax.lax.dot_general(columns, inputs, (((0,), (0,)), ((), ())))


def sums_as_product(entries: int) -> bool:
    """Whether to sum over groups of sub-RNNs by a product with a 0-1 matrix of so many entries.

    Backward, the slope of a sum is spread over sub-RNNs; in XLA's CPU code every operation that reads it would spread
    it again, number by number.
    """
    return kind.is_cpu() and entries <= SMALL
