"""What one sub-RNN computes: one file per cell."""

from vsml.cells.base import Cell
from vsml.cells.bilinear import Bilinear
from vsml.cells.gru import GRU
from vsml.cells.lstm import LSTM
from vsml.cells.mlp import MLP
from vsml.cells.vanilla import Vanilla

__all__ = ["GRU", "LSTM", "MLP", "Bilinear", "Cell", "Vanilla"]
