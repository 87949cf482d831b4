"""A wiring that is a list of edges: sub-RNN u listens to neuron in_u and sends to neuron out_u.

    fwd_b(k+1) = R_{u: out_u = b} f_fwd(s_u(k)),   bwd_a(k-1) = R_{u: in_u = a} f_bwd(s_u(k))

Spreading a message picks, for every edge, that of its neuron. Reducing picks, for every neuron, all its edges, by a
table [neurons, most edges of a neuron] that is filled up with nothing, and sums along its rows. Each of the two is the
other's derivative, so neither forward nor backward are numbers ever added at one place in an order that the device
chooses, as a segment sum does on a GPU. On a CPU the two ways take the same time within the noise of measurement.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vsml.sparsity.base import Reduce, Reduction, Wiring, reduction_scale
from vsml.types import Array

LinearMap = Callable[[Array], Array]


def wire_edges(input_of: np.ndarray, output_of: np.ndarray, inputs: int, outputs: int, reduction: Reduction) -> Wiring:
    """The wiring of one sub-RNN per edge.

    It can be differentiated in reverse mode only.

    Args:
      input_of, output_of: int [units], the neurons that each sub-RNN connects.
      inputs, outputs: number of input and output neurons.
      reduction: how a neuron combines what it receives.
    """
    spread_forward, sum_backward = _spread_and_sum(input_of, inputs)
    spread_backward, sum_forward = _spread_and_sum(output_of, outputs)
    return Wiring(
        inputs=inputs,
        outputs=outputs,
        units=len(input_of),
        fan_in=round(len(input_of) / outputs),
        input_of=input_of,
        output_of=output_of,
        spread_forward=spread_forward,
        spread_backward=spread_backward,
        reduce_forward=scaled(sum_forward, np.bincount(output_of, minlength=outputs), reduction),
        reduce_backward=scaled(sum_backward, np.bincount(input_of, minlength=inputs), reduction),
    )


def scaled(add_up: LinearMap, counts: np.ndarray, reduction: Reduction) -> Reduce:
    """The reduction that scales sums over `counts` messages, int [neurons], as each neuron's count asks for."""
    scale = np.asarray(reduction_scale(reduction, counts), float)
    if np.all(counts == counts[0]):
        return Reduce(lambda out: add_up(out) * float(scale[0]), total=float(counts[0] * scale[0]))
    return Reduce(lambda out: add_up(out) * jnp.asarray(scale[None]), total=jnp.asarray((counts * scale)[None]))


def _spread_and_sum(neuron: np.ndarray, neurons: int) -> tuple[LinearMap, LinearMap]:
    """The messages of neurons to edges, and those of edges summed at neurons, given the neuron of each edge."""
    table = _edges_of(neuron, neurons)

    def spread(message: Array) -> Array:
        return message[:, neuron]

    def add_up(outgoing: Array) -> Array:
        return jnp.sum(jnp.take(outgoing, table, axis=1, mode="fill", fill_value=0), axis=2)

    return _linear(spread, transpose=add_up), _linear(add_up, transpose=spread)


def _edges_of(neuron: np.ndarray, neurons: int) -> np.ndarray:
    """The edges of each neuron, [neurons, most], filled up with the number of edges, which is none."""
    counts = np.bincount(neuron, minlength=neurons)
    order = np.argsort(neuron, kind="stable")
    table = np.full((neurons, counts.max()), len(neuron))
    table[neuron[order], np.arange(len(neuron)) - (np.cumsum(counts) - counts)[neuron[order]]] = order
    return table


def _linear(apply: LinearMap, transpose: LinearMap) -> LinearMap:
    """A linear map whose derivative in reverse mode is the given one."""
    mapped = jax.custom_vjp(apply)
    mapped.defvjp(lambda x: (apply(x), None), lambda _, cotangent: (transpose(cotangent),))
    return mapped
