"""Every output neuron receives the same number of inputs, chosen at random.

    s_ab exists  if  a is in C_b,   C_b a random subset of the inputs,   |C_b| = max(1, round(density A))

Source: fixed random sparsity before training, as in the sparse initial networks of Mocanu et al. 2018,
arXiv 1707.04780, and the fixed fan-in of hashing and reservoir networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vsml.errors import UserError
from vsml.sparsity.base import Reduction, Shape, Sparsity, Wiring
from vsml.sparsity.edges import wire_edges


@dataclass(frozen=True)
class Random(Sparsity):
    """A random share of all sub-RNNs; with a small one some inputs may be received by no output.

    Attributes:
      density: share of the inputs that each output receives; 1 input at least.
      seed: of the choice, which hangs on nothing else but the numbers of neurons: layers of the same sizes are wired
        alike unless their seeds differ.
    """

    density: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise UserError(f"sparsity.Random.density is {self.density}: set it above 0, to 1 at most")
        if self.seed < 0:
            raise UserError(f"sparsity.Random.seed is {self.seed}: set it to 0 or more")

    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        inputs, outputs = math.prod(input_shape), math.prod(output_shape)
        fan_in = max(round(self.density * inputs), 1)
        draw = np.random.default_rng((self.seed, inputs, outputs))
        chosen = [np.sort(draw.choice(inputs, fan_in, replace=False, shuffle=False)) for _ in range(outputs)]
        return wire_edges(np.concatenate(chosen), np.repeat(np.arange(outputs), fan_in), inputs, outputs, reduction)
