"""One set of meta-parameters per layer, shared by all sub-RNNs within it.

    V_M = (theta_1, ..., theta_K)

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, deep networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml.sharing.base import Sharing
from vsml.sparsity.base import Wiring


@dataclass(frozen=True)
class Layerwise(Sharing):
    """One set of meta-parameters per layer."""

    def sets_per_pass(self, wirings: Sequence[Wiring]) -> int:
        return len(wirings)

    def set_of_layer(self, layer: int, wirings: Sequence[Wiring]) -> int:
        return layer
