"""The only interface to gin: the parts that gin files may name; reading, checking, saving and building configs.

    load(recipe, overrides) -> Config -> .text, .json, .build() -> Experiment

    catalogue     which parts there are                    cells.LSTM, optax.adam, train
    statements    gin files and KEY=VALUE to bindings      each with its FILE:LINE
    resolution    bindings to the parts of an experiment   strict: whatever has no effect is an error
    manual        descriptions of the parts
    fitting       whether a value fits a field's type
    config        the checked config, and gin to build it
    sweeps        sweep files: which recipe, which axes

Nothing else in the package imports gin.
"""

from __future__ import annotations

from vsml.config.catalogue import AXES, Field, Part, parts, suggest
from vsml.config.config import ABSENT, Config, leaves, load
from vsml.config.fitting import describe, fits, show
from vsml.config.manual import overview, part_in_full
from vsml.config.statements import macros_set_by
from vsml.config.sweeps import Axis, Choice, Override, SweepFile, read_sweep
from vsml.shipped import gin_root, recipes

__all__ = [
    "ABSENT",
    "AXES",
    "Axis",
    "Choice",
    "Config",
    "Field",
    "Override",
    "Part",
    "SweepFile",
    "describe",
    "fits",
    "gin_root",
    "leaves",
    "load",
    "macros_set_by",
    "overview",
    "part_in_full",
    "parts",
    "read_sweep",
    "recipes",
    "show",
    "suggest",
]
