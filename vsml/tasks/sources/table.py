"""Tables of numbers with a label per row: each feature standardised, a fixed stratified half to train on.

    x_f <- (x_f - mean_f) / std_f,  mean and standard deviation of each feature f over the training half

Within each class rows go to `train` and `test` in turn, in the order of the table.
"""

from __future__ import annotations

import numpy as np

from vsml.tasks.base import Dataset
from vsml.tasks.sources.labelled import PARTS, check_halves, check_range, in_part, labelled
from vsml.tasks.split import Split


def read_table(origin: str, features: np.ndarray, labels: np.ndarray, split: str) -> Dataset:
    """The rows of a split, float32 [n, features], with moments 0 and 1.

    Args:
      origin: what error messages call the table.
      features: [n, features] finite numbers.
      labels: [n] integers from 0.
      split: `all`, `train`, `test` or a slice of one. Raises `UserError` for any other, and where it is empty.
    """
    part = Split.parse(split, PARTS)
    check_range(origin, "a feature is", features)
    check_halves(origin, labels, part)
    train = in_part(labels, "train")
    mean, std = features[train].mean(axis=0), features[train].std(axis=0)
    x = (features - mean) / np.where(std > 0.0, std, 1.0)
    kept = in_part(labels, part.name)
    num_classes = int(labels.max()) + 1
    return labelled(origin, x[kept], labels[kept], part, moments=(0.0, 1.0), num_classes=num_classes)
