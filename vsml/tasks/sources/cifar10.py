"""CIFAR10: 50,000 + 10,000 photographs of animals and vehicles, 32x32 in colour, 10 classes.

The archive holds Python pickles. They are read by an unpickler that knows arrays and nothing else, so that no file can
run code.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.archive import read_tar
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

FILE = PublishedFile(
    "cifar10",
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    ("https://www.cs.toronto.edu/~kriz/",),
)
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
_FOLDER = "cifar-10-batches-py"
_SHAPE = (3, 32, 32)  # one row of a batch: the colours' planes


@dataclass(frozen=True)
class CIFAR10(Source):
    """CIFAR10: 50,000 + 10,000 photographs, 32x32x3, 10 classes.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(BATCHES))
        path = FILE.fetch()
        files = read_tar(path, [f"{_FOLDER}/{name}" for name in BATCHES[split.name]])
        batches = [_read_batch(data, f"{path}/{name}") for name, data in files.items()]
        planes, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        images = np.ascontiguousarray(planes.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1))
        return labelled("CIFAR10", images, labels, split, moments=(0.47336, 0.25157), num_classes=10)


def _read_batch(data: bytes, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pixels [n, 3072] and labels [n] of one batch."""
    try:
        batch = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()  # as NumPy reads arrays pickled by Python 2
        rows, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as error:  # a broken pickle can make the unpickler raise anything
        raise UserError(f"{path} is no batch of CIFAR10 ({type(error).__name__}: {error}); replace it") from error
    if rows.ndim != 2 or rows.shape[1] != np.prod(_SHAPE) or rows.dtype != np.uint8:
        raise UserError(f"{path}: data must be uint8 [n, 3072], not {rows.dtype} {list(rows.shape)}; replace it")
    return rows, labels


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            # What rebuilds an array: NumPy moved it, and would warn at its old name.
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return known[module, name]


def _dtype(name: str, align: int = 0, copy: int = 0) -> np.dtype:
    """The type of an array as Python 2 wrote it: NumPy would warn of truth values that are integers."""
    return np.dtype(name, align=bool(align), copy=bool(copy))
