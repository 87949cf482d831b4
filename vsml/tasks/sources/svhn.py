"""SVHN: 73,257 + 26,032 house numbers cut out of street views, 32x32 in colour, 10 classes.

The file's label 10 stands for the digit 0.

Source: Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading digits in natural images with unsupervised feature learning",
NIPS 2011 workshop on deep learning and unsupervised feature learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_MIRRORS = ("http://ufldl.stanford.edu/housenumbers/",)
FILES = {
    "train": PublishedFile("svhn", "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", _MIRRORS),
    "test": PublishedFile("svhn", "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", _MIRRORS),
}


@dataclass(frozen=True)
class SVHN(Source):
    """SVHN: 73,257 + 26,032 photographs of house numbers, 32x32x3, 10 classes.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(FILES))
        path = FILES[split.name].fetch()
        images, labels = _read_mat(path)
        if images.ndim != 4:
            raise UserError(f"{path}: X must be [height, width, 3, n], not {list(images.shape)}; replace the file")
        images = np.ascontiguousarray(np.moveaxis(images, -1, 0))
        return labelled("SVHN", images, labels.ravel() % 10, split, moments=(0.45142, 0.19929), num_classes=10)


def _read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat  # takes a while to import; only this source needs it

    try:
        arrays = loadmat(path, variable_names=("X", "y"))
        return arrays["X"], arrays["y"]
    except KeyError as error:
        raise UserError(f"{path} has no variable {error}: replace it by a whole copy") from error
    except Exception as error:  # a broken file can make the reader raise anything
        raise UserError(f"{path} is no readable mat file ({type(error).__name__}): replace it") from error
