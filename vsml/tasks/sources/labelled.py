"""From raw arrays to a checked `Dataset`."""

from __future__ import annotations

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset
from vsml.tasks.split import WHOLE, Split

PARTS = ("all", "train", "test")
"""Splits of data that come without a published split: within each class, examples go to `train` and `test` in turn."""

MOST_CLASSES = 10_000
"""In a set of fewer examples, a larger label is a mistake: an identity or a checksum, say."""


def labelled(
    origin: str,
    images: np.ndarray,
    labels: np.ndarray,
    split: Split,
    moments: tuple[float, float] | None = None,
    num_classes: int | None = None,
) -> Dataset:
    """Checks and slices images and their labels.

    Args:
      origin: what error messages call the data.
      images: [n, ...]; uint8 stays uint8, other numbers become float32 as they are. [n, h, w] becomes [n, h, w, 1].
      labels: [n] integers from 0.
      split: the part to keep.
      moments: published mean and standard deviation; by default those of the kept examples.
      num_classes: by default the largest label + 1 of all the data, not only of the slice.
    """
    _check(origin, images, labels)
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.max() >= classes:
        raise UserError(f"{origin}: the largest label is {labels.max()}, but {classes} classes are known; replace it")
    kept = split.resolve(len(images))
    x = images[kept] if images.ndim != 3 else images[kept, :, :, None]
    if x.dtype != np.uint8:
        x = np.asarray(x, np.float32)
    mean, std = moments or measured(x)
    return Dataset(x, np.asarray(labels[kept], np.int32), classes, mean, std)


def halved(origin: str, images: np.ndarray, labels: np.ndarray, part: Split) -> Dataset:
    """As `labelled`, of data without a published split: `part` is one of `PARTS`, or a slice of one.

    The moments of `test` are those of `train`.
    """
    if part.name == WHOLE:
        return labelled(origin, images, labels, part)
    _check(origin, images, labels)
    check_halves(origin, labels, part)
    train, kept = in_part(labels, "train"), in_part(labels, part.name)
    classes, moments = int(labels.max()) + 1, measured(images[train])
    return labelled(origin, images[kept], labels[kept], part, moments, classes)


def check_halves(origin: str, labels: np.ndarray, split: Split) -> None:
    """Raises `UserError` where a half is asked for, and one of the two lacks a class of the other."""
    labels, examples = np.unique(labels, return_counts=True)
    if split.name != WHOLE and examples.min() == 1:
        raise UserError(
            f"{origin}: class {labels[examples.argmin()]} (counted from 0) has one example, so that nothing of it can "
            "be held out: is it a mistake? Give it a second one, or use the split all"
        )


def in_part(labels: np.ndarray, name: str) -> np.ndarray:
    """Which examples are in one of `PARTS`, bool [n]."""
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        examples = np.flatnonzero(labels == label)
        turn[examples] = np.arange(len(examples))
    return {"all": turn >= 0, "train": turn % 2 == 0, "test": turn % 2 == 1}[name]


def measured(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all numbers of `x`, uint8 read as x / 255; a constant has standard deviation 1."""
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    blocks = [x[i : i + 1024] for i in range(0, len(x), 1024)]  # in float64, all of them at once would be large
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / x.size
    std = (sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks) / x.size) ** 0.5
    return mean / scale, std / scale if std > 0.0 else 1.0


def _check(origin: str, images: np.ndarray, labels: np.ndarray) -> None:
    if images.ndim < 2 or images.size == 0 or images.dtype.kind not in "uif":
        raise UserError(f"{origin}: images must be numbers [n, ...], found {images.dtype} {list(images.shape)}")
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise UserError(f"{origin}: labels must be integers [n], found {labels.dtype} {list(labels.shape)}")
    if len(images) != len(labels):
        raise UserError(f"{origin}: {len(images)} images but {len(labels)} labels; give files that belong together")
    if labels.min() < 0:
        raise UserError(f"{origin}: the smallest label is {labels.min()}; labels must count from 0")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise UserError(f"{origin}: images hold NaN or infinity; replace these numbers")
    if images.dtype.kind == "f":
        check_range(origin, "images hold", images)
    if labels.max() >= max(MOST_CLASSES, len(labels)):
        raise UserError(
            f"{origin}: the largest of {len(labels)} labels is {labels.max()}: labels count the classes, from 0 and "
            "without gaps; renumber them"
        )


def check_range(origin: str, what: str, numbers: np.ndarray) -> None:
    """Raises `UserError` for finite numbers that are none in float32, which all examples become."""
    largest = np.abs(numbers).max()
    if largest > np.finfo(np.float32).max:
        raise UserError(
            f"{origin}: {what} {largest:g}, which 32 bits cannot hold (3.4e38 at most); rescale these numbers"
        )
