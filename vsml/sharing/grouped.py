"""A given number of sets of meta-parameters, assigned within every layer: between shared and unshared.

    V_M = (theta_1, ..., theta_n)      set of s_ab:  floor(a n / A) by input,  floor(b n / B) by output,  or at random

All layers use the same n sets. With n = 1 it is `Shared`.

Source: the scale between weight sharing and none that Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2, argue
along: generalisation comes from |V_L| >> |V_M|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vsml.errors import UserError
from vsml.sharing.base import Sharing
from vsml.sparsity.base import Wiring


@dataclass(frozen=True)
class Grouped(Sharing):
    """`groups` sets of meta-parameters.

    Attributes:
      groups: number of sets; where a layer has fewer inputs (or outputs, or sub-RNNs), it uses fewer.
      by: `input` or `output`: sub-RNNs of neighbouring input (output) neurons share a set. `random`: sub-RNNs are
        assigned to the sets at random, equally many to each (give or take one).
      seed: of the random assignment.
    """

    groups: int = 4
    by: Literal["input", "output", "random"] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UserError(f"sharing.Grouped.groups is {self.groups}: set it to 1 or more")
        if self.seed < 0:
            raise UserError(f"sharing.Grouped.seed is {self.seed}: set it to 0 or more")

    def sets_per_pass(self, wirings: Sequence[Wiring]) -> int:
        return self.groups

    def set_of_layer(self, layer: int, wirings: Sequence[Wiring]) -> np.ndarray:
        wiring = wirings[layer]
        if self.by == "random":
            return np.random.default_rng((self.seed, layer)).permutation(np.arange(wiring.units) % self.groups)
        neuron = wiring.input_of if self.by == "input" else wiring.output_of
        return neuron * self.groups // (neuron.max() + 1)
