"""EMNIST by class: 697,932 + 116,323 handwritten digits and letters, 28x28, 62 classes (0-9, A-Z, a-z), unbalanced.

The published files hold every image transposed; here they are upright, as those of MNIST.

Source: Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
arXiv 1702.05373.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.archive import read_zip
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.idx import parse_idx
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_MIRRORS = ("https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/")
FILE = PublishedFile("emnist", "gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", _MIRRORS)
_CLASSES = 62


@dataclass(frozen=True)
class EMNIST(Source):
    """EMNIST by class: 697,932 + 116,323 handwritten characters, 28x28, 62 classes.

    Attributes:
      split: `train`, `test` or a slice of one, such as `test[:8000]`.
    """

    split: str = "train"

    def read(self) -> Dataset:
        split = Split.parse(self.split, ("train", "test"))
        path = FILE.fetch()
        names = [f"gzip/emnist-byclass-{split.name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
        files = read_zip(path, lambda name: name in names)
        if len(files) < len(names):
            raise UserError(f"{path} holds no file {min(set(names) - set(files))}: replace it by a whole copy")
        transposed, labels = (parse_idx(files[name], f"{path}/{name}") for name in names)
        if transposed.ndim != 3:
            raise UserError(f"{path}: images must be [n, height, width], not {list(transposed.shape)}; replace it")
        images = np.ascontiguousarray(transposed.swapaxes(1, 2))
        return labelled("EMNIST", images, labels, split, moments=(0.17392, 0.33191), num_classes=_CLASSES)
