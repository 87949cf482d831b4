"""Data sets kept as NumPy archives: one npz with images and labels, or one of each."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import find, name_of_file
from vsml.tasks.sources.labelled import PARTS, halved
from vsml.tasks.split import Split


def read_npz(path: Path, key: str, field: str = "") -> np.ndarray:
    """Reads the array `key`, never a pickle. Raises `UserError` where it is missing or the file is corrupt.

    Args:
      path: of the file.
      key: the name of the array.
      field: what says it, for the message; nothing where users cannot.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is not an npz file: save the arrays with numpy.savez")
            if key not in archive.files:
                mend = f"; set {field} to one of them" if field and archive.files else ""
                raise UserError(f"{path} has no array {key!r}: it holds {', '.join(archive.files) or 'nothing'}{mend}")
            return archive[key]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        # NumPy raises ValueError for what would need pickle, which could run code: numbers never do.
        raise UserError(f"{path} is a corrupt npz file or holds objects: save plain arrays again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give a readable npz file") from error


@dataclass(frozen=True)
class NpzFiles(Source):
    """Images and labels from npz files.

    Attributes:
      images: path of the npz with the images, [n, h, w], [n, h, w, c] or [n, ...]; uint8 is read as x / 255.
      labels: path of the npz with the labels, [n]; by default the file of the images.
      images_key: name of the images inside their file.
      labels_key: name of the labels inside theirs.
      split: `all`, `train` (every second example of each class, its first one included), `test` (the others) or a slice
        of one, such as `all[:8000]`.
    """

    images: str
    labels: str | None = None
    images_key: str = "arr_0"
    labels_key: str = "arr_0"
    split: str = "all"

    @property
    def data(self) -> str:
        return name_of_file(self.images)

    def read(self) -> Dataset:
        part = Split.parse(self.split, PARTS)  # a typo shows before the files are read
        images = read_npz(find(self.images), self.images_key, "sources.NpzFiles.images_key")
        labels = read_npz(find(self.labels or self.images), self.labels_key, "sources.NpzFiles.labels_key")
        return halved(self.images, images, labels, part)
