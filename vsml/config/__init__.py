"""The only door to gin: the parts that gin files may name, reading and checking them, saving and building the outcome.

    load(recipe, overrides) -> Config -> .text, .json, .build() -> Experiment

    catalogue     which parts there are                    cells.LSTM, optax.adam, train
    statements    gin files and KEY=VALUE to bindings      each with its FILE:LINE
    resolution    bindings to the parts of an experiment   strict: whatever has no effect is an error
    fitting       whether a value fits a field's type
    config        the outcome, and gin to build it

Nothing else in the package imports gin.
"""

from __future__ import annotations

from vsml.config.catalogue import AXES, Field, Part, parts, suggest
from vsml.config.config import Config, load
from vsml.config.fitting import describe, show
from vsml.config.statements import gin_root, recipes

__all__ = ["AXES", "Config", "Field", "Part", "describe", "gin_root", "load", "parts", "recipes", "show", "suggest"]
