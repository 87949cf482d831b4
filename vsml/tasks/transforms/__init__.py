"""Maps of all examples of one lifetime; one file per transform, applied in the order listed."""

from __future__ import annotations

from vsml.tasks.transforms.class_subset import ClassSubset
from vsml.tasks.transforms.label_permutation import LabelPermutation
from vsml.tasks.transforms.pad import Pad
from vsml.tasks.transforms.pixel_permutation import PixelPermutation
from vsml.tasks.transforms.random_projection import RandomProjection
from vsml.tasks.transforms.redrawn import Redrawn
from vsml.tasks.transforms.resize import Resize
from vsml.tasks.transforms.standardise import Standardise
from vsml.tasks.transforms.translate import Translate

__all__ = [
    "ClassSubset",
    "LabelPermutation",
    "Pad",
    "PixelPermutation",
    "RandomProjection",
    "Redrawn",
    "Resize",
    "Standardise",
    "Translate",
]
