"""A band: every output neuron receives the inputs near its own place.

    s_ab exists  if  |(a + 1/2) / A - (b + 1/2) / B|  <=  width / min(A, B)         a < A inputs, b < B outputs

Both layers are laid out along one line. With A = B output b receives inputs b - width .. b + width; where the sizes
differ, the width counts the neurons of the smaller layer. So every output has an input, and every input an output.

Source: locally connected layers without weight sharing, LeCun 1989, "Generalization and network design strategies".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vsml.errors import UserError
from vsml.sparsity.base import Reduction, Shape, Sparsity, Wiring
from vsml.sparsity.edges import wire_edges


@dataclass(frozen=True)
class Local(Sparsity):
    """The sub-RNNs of a band around the diagonal; images are taken row by row.

    Attributes:
      width: how far an output reaches to either side, in neurons of the smaller layer.
    """

    width: int = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"sparsity.Local.width is {self.width}: set it to 1 or more")

    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        inputs, outputs = math.prod(input_shape), math.prod(output_shape)
        # The condition in whole numbers: |(2a + 1) B - (2b + 1) A| <= reach.
        reach = 2 * self.width * max(inputs, outputs)
        middle = (2 * np.arange(outputs) + 1) * inputs
        first = np.maximum(-((reach + outputs - middle) // (2 * outputs)), 0)
        last = np.minimum((middle + reach - outputs) // (2 * outputs), inputs - 1)
        counts = last - first + 1
        output_of = np.repeat(np.arange(outputs), counts)
        starts = np.cumsum(counts) - counts
        input_of = first[output_of] + np.arange(len(output_of)) - starts[output_of]
        return wire_edges(input_of, output_of, inputs, outputs, reduction)
