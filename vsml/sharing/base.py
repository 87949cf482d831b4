"""Contract of parameter sharing: how many sets of meta-parameters there are, and which one each sub-RNN uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vsml.sparsity.base import Wiring


@dataclass(frozen=True)
class Sharing(ABC):
    """Which sub-RNNs share V_M. The parameters of all sets are stacked along a leading axis.

    Attributes:
      separate_backward: whether the backward pass has sets of its own (only with `feedback = 'backward_pass'`).

    Example: one set for the first layer, another for all that follow.

    >>> from vsml.sparsity import Dense
    >>> @dataclass(frozen=True)
    ... class FirstAndRest(Sharing):
    ...     def sets_per_pass(self, wirings):
    ...         return 2
    ...     def set_of_layer(self, layer, wirings):
    ...         return min(layer, 1)
    >>> wirings = [Dense().wire((3,), (4,), "mean"), Dense().wire((4,), (2,), "mean")]
    >>> sharing = FirstAndRest(separate_backward=True)
    >>> sharing.num_sets(wirings)
    4
    >>> [sharing.set_of(layer, wirings, backward) for backward in (False, True) for layer in (0, 1)]
    [0, 1, 2, 3]
    """

    separate_backward: bool = False

    @property
    def type_size(self) -> int:
        """Numbers that sub-RNNs learn to know of each neuron they are connected to, beside its messages; 0 for none."""
        return 0

    @abstractmethod
    def sets_per_pass(self, wirings: Sequence[Wiring]) -> int:
        """Number of parameter sets that one pass over layers of these wirings uses."""

    @abstractmethod
    def set_of_layer(self, layer: int, wirings: Sequence[Wiring]) -> int | np.ndarray:
        """Index, within one pass, of the set of layer `layer` (0-based), or of each of its sub-RNNs: int [units]."""

    def num_sets(self, wirings: Sequence[Wiring]) -> int:
        """Number of parameter sets in all."""
        return self.sets_per_pass(wirings) * (2 if self.separate_backward else 1)

    def set_of(self, layer: int, wirings: Sequence[Wiring], backward: bool) -> int | np.ndarray:
        """Index of the set that a layer, or each of its sub-RNNs, uses in its forward or `backward` pass."""
        offset = self.sets_per_pass(wirings) if backward and self.separate_backward else 0
        return offset + self.set_of_layer(layer, wirings)
