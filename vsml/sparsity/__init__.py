"""Which sub-RNNs exist and who hears whom: one file per wiring."""

from vsml.sparsity.base import Sparsity, Wiring
from vsml.sparsity.dense import Dense

__all__ = ["Dense", "Sparsity", "Wiring"]
