"""Zero mean and unit standard deviation: x <- (x - mean) / std, one mean and std for all inputs."""

from __future__ import annotations

from dataclasses import dataclass

from vsml.errors import UserError
from vsml.tasks.base import Examples, Transform
from vsml.types import Key


@dataclass(frozen=True)
class Standardise(Transform):
    """Subtracts the mean, divides by the standard deviation.

    Attributes:
      mean: what to subtract, in units of the source (images: 0 to 1); by default the mean of the source.
      std: what to divide by; by default the standard deviation of the source.
    """

    mean: float | None = None
    std: float | None = None

    def __post_init__(self):
        if self.std is not None and not self.std > 0.0:
            raise UserError(f"transforms.Standardise.std is {self.std}: give a positive number")

    def apply(self, key: Key, examples: Examples) -> Examples:
        mean = examples.mean if self.mean is None else self.mean
        std = examples.std if self.std is None else self.std
        return Examples((examples.x - mean) / std, (examples.mean - mean) / std, examples.std / std)
