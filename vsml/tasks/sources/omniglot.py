"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each by as many people, here 28x28.

The published drawings are 105x105, black (0) on white (1). Each pixel here is the mean of what it covers there,
rounded to bytes: A I A^T, A[i, j] the share of pixel i, 3.75 wide, that j covers. Mean and standard deviation are those
of the full-sized drawings, as published experiments use them.

The two small sets are parts of `background` and have two alphabets in common, drawing for drawing: what one of them
holds out are the three alphabets that only the other one has.

Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction",
Science 350, 2015. Turned characters as further classes: Vinyals et al. 2016, arXiv 1606.04080.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Overlap, Source
from vsml.tasks.sources.archive import read_zip
from vsml.tasks.sources.files import PublishedFile
from vsml.tasks.sources.labelled import labelled
from vsml.tasks.split import Split

_MIRRORS = (
    "https://github.com/brendenlake/omniglot/raw/master/python/",
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
)
FILES = {
    "background": PublishedFile("omniglot", "images_background.zip", "68d2efa1b9178cc56df9314c21c6e718", _MIRRORS),
    "evaluation": PublishedFile("omniglot", "images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811", _MIRRORS),
    "background_small1": PublishedFile("omniglot", "images_background_small1.zip", None, _MIRRORS),
    "background_small2": PublishedFile("omniglot", "images_background_small2.zip", None, _MIRRORS),
}
_SMALL = {"background_small1": "background_small2", "background_small2": "background_small1"}
_IN_BOTH_SMALL = ("Greek", "Latin")
_SIZE = 28


@dataclass(frozen=True)
class Omniglot(Source):
    """Omniglot: handwritten characters, 28x28, 20 drawings of each; every character is a class.

    Drawings are in order of alphabet, character and drawer, so that slices in steps of 20 are characters.

    Attributes:
      split: `background` (964 characters), `evaluation` (659 others), the authors' smaller `background_small1` (136)
        and `background_small2` (156), or a slice of one.
      without: names of alphabets that are left out, before any slice is taken.
      quarter_turns: whether every character is there four times, turned by 0, 90, 180 and 270 degrees, as four classes.
        What is held out is never turned.
    """

    split: str = "background"
    without: tuple[str, ...] = ()
    quarter_turns: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(self.without))

    def held_out(self) -> Self:
        """The other half of the published ones, the alphabets that only the other small set has, or other examples."""
        if self.split in _SMALL:
            return replace(self, split=_SMALL[self.split], without=_IN_BOTH_SMALL, quarter_turns=False)
        return replace(super().held_out(), quarter_turns=False)

    def overlap(self, other: Source) -> Overlap:
        """As every source. Only what one holds out of the other is known to share no alphabet with it."""
        if not isinstance(other, Omniglot):
            return "nothing"
        if self.is_held_out_by(other) or other.is_held_out_by(self):
            return "other split"
        mine, others = Split.parse(self.split), Split.parse(other.split)
        if mine.name == others.name:
            return "examples" if mine.overlaps(others) else "other split"
        return "other split" if "evaluation" in (mine.name, others.name) else "examples"

    def read(self) -> Dataset:
        split = Split.parse(self.split, tuple(FILES))
        path = FILES[split.name].fetch()
        files = read_zip(path, lambda name: name.endswith(".png") and not name.startswith("__MACOSX"))
        if not files:
            raise UserError(f"{path} holds no png files: replace it by a whole copy")
        alphabets = {name: name.split("/")[-3] for name in files}  # .../alphabet/character/drawing.png
        if unknown := sorted(set(self.without) - set(alphabets.values())):
            raise UserError(
                f"sources.Omniglot.without names {unknown[0]!r}, but {path.name} holds "
                f"{', '.join(sorted(set(alphabets.values())))}: name one of these"
            )
        files = {name: data for name, data in files.items() if alphabets[name] not in self.without}
        if not files:
            raise UserError("sources.Omniglot.without leaves out every alphabet: keep one")
        images = np.stack([_shrunk(_read_png(data, f"{path}/{name}")) for name, data in files.items()])
        folders = [name.rpartition("/")[0] for name in files]  # of one character each
        _, labels = np.unique(folders, return_inverse=True)
        dataset = labelled("Omniglot", images, labels, split, moments=(0.92206, 0.26808))
        return _turned(dataset) if self.quarter_turns else dataset


def _turned(dataset: Dataset) -> Dataset:
    """The drawings [n, 28, 28, 1], then the same turned by one, two and three quarters as classes of their own."""
    x = np.concatenate([np.rot90(dataset.x, turns, axes=(1, 2)) for turns in range(4)])
    y = np.concatenate([dataset.y + turns * dataset.num_classes for turns in range(4)])
    return dataset._replace(x=x, y=y, num_classes=4 * dataset.num_classes)


def _read_png(data: bytes, path: str) -> np.ndarray:
    """A drawing [height, width] in 0..1."""
    from matplotlib.image import imread  # takes a while to import; only this source needs it

    try:
        drawing = imread(io.BytesIO(data), format="png")
    except Exception as error:  # a broken file can make the reader raise anything
        raise UserError(f"{path} is no readable png file: replace the archive by a whole copy") from error
    if drawing.ndim != 2:
        raise UserError(f"{path} is a picture in colour, not a drawing: replace the archive by a whole copy")
    return drawing


def _shrunk(drawing: np.ndarray) -> np.ndarray:
    """The drawing as bytes [28, 28]."""
    rows, columns = map(_averaging, drawing.shape)
    return np.rint(255.0 * (rows @ drawing @ columns.T)).astype(np.uint8)


@functools.cache
def _averaging(size: int) -> np.ndarray:
    """The matrix [28, size] that averages `size` pixels to 28."""
    width = size / _SIZE
    borders = width * np.arange(_SIZE + 1)[:, None]
    pixels = np.arange(size)[None, :]
    covered = np.minimum(borders[1:], pixels + 1) - np.maximum(borders[:-1], pixels)
    return np.maximum(covered, 0.0) / width
