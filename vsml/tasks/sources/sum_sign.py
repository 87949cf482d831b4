"""Sum Sign: is the sum of all pixels negative? Two classes, no structure in space.

    m ~ U(-1, 1),  x = m + z with z ~ N(0, 1) truncated to [-2, 2],  y = [sum x >= 0]

Source: the set of this name in the experiments of Kirsch and Schmidhuber, arXiv 2012.14905; for meta-testing there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source


@dataclass(frozen=True)
class SumSign(Source):
    """Noise images with a random mean, labelled by the sign of their sum.

    Its moments are given as 0 and 1, so that standardising keeps the sign.

    Attributes:
      num_examples: number of images.
      image_shape: shape of one image.
      seed: another seed is another set.
    """

    num_examples: int = 10_000
    image_shape: tuple[int, ...] = (28, 28, 1)
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        if min(self.num_examples, *self.image_shape) < 1:
            raise UserError("sources.SumSign: num_examples and the sizes in image_shape must be at least 1")
        if self.seed < 0:
            raise UserError(f"sources.SumSign.seed is {self.seed}: set it to 0 or more")

    def held_out(self) -> Self:
        """Images of another seed."""
        return replace(self, seed=self.seed + 1)

    def read(self) -> Dataset:
        from scipy.special import ndtr, ndtri

        rng = np.random.default_rng(self.seed)
        centre = rng.uniform(-1.0, 1.0, (self.num_examples, *(1 for _ in self.image_shape)))
        noise = ndtri(rng.uniform(ndtr(-2.0), ndtr(2.0), (self.num_examples, *self.image_shape)))
        x = (centre + noise).astype(np.float32)
        y = (x.reshape(self.num_examples, -1).sum(axis=1, dtype=np.float64) >= 0.0).astype(np.int32)
        return Dataset(x, y, num_classes=2, mean=0.0, std=1.0)
