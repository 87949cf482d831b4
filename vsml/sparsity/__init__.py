"""Which sub-RNNs exist, and which neurons they connect: one file per wiring."""

from vsml.sparsity.base import Sparsity, Wiring
from vsml.sparsity.block import Block
from vsml.sparsity.conv import Conv
from vsml.sparsity.dense import Dense
from vsml.sparsity.local import Local
from vsml.sparsity.random import Random

__all__ = ["Block", "Conv", "Dense", "Local", "Random", "Sparsity", "Wiring"]
