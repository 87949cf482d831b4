"""KMNIST: 60,000 + 10,000 cursive Japanese characters, 28x28, 10 classes, published as idx.gz and as npz files.

Source: Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha, "Deep learning for classical Japanese literature", 2018,
arXiv 1812.01718.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.idx import read_idx
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.sources.npz import read_npz
from vsml.tasks.split import Split

_MIRRORS = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",)
FILES = {
    "train": (
        PublishedFile("kmnist", "train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7", _MIRRORS),
        PublishedFile("kmnist", "train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344", _MIRRORS),
    ),
    "test": (
        PublishedFile("kmnist", "t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7", _MIRRORS),
        PublishedFile("kmnist", "t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134", _MIRRORS),
    ),
}
NPZ_FILES = {
    "train": (
        PublishedFile("kmnist", "kmnist-train-imgs.npz", None),
        PublishedFile("kmnist", "kmnist-train-labels.npz", None),
    ),
    "test": (
        PublishedFile("kmnist", "kmnist-test-imgs.npz", "dace6de62ca8b90843cc45366337d02e"),
        PublishedFile("kmnist", "kmnist-test-labels.npz", "3ae489a79983d0fe386152684e3b5412"),
    ),
}


@dataclass(frozen=True)
class KMNIST(Source):
    """KMNIST: 60,000 + 10,000 cursive Japanese characters, 28x28, 10 classes.

    Read from the npz pair where `$VSML_DATA_DIR` holds it and no idx.gz files, from the idx.gz files otherwise.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(FILES))
        images, labels = _arrays(split.name)
        return labelled("KMNIST", images, labels, split, moments=(0.19176, 0.34834))


def _arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (file.present() for file in NPZ_FILES[name])
    if FILES[name][0].present() is not None or (images is None and labels is None):
        return read_idx(FILES[name][0].fetch()), read_idx(FILES[name][1].fetch())
    if images is None or labels is None:
        missing = NPZ_FILES[name][0 if images is None else 1].name
        raise UserError(f"{missing} of kmnist is missing beside its pair: put both into $VSML_DATA_DIR/kmnist")
    return read_npz(images, "arr_0"), read_npz(labels, "arr_0")
