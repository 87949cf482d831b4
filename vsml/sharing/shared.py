"""One set of meta-parameters for every sub-RNN of every layer: the paper's default.

    V_M = theta,   |V_M| independent of depth and width.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml.sharing.base import Sharing
from vsml.sparsity.base import Wiring


@dataclass(frozen=True)
class Shared(Sharing):
    """One set of meta-parameters for all sub-RNNs of all layers."""

    def sets_per_pass(self, wirings: Sequence[Wiring]) -> int:
        return 1

    def set_of_layer(self, layer: int, wirings: Sequence[Wiring]) -> int:
        return 0
