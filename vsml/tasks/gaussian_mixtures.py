"""Classification tasks without end: every lifetime has clusters of its own, and a map from them to its inputs.

    classes y have `clusters` centres each, c ~ N(0, 1)^r       spread s, log-uniform in its range, per lifetime
    z = c + s N(0, 1)^r          x = relu(z A + b) B            A, b and B drawn per lifetime, entries of z are r

Then x is standardised, by one mean and one deviation of the lifetime, as images are. A small spread makes a task easy,
a large one makes clusters overlap, so that no learner is ever right about all. With many clusters a class is no single
cloud, so that its mean says little. A share of labels may be wrong.

Source: this project's; Gaussian clusters are what the generator of Guyon 2003 for the NIPS feature selection challenge
begins with too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import TaskDistribution, TaskSpec, Transform
from vsml.tasks.supervised import ClassificationTask
from vsml.types import Array, Key

WIDTH = 4
"""Units of the random layer between z and x, per entry of z."""


@dataclass(frozen=True)
class GaussianMixtures(TaskDistribution):
    """Classes that are mixtures of Gaussian clusters, seen through a random layer.

    Attributes:
      length: T, the number of steps of a lifetime.
      inputs: numbers of an input.
      classes: number of classes, equally frequent.
      clusters: of each class.
      rank: r, dimensions in which the clusters lie.
      spread: lowest and highest deviation of a cluster, where those of centres is 1.
      label_noise: share of the labels that are drawn at random instead.
      batch: B, examples per step.
    """

    length: int
    inputs: int = 64
    classes: int = 10
    clusters: int = 3
    rank: int = 16
    spread: tuple[float, float] = (0.3, 1.0)
    label_noise: float = 0.0
    batch: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "spread", tuple(self.spread))
        for name, least in (("length", 1), ("inputs", 1), ("classes", 2), ("clusters", 1), ("rank", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"tasks.GaussianMixtures.{name} is {getattr(self, name)}: give at least {least}")
        if len(self.spread) != 2 or not 0 < self.spread[0] <= self.spread[1]:
            raise UserError(
                f"tasks.GaussianMixtures.spread is {self.spread}: give the lowest and the highest, both above 0"
            )
        if not 0 <= self.label_noise < 1:
            raise UserError(
                f"tasks.GaussianMixtures.label_noise is {self.label_noise}: give a share, from 0 to below 1"
            )

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((self.inputs,), self.classes, self.length, self.batch)

    def for_meta_test(self, transforms: tuple[Transform, ...], length: int | None, held_out: bool = True) -> Self:
        """The same: no two lifetimes share a task. Transforms are for data that exist."""
        if transforms:
            raise UserError("tasks.GaussianMixtures takes no transforms: leave tasks.HeldOut.transforms empty")
        return replace(self, length=length or self.length)

    def load(self) -> Any:
        """Nothing."""
        return ()

    def sample(self, data: Any, key: Key) -> ClassificationTask:
        size = self.length * self.batch
        keys = jax.random.split(key, 8)
        low, high = jnp.log(jnp.asarray(self.spread))
        spread = jnp.exp(jax.random.uniform(keys[0], (), minval=low, maxval=high))
        centres = jax.random.normal(keys[1], (self.classes, self.clusters, self.rank))
        true = jax.random.randint(keys[2], (size,), 0, self.classes)
        cluster = jax.random.randint(keys[3], (size,), 0, self.clusters)
        z = centres[true, cluster] + spread * jax.random.normal(keys[4], (size, self.rank))
        x = self._seen(keys[5], z)
        wrong = jax.random.bernoulli(keys[6], self.label_noise, (size,))
        label = jnp.where(wrong, jax.random.randint(keys[7], (size,), 0, self.classes), true)
        steps = (self.length, self.batch)
        y = jax.nn.one_hot(label, self.classes).reshape(*steps, self.classes)
        return ClassificationTask(x.reshape(*steps, self.inputs), y, jnp.ones(steps))

    def _seen(self, key: Key, z: Array) -> Array:
        """Inputs [n, inputs] of z [n, rank]."""
        first, offset, second = jax.random.split(key, 3)
        width = WIDTH * self.rank
        hidden = z @ jax.random.normal(first, (self.rank, width)) / self.rank**0.5
        hidden = jax.nn.relu(hidden + jax.random.normal(offset, (1, width)))
        x = hidden @ jax.random.normal(second, (width, self.inputs)) / width**0.5
        return (x - x.mean()) / x.std()
