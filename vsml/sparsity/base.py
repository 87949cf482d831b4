"""Contract of a wiring: which sub-RNNs of a layer exist and who hears whom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vsml.types import Array

Reduction = Literal["mean", "sum", "sqrt"]


@dataclass(frozen=True)
class Reduce:
    """A linear reduction of what sub-RNNs send to what neurons hear.

    `over` maps [n, units] to [n, neurons]; `total` is what it makes of a constant 1, so that a constant c added by
    every sub-RNN becomes total * c: 1 for a mean, the number of senders for a sum.
    """

    over: Callable[[Array], Array]
    total: float | Array

    def __call__(self, sent: Array) -> Array:
        return self.over(sent)


@dataclass(frozen=True)
class Wiring:
    """One layer's sub-RNNs and their connections to the neurons before and behind it."""

    units: int  # number of sub-RNNs
    fan_in: int  # sub-RNNs heard by one neuron behind the layer
    spread_forward: Callable[[Array], Array]  # messages of the neurons before, [m, in], to sub-RNNs, [m, units]
    spread_backward: Callable[[Array], Array]  # messages of the neurons behind, [m, out], to sub-RNNs, [m, units]
    reduce_forward: Reduce  # what sub-RNNs send forward, [n, units], to the neurons behind, [n, out]
    reduce_backward: Reduce  # what sub-RNNs send backward, [n, units], to the neurons before, [n, in]


class Sparsity(ABC):
    """Which sub-RNNs exist between two layers of neurons."""

    @abstractmethod
    def wire(self, num_inputs: int, num_outputs: int, reduction: Reduction) -> Wiring:
        """The wiring between `num_inputs` and `num_outputs` neurons. Raises `UserError` where the sizes do not fit."""
