"""The learner that follows backprop exactly, with a cell that does: the settings of `gin/cells/backprop.gin`."""

from __future__ import annotations

from typing import Any

from vsml.cells import Cell
from vsml.learners import VSML


def backprop(cell: Cell, **options: Any) -> VSML:
    """VSML in which neurons add and feedback arrives once, with the activations that it belongs to."""
    settings: dict[str, Any] = {
        "micro_ticks": 1,
        "reduction": "sum",
        "feedback": "backward_pass",
        "clear_feedback": True,
        "output_bound": None,
    }
    return VSML(cell, **settings | options)
