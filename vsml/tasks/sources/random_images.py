"""Random: a few fixed images of noise with uniformly drawn labels. There is nothing to find but the association.

    x ~ N(0, 1), y ~ U{0, ..., num_classes - 1}, both drawn once

Source: the set of this name in the experiments of Kirsch and Schmidhuber, arXiv 2012.14905.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source


@dataclass(frozen=True)
class Random(Source):
    """A few fixed images of noise with random labels.

    Its moments are 0 and 1, so that standardising leaves it alone.

    Attributes:
      num_examples: number of images.
      image_shape: shape of one image.
      num_classes: number of classes; a class may have no image.
      seed: another seed is another set.
    """

    num_examples: int = 20
    image_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        if min(self.num_examples, self.num_classes, *self.image_shape) < 1:
            raise UserError("sources.Random: num_examples, num_classes and the sizes in image_shape must be at least 1")
        if self.seed < 0:
            raise UserError(f"sources.Random.seed is {self.seed}: set it to 0 or more")

    def held_out(self) -> Self:
        """Images of another seed."""
        return replace(self, seed=self.seed + 1)

    def read(self) -> Dataset:
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.num_examples, *self.image_shape), np.float32)
        y = rng.integers(0, self.num_classes, self.num_examples, np.int32)
        return Dataset(x, y, self.num_classes, mean=0.0, std=1.0)
