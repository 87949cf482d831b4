"""VSML: a declarative framework for learning algorithms that are themselves learned.

`vsml.load_pretrained("broad")` is a learned algorithm that comes with the package, `vsml.load("runs/quickstart")` that
of a run; `vsml.learned` says what they can do. `vsml.VSMLClassifier` is a scikit-learn estimator that learns by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsml.estimator import VSMLClassifier as VSMLClassifier
    from vsml.learned import LearnedAlgorithm

__version__ = "0.1.0"


def load(source: str | Path) -> LearnedAlgorithm:
    """The learned algorithm of a run directory, of RUN_DIR@STEP or RUN_DIR@best, of a file of `vsml export`, or of
    `pretrained:NAME`.
    """
    from vsml import learned  # JAX: importing the package alone stays quick

    return learned.load(source)


def load_pretrained(name: str) -> LearnedAlgorithm:
    """A learned algorithm that comes with the package; `vsml pretrained` lists them."""
    return load(f"pretrained:{name}")


def __getattr__(name: str) -> Any:
    if name == "VSMLClassifier":
        from vsml.estimator import VSMLClassifier  # JAX and scikit-learn

        return VSMLClassifier
    raise AttributeError(f"module 'vsml' has no attribute {name!r}")
