"""Contract of parameter sharing: how many sets of meta-parameters there are, and which one each sub-RNN uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Sharing(ABC):
    """Which sub-RNNs share V_M. The parameters of all sets are stacked along a leading axis.

    Attributes:
      separate_backward: whether the backward pass has sets of its own (only with `feedback = 'backward_pass'`).
    """

    separate_backward: bool = False

    @abstractmethod
    def sets_per_pass(self, num_layers: int) -> int:
        """Number of parameter sets that one pass over `num_layers` layers uses."""

    @abstractmethod
    def set_of_layer(self, layer: int) -> int:
        """Index, within one pass, of the set that layer `layer` (0-based) uses."""

    def num_sets(self, num_layers: int) -> int:
        """Number of parameter sets in all."""
        return self.sets_per_pass(num_layers) * (2 if self.separate_backward else 1)

    def set_of(self, layer: int, num_layers: int, backward: bool) -> int:
        """Index of the set that layer `layer` uses in its forward or, if `backward`, in its backward pass."""
        offset = self.sets_per_pass(num_layers) if backward and self.separate_backward else 0
        return offset + self.set_of_layer(layer)
