"""The smallest task distribution: uniform inputs and labels, every fifth prediction masked out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.tasks.base import TaskDistribution, TaskSpec
from vsml.tasks.supervised import ClassificationTask
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

    def sample(self, data: Any, key: Array) -> ClassificationTask:
        # All of one draw: random bits are the slowest part to compile.
        draw = jax.random.uniform(key, (self.length, self.batch, self.num_inputs + 2))
        labels = jnp.floor(draw[..., -1] * self.num_classes).astype(int)
        mask = (draw[..., -2] < 0.8).astype(float).at[0].set(1.0)
        return ClassificationTask(4 * draw[..., :-2] - 2, jax.nn.one_hot(labels, self.num_classes, dtype=float), mask)
