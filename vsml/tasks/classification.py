"""Lifetimes of labelled examples of one source.

A lifetime draws T * B examples in random order. None repeats before all that may occur were seen; then they are
shuffled anew. With `replacement` they are drawn independently. The transforms make the task: fresh ones per lifetime,
or one of a finite number of tasks, each regenerated from its id:

    transforms' key = fold_in(key(task_seed), id),  id ~ U{0, ..., num_tasks - 1} per lifetime
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Examples, Source, Task, TaskDistribution, TaskSpec, Transform
from vsml.tasks.shuffle import shuffled
from vsml.types import Array, Key


class Resident(NamedTuple):
    """What a lifetime is drawn from: NumPy arrays as loaded, JAX arrays once they are on the devices."""

    x: Any  # [n, *input_shape] uint8 or float32
    order: Any  # [n] int32, examples class by class: what makes drawing from some classes cheap
    counts: Any  # [classes of the source] int32, examples of each class
    mean: Any  # scalar float32
    std: Any  # scalar float32


@dataclass(frozen=True)
class Classification(TaskDistribution):
    """Online classification of the examples of one source.

    Attributes:
      source: where the examples come from.
      length: T, the number of steps of a lifetime.
      batch: B, the number of examples per step.
      transforms: applied in this order to all examples of a lifetime.
      num_tasks: a finite number of tasks, that is of draws of the transforms; None for a fresh one per lifetime. Which
        examples a lifetime sees is always drawn anew.
      task_seed: another seed is another set of `num_tasks` tasks.
      replacement: draw each example independently.
    """

    source: Source
    length: int
    batch: int = 1
    transforms: tuple[Transform, ...] = ()
    num_tasks: int | None = None
    task_seed: int = 0
    replacement: bool = False

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for name in ("length", "batch", "num_tasks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"tasks.Classification.{name} is {value}: give at least 1")

    @property
    def spec(self) -> TaskSpec:
        dataset = self.source.load()
        specs = self._specs(dataset.x.shape[1:], dataset.num_classes)
        _check_classes(dataset, [num_classes for _, num_classes in specs])
        shape, num_classes = specs[-1]
        return TaskSpec(shape, num_classes, self.length, self.batch)

    def load(self) -> Resident:
        dataset = self.source.load()
        return Resident(
            x=dataset.x,
            order=np.argsort(dataset.y, kind="stable").astype(np.int32),
            counts=np.bincount(dataset.y, minlength=dataset.num_classes).astype(np.int32),
            mean=np.asarray(dataset.mean, np.float32),
            std=np.asarray(dataset.std, np.float32),
        )

    def sample(self, data: Resident, key: Key) -> Task:
        data = jax.tree.map(jnp.asarray, data)  # nothing to do for what is on the device
        examples_key, task_key = jax.random.split(key)
        keys = self._transform_keys(task_key)
        specs = self._specs(data.x.shape[1:], data.counts.shape[0])
        index, y = self._draw(examples_key, data, self._labels(keys, specs))
        x = data.x[index]
        x = x.astype(jnp.float32) / 255.0 if data.x.dtype == jnp.uint8 else x
        examples = Examples(x, data.mean, data.std)
        for transform, transform_key in zip(self.transforms, keys, strict=True):
            examples = transform.apply(transform_key, examples)
        steps, (shape, num_classes) = (self.length, self.batch), specs[-1]
        one_hot = jax.nn.one_hot(y, num_classes, dtype=jnp.float32)
        return Task(
            x=examples.x.reshape(*steps, *shape),
            y=one_hot.reshape(*steps, num_classes),
            mask=jnp.ones(steps, jnp.float32),
        )

    def _specs(self, shape: tuple[int, ...], num_classes: int) -> list[tuple[tuple[int, ...], int]]:
        """Input shape and number of classes of the source and behind every transform."""
        specs = [(tuple(shape), num_classes)]
        for transform in self.transforms:
            specs.append(transform.output_spec(*specs[-1]))
        return specs

    def _transform_keys(self, key: Key) -> list[Key]:
        """One key per transform, of this lifetime or of the task whose id this lifetime draws."""
        if self.num_tasks is not None:
            task = jax.random.randint(key, (), 0, self.num_tasks)
            key = jax.random.fold_in(jax.random.key(self.task_seed), task)
        return [jax.random.fold_in(key, position) for position in range(len(self.transforms))]

    def _labels(self, keys: list[Key], specs: list[tuple[tuple[int, ...], int]]) -> Array:
        """The label in this lifetime of every class of the source, -1 for a class that does not occur."""
        labels = jnp.arange(specs[0][1], dtype=jnp.int32)
        for transform, key, (_, num_classes) in zip(self.transforms, keys, specs[:-1], strict=True):
            new = transform.relabel(key, num_classes)
            labels = labels if new is None else jnp.where(labels >= 0, new[labels], -1)
        return labels

    def _draw(self, key: Key, data: Resident, labels: Array) -> tuple[Array, Array]:
        """Indices into the source and labels of the examples of a lifetime, [T * B] each."""
        available = jnp.where(labels >= 0, data.counts, 0)
        ends = jnp.cumsum(available, dtype=jnp.int32)
        total = ends[-1]
        size = self.length * self.batch
        if self.replacement:
            rank = jax.random.randint(key, (size,), 0, total)
        else:
            rank = shuffled(key, jnp.arange(size, dtype=jnp.int32), total)
        # The available examples are numbered class by class: find the class, then the place inside it.
        source_class = jnp.searchsorted(ends, rank, side="right")
        starts = jnp.cumsum(data.counts, dtype=jnp.int32) - data.counts
        place = starts[source_class] + rank - (ends - available)[source_class]
        return data.order[place], labels[source_class]


def _check_classes(dataset: Dataset, num_classes: list[int]) -> None:
    """Raises `UserError` where the classes that transforms leave out may be all that have examples."""
    left_out = sum(max(0, before - after) for before, after in pairwise(num_classes))
    occupied = len(np.unique(dataset.y))
    if occupied <= left_out:
        raise UserError(
            f"the transforms leave out {left_out} classes, but only {occupied} have examples, so a lifetime may have "
            f"none: keep more classes, use a larger split, or pad after taking a subset"
        )
