"""The smallest task distribution: Gaussian inputs, uniform labels, some predictions masked out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array


@dataclass(frozen=True)
class NoiseTasks(TaskDistribution):
    """Nothing to learn, everything to compute; floats are of the default precision, so also of double precision."""

    num_inputs: int = 3
    num_classes: int = 2
    length: int = 5
    batch: int = 1

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((self.num_inputs,), self.num_classes, self.length, self.batch)

    def load(self) -> Any:
        return ()

    def sample(self, data: Any, key: Array) -> Task:
        x_key, y_key, mask_key = jax.random.split(key, 3)
        steps = (self.length, self.batch)
        labels = jax.random.randint(y_key, steps, 0, self.num_classes)
        mask = jax.random.bernoulli(mask_key, 0.8, steps).astype(float)
        x = jax.random.normal(x_key, (*steps, self.num_inputs))
        return Task(x, jax.nn.one_hot(labels, self.num_classes, dtype=float), mask.at[0].set(1.0))

