"""What one sub-RNN computes: one file per cell."""

from vsml.cells.base import Cell
from vsml.cells.lstm import LSTM

__all__ = ["LSTM", "Cell"]
