"""Digits: 1,797 handwritten digits, 8x8, 10 classes, part of scikit-learn, so nothing has to be downloaded.

Pixels count the inked ones among 4x4: 0..16, read as x / 16. Source: Alpaydin and Kaynak, "Optical recognition of
handwritten digits", UCI machine learning repository, 1998 (its test part).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_FILE = "datasets/data/digits.csv.gz"
_HALF = 898
_PARTS = {"all": slice(None), "train": slice(None, _HALF), "test": slice(_HALF, None)}


@dataclass(frozen=True)
class Digits(Source):
    """The digits of scikit-learn: 1,797 images, 8x8, 10 classes; `train` and `test` are halves.

    Attributes:
      split: `all`, `train` (the first 898 images), `test` (the other 899) or a slice of one.
    """

    split: str = "all"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(_PARTS))
        # The file inside the package, read without importing it: that takes longer than all the rest of `vsml eval`.
        package = importlib.util.find_spec("sklearn")
        assert package is not None
        assert package.submodule_search_locations is not None
        table = np.loadtxt(Path(package.submodule_search_locations[0]) / _FILE, delimiter=",")
        part = _PARTS[split.name]
        images, labels = (table[part, :-1] / 16.0).astype(np.float32).reshape(-1, 8, 8), table[:, -1].astype(int)
        return labelled("digits", images, labels[part], split)
