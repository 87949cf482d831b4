"""Iris: 150 flowers of 3 species, 4 measures each, part of scikit-learn.

Source: Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7, 1936.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.table import read_table


@dataclass(frozen=True)
class Iris(Source):
    """The iris data of scikit-learn: 150 rows, 4 features, 3 classes of 50.

    Features are standardised; see `table`.

    Attributes:
      split: `all`, `train` (75 rows, 25 of each class), `test` (the other 75) or a slice of one.
    """

    split: str = "all"

    def read(self) -> Dataset:
        from sklearn.datasets import load_iris  # takes seconds to import; only this source needs it

        features, labels = load_iris(return_X_y=True)
        return read_table("iris", features, labels, self.split)
