"""MNIST: 60,000 + 10,000 handwritten digits, 28x28, 10 classes.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.idx import read_idx
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
FILES = {
    "train": (
        PublishedFile("mnist", "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", _MIRRORS),
        PublishedFile("mnist", "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", _MIRRORS),
    ),
    "test": (
        PublishedFile("mnist", "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", _MIRRORS),
        PublishedFile("mnist", "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", _MIRRORS),
    ),
}


@dataclass(frozen=True)
class MNIST(Source):
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28, 10 classes.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(FILES))
        images, labels = (read_idx(file.fetch()) for file in FILES[split.name])
        return labelled("MNIST", images, labels, split, moments=(0.13066, 0.30811))
