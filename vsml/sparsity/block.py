"""Block-diagonal: neurons are assigned to blocks in their order, and receive only those of their own block.

    s_ab exists  if  floor(a n / A) = floor(b n / B)         a < A inputs, b < B outputs, n blocks

Blocks that do not divide the neurons evenly differ by one neuron. With n = 1 it is `Dense`.

Source: grouped connections, Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vsml.errors import UserError
from vsml.sparsity.base import Reduction, Shape, Sparsity, Wiring
from vsml.sparsity.edges import wire_edges


@dataclass(frozen=True)
class Block(Sparsity):
    """The sub-RNNs within blocks on the diagonal; images are taken row by row.

    Attributes:
      blocks: number of blocks, not more than there are neurons on either side.
    """

    blocks: int = 2

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise UserError(f"sparsity.Block.blocks is {self.blocks}: set it to 1 or more")

    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        inputs, outputs = math.prod(input_shape), math.prod(output_shape)
        if self.blocks > min(inputs, outputs):
            raise UserError(
                f"sparsity.Block.blocks is {self.blocks}, but a layer of {inputs} x {outputs} neurons has room for "
                f"{min(inputs, outputs)}: set it to that or less"
            )
        starts = -(-np.arange(self.blocks + 1) * inputs // self.blocks)  # the first input of each block, rounded up
        block_of = np.arange(outputs) * self.blocks // outputs
        chosen = [np.arange(starts[block], starts[block + 1]) for block in block_of]
        output_of = np.repeat(np.arange(outputs), [len(inputs_of) for inputs_of in chosen])
        return wire_edges(np.concatenate(chosen), output_of, inputs, outputs, reduction)
