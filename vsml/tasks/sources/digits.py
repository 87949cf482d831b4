"""Digits: 1,797 handwritten digits, 8x8, 10 classes, embedded in scikit-learn, so that nothing need be downloaded.

Pixels count the inked ones among 4x4: 0..16, read as x / 16. Source: Alpaydin and Kaynak, "Optical recognition of
handwritten digits", UCI machine learning repository, 1998 (its test part).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.sources.split import Split

_HALF = 898
_PARTS = {"all": slice(None), "train": slice(None, _HALF), "test": slice(_HALF, None)}


@dataclass(frozen=True)
class Digits(Source):
    """The embedded digits of scikit-learn: 1,797 images, 8x8, 10 classes; `train` and `test` are halves.

    Attributes:
      split: `all`, `train` (the first 898 images), `test` (the other 899) or a slice of one.
    """

    split: str = "all"

    def read(self) -> Dataset:
        from sklearn.datasets import load_digits  # takes seconds to import; only this source needs it

        split = Split.parse(self.split, tuple(_PARTS))
        pixels, labels = load_digits(return_X_y=True)
        part = _PARTS[split.name]
        images = (pixels[part] / 16.0).astype(np.float32).reshape(-1, 8, 8)
        return labelled("digits", images, labels[part], split)
