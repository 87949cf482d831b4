"""Which sub-RNNs exist and who hears whom: one file per wiring."""

from vsml.sparsity.base import Sparsity, Wiring
from vsml.sparsity.block import Block
from vsml.sparsity.conv import Conv
from vsml.sparsity.dense import Dense
from vsml.sparsity.local import Local
from vsml.sparsity.random import Random

__all__ = ["Block", "Conv", "Dense", "Local", "Random", "Sparsity", "Wiring"]
