"""Contract of a wiring: which sub-RNNs of a layer exist, and which neurons they connect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from vsml.types import Array

Reduction = Literal["mean", "sum", "sqrt"]
Shape = tuple[int, ...]
"""Shape of a layer of neurons; messages list them flat, the last axis fastest."""


@dataclass(frozen=True)
class Reduce:
    """A linear reduction of what sub-RNNs send to what neurons receive.

    `over` maps [n, sites] to [n, neurons]; `total` is what it makes of a constant 1, so that a constant c added by
    every sub-RNN becomes total * c: 1 for a mean, the number of senders for a sum; [1, neurons] where it differs.
    """

    over: Callable[[Array], Array]
    total: float | Array

    def __call__(self, outgoing: Array) -> Array:
        return self.over(outgoing)


@dataclass(frozen=True)
class Wiring:
    """One layer's sub-RNNs and their connections to its input and output neurons.

    Sub-RNNs may be at work in several places at once, as the kernel of a convolution is. Each such site receives and
    sends for itself, on top of the one state of its sub-RNN; what the sites make of the state is averaged. Sites are
    numbered place by place: site = place * units + unit. Mostly there is one place, and a site is a sub-RNN.
    """

    inputs: int  # number of input neurons
    outputs: int  # number of output neurons
    units: int  # number of sub-RNNs
    fan_in: int  # sites that one output neuron receives from, rounded where it differs
    input_of: np.ndarray  # int [units], the input neuron of each sub-RNN, or its tap of the kernel
    output_of: np.ndarray  # int [units], the output neuron of each sub-RNN, or its channel
    spread_forward: Callable[[Array], Array]  # messages of the input neurons, [m, in], to sites, [m, sites]
    spread_backward: Callable[[Array], Array]  # messages of the output neurons, [m, out], to sites, [m, sites]
    reduce_forward: Reduce  # what sites send forward, [n, sites], to the output neurons, [n, out]
    reduce_backward: Reduce  # what sites send backward, [n, sites], to the input neurons, [n, in]
    places: int = 1

    @cached_property
    def is_grid(self) -> bool:
        """Whether every input is connected to every output by one sub-RNN, and these lie input by input."""
        if self.units != self.inputs * self.outputs or self.places > 1:
            return False
        inputs, outputs = np.indices((self.inputs, self.outputs)).reshape(2, -1)
        return np.array_equal(self.input_of, inputs) and np.array_equal(self.output_of, outputs)


class Sparsity(ABC):
    """Which sub-RNNs exist between two layers of neurons.

    Example: a chain, in which output b receives inputs b and b + 1.

    >>> from dataclasses import dataclass
    >>> import jax.numpy as jnp
    >>> from vsml.sparsity.edges import wire_edges
    >>> @dataclass(frozen=True)
    ... class Chain(Sparsity):
    ...     def wire(self, input_shape, output_shape, reduction):
    ...         outputs = np.repeat(np.arange(*output_shape), 2)
    ...         inputs = outputs + np.tile([0, 1], *output_shape)
    ...         return wire_edges(inputs, outputs, *input_shape, *output_shape, reduction)
    >>> wiring = Chain().wire((3,), (2,), "sum")
    >>> wiring.units, wiring.fan_in
    (4, 2)
    >>> incoming = wiring.spread_forward(jnp.array([[1.0, 2.0, 4.0]]))
    >>> incoming.tolist()
    [[1.0, 2.0, 2.0, 4.0]]
    >>> wiring.reduce_forward(incoming).tolist(), wiring.reduce_backward(incoming).tolist()
    ([[3.0, 6.0]], [[1.0, 4.0, 4.0]])
    """

    def output_shape(self, input_shape: Shape, size: int) -> Shape:
        """Shape of the output neurons, given that of the input neurons and the size that the learner names.

        Raises `UserError` where the shape of the inputs does not fit.
        """
        return (size,)

    @abstractmethod
    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        """The wiring between neurons of these shapes. Raises `UserError` where they do not fit."""


def reduction_scale(reduction: Reduction, count: np.ndarray | float) -> np.ndarray | float:
    """What the sum over `count` messages is multiplied with; where there are none, there is nothing to scale."""
    count = np.maximum(count, 1)
    return {"mean": 1.0 / count, "sum": 1.0 + 0.0 * count, "sqrt": count**-0.5}[reduction]
