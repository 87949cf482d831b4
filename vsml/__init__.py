"""VSML: a declarative framework for learning algorithms that are themselves learned.

`vsml.load("runs/quickstart")` is the learned algorithm of a run; `vsml.learned` says what it can do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsml.learned import LearnedAlgorithm

__version__ = "0.1.0"


def load(source: str | Path) -> LearnedAlgorithm:
    """The learned algorithm of a run directory, of RUN_DIR@STEP or RUN_DIR@best, or of a file of `vsml export`."""
    from vsml import learned  # JAX: importing the package alone stays quick

    return learned.load(source)
