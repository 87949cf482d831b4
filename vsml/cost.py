"""What a program would take, without compiling or running it: sizes, arithmetic and memory, read off its jaxpr.

FLOPs    matrix products count 2 m n k, other primitives one per element of their result; loops count every turn
memory   the largest sum of arrays alive at once, walked in program order without the compiler's fusion: an upper bound
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

FREE = {
    *("reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "convert_element_type", "copy"),
    *("slice", "dynamic_slice", "dynamic_update_slice", "concatenate", "split", "name"),
}
"""Primitives that move or rename numbers without arithmetic."""

ELEMENTWISE = {"rational_tanh"}
"""Functions that count one per element, as a primitive."""


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def flops(jaxpr: core.Jaxpr) -> float:
    """Floating-point operations of one evaluation."""
    return sum(_flops_of(equation) for equation in jaxpr.eqns)


LOOPS = {"scan", "while"}
"""Primitives whose results are there beside those of one turn."""


def peak_bytes(jaxpr: core.Jaxpr, kept: Iterable[core.Var] = ()) -> int:
    """Bytes alive at the worst moment of one evaluation, arguments included; `kept` are alive to the end."""
    last_use = dict.fromkeys(kept, len(jaxpr.eqns))
    for index, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if isinstance(variable, core.Var):
                last_use[variable] = max(index, last_use.get(variable, 0))
    for variable in jaxpr.outvars:
        if isinstance(variable, core.Var):
            last_use[variable] = len(jaxpr.eqns)
    alive = {variable: _bytes(variable) for variable in (*jaxpr.invars, *jaxpr.constvars)}
    current = peak = sum(alive.values())
    for index, equation in enumerate(jaxpr.eqns):
        results = {variable: _bytes(variable) for variable in equation.outvars if variable not in alive}
        inside = max((_extra_bytes(body) for body in _bodies(equation)), default=0)
        new = sum(results.values())
        peak = max(peak, current + (new + inside if equation.primitive.name in LOOPS else max(new, inside)))
        alive |= results
        current += new
        for variable in [v for v in alive if last_use.get(v, -1) <= index]:
            current -= alive.pop(variable)
    return peak


def _extra_bytes(jaxpr: core.Jaxpr) -> int:
    """What a body needs beyond its arguments, which its caller holds all the while."""
    arguments = (*jaxpr.invars, *jaxpr.constvars)
    return peak_bytes(jaxpr, kept=arguments) - sum(map(_bytes, arguments))


def _flops_of(equation: Any) -> float:
    bodies = list(_bodies(equation))
    if bodies:
        turns = equation.params.get("length", 1)
        return turns * max(flops(body) for body in bodies)  # of a conditional's branches, the dearest
    if equation.primitive.name in FREE:
        return 0.0
    size = sum(math.prod(variable.aval.shape) for variable in equation.outvars)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2.0 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if equation.primitive.name.startswith("reduce") or equation.primitive.name.startswith("arg"):
        return float(math.prod(equation.invars[0].aval.shape))
    return float(size)


def _bodies(equation: Any) -> Iterable[core.Jaxpr]:
    """The jaxprs inside an equation: loops, branches, calls.

    `ELEMENTWISE` functions have none: how a device computes them does not count.
    """
    if equation.params.get("name") in ELEMENTWISE:
        return
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _bytes(variable: Any) -> int:
    aval = variable.aval
    itemsize = 8 if jnp.issubdtype(aval.dtype, jax.dtypes.extended) else np.dtype(aval.dtype).itemsize
    return math.prod(aval.shape) * itemsize
