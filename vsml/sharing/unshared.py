"""A set of meta-parameters for every sub-RNN: the Meta RNN end of the scale, with zeros but without shared entries.

    V_M = (theta_kab for all k, a, b),   |V_M| grows with the network, as |V_L| does

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2, where it is what VSML is told apart from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vsml.sharing.base import Sharing
from vsml.sparsity.base import Wiring


@dataclass(frozen=True)
class Unshared(Sharing):
    """One set of meta-parameters per sub-RNN. Memory and time per meta-step grow accordingly."""

    def sets_per_pass(self, wirings: Sequence[Wiring]) -> int:
        return sum(wiring.units for wiring in wirings)

    def set_of_layer(self, layer: int, wirings: Sequence[Wiring]) -> np.ndarray:
        first = sum(wiring.units for wiring in wirings[:layer])
        return first + np.arange(wirings[layer].units)
