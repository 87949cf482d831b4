"""The idx format of MNIST, plain or gzipped, and data sets made of a pair of such files.

    2 zero bytes, 1 byte type, 1 byte number of dimensions d, d big-endian uint32 sizes, then the numbers, big-endian

Source: "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import find, name_of_file
from vsml.tasks.sources.labelled import PARTS, halved
from vsml.tasks.split import Split

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> np.ndarray:
    """Reads one idx file; the array has the machine's byte order. Raises `UserError` unless the file is whole."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a readable file") from error
    return parse_idx(data, str(path))


def parse_idx(data: bytes, path: str) -> np.ndarray:
    """As `read_idx`, of the bytes of a file; `path` is what error messages call it."""
    data = _unzipped(data, path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        start = data[:4].hex() or "nothing"
        raise UserError(f"{path} is not an idx file (it starts with {start}): give an idx or idx.gz file")
    dtype, header = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < header:
        raise UserError(f"{path} is truncated inside its header: replace it by a whole copy")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    expected = header + dtype.itemsize * math.prod(shape)
    if len(data) != expected:
        raise UserError(f"{path} is corrupt: {len(data)} bytes instead of {expected}; replace it by a whole copy")
    return np.frombuffer(data, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="), copy=True)


def _unzipped(data: bytes, path: str) -> bytes:
    try:
        return gzip.decompress(data) if data[:2] == _GZIP_MAGIC else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is a corrupt gzip file ({error}): replace it by a whole copy") from error


@dataclass(frozen=True)
class IdxFiles(Source):
    """Any pair of idx or idx.gz files.

    Attributes:
      images: path of the images, [n, h, w] or [n, ...].
      labels: path of the labels, [n].
      split: `all`, `train` (every second example of each class, its first one included), `test` (the others) or a slice
        of one, such as `all[:8000]`.
    """

    images: str
    labels: str
    split: str = "all"

    @property
    def data(self) -> str:
        return name_of_file(self.images)

    def read(self) -> Dataset:
        part = Split.parse(self.split, PARTS)  # a typo shows before the files are read
        return halved(self.images, read_idx(find(self.images)), read_idx(find(self.labels)), part)
