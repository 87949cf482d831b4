"""Fashion-MNIST: 60,000 + 10,000 photographs of clothing, 28x28, 10 classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
2017, arXiv 1708.07747.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.idx import read_idx
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
FILES = {
    "train": (
        PublishedFile("fashion_mnist", "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", _MIRRORS),
        PublishedFile("fashion_mnist", "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", _MIRRORS),
    ),
    "test": (
        PublishedFile("fashion_mnist", "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", _MIRRORS),
        PublishedFile("fashion_mnist", "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", _MIRRORS),
    ),
}


@dataclass(frozen=True)
class FashionMNIST(Source):
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28x28, 10 classes.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(FILES))
        images, labels = (read_idx(file.fetch()) for file in FILES[split.name])
        return labelled("Fashion-MNIST", images, labels, split, moments=(0.28604, 0.35302))
