"""Wine: 178 chemical analyses of wines of 3 cultivars, 13 measures each, part of scikit-learn.

Source: Forina and others, "PARVUS", 1988; UCI machine learning repository, Aeberhard and Forina, "Wine", 1991.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.table import read_table


@dataclass(frozen=True)
class Wine(Source):
    """The wine data of scikit-learn: 178 rows, 13 features, 3 classes.

    Features are standardised; see `table`.

    Attributes:
      split: `all`, `train` (90 rows), `test` (the other 88) or a slice of one.
    """

    split: str = "all"

    def read(self) -> Dataset:
        from sklearn.datasets import load_wine  # takes seconds to import; only this source needs it

        features, labels = load_wine(return_X_y=True)
        return read_table("wine", features, labels, self.split)
