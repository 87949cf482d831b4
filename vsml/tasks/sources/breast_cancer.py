"""Breast cancer (Wisconsin, diagnostic): 569 tumours, 30 measures each, malignant or benign, in scikit-learn.

Source: Street, Wolberg, Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.table import read_table


@dataclass(frozen=True)
class BreastCancer(Source):
    """The breast cancer data of scikit-learn: 569 rows, 30 features, 2 classes (0 malignant, 1 benign).

    Features are standardised; see `table`.

    Attributes:
      split: `all`, `train` (285 rows), `test` (the other 284) or a slice of one.
    """

    split: str = "all"

    def read(self) -> Dataset:
        from sklearn.datasets import load_breast_cancer  # takes seconds to import; only this source needs it

        features, labels = load_breast_cancer(return_X_y=True)
        return read_table("breast cancer", features, labels, self.split)
