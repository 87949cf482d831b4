"""One set of meta-parameters per layer, shared by all sub-RNNs within it.

    V_M = (theta_1, ..., theta_K)

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, deep networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.sharing.base import Sharing


@dataclass(frozen=True)
class Layerwise(Sharing):
    """One set of meta-parameters per layer."""

    def sets_per_pass(self, num_layers: int) -> int:
        return num_layers

    def set_of_layer(self, layer: int) -> int:
        return layer
