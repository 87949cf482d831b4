"""Lifetimes of labelled examples of one source.

A lifetime draws T * B examples in random order. None repeats before all that may occur were seen; then they are
shuffled again. With `replacement` they are drawn independently. The transforms make the task: fresh ones per lifetime,
or one of a finite number of tasks (see `one_source`). Where a transform changes the number of examples that may occur
in mid-lifetime, they are shuffled again as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source, TaskDistribution, TaskSpec, Transform
from vsml.tasks.one_source import (
    Resident,
    check_changes,
    make_task,
    parts,
    relabelled,
    resident,
    specs,
    task_key,
    transform_keys,
)
from vsml.tasks.shuffle import shuffled
from vsml.tasks.supervised import ClassificationTask
from vsml.types import Array, Key


@dataclass(frozen=True)
class Classification(TaskDistribution):
    """Online classification of the examples of one source.

    Attributes:
      source: where the examples come from.
      length: T, the number of steps of a lifetime.
      batch: B, the number of examples per step.
      transforms: applied in this order to all examples of a lifetime.
      num_tasks: a finite number of tasks, that is of draws of the transforms; None for a fresh one per lifetime. Which
        examples a lifetime sees is always drawn again.
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
        found = specs(self.transforms, dataset.x.shape[1:], dataset.num_classes)
        _check_classes(dataset, [num_classes for _, num_classes in found])
        check_changes(self.transforms, self.length * self.batch)
        shape, num_classes = found[-1]
        return TaskSpec(shape, num_classes, self.length, self.batch)

    @property
    def data(self) -> str:
        return self.source.data

    @property
    def different_examples(self) -> int:
        dataset = self.source.load()
        found = specs(self.transforms, dataset.x.shape[1:], dataset.num_classes)
        smallest = np.sort(np.bincount(dataset.y, minlength=dataset.num_classes))
        return int(smallest[: dataset.num_classes - _left_out([classes for _, classes in found])].sum())

    def for_meta_test(self, transforms: tuple[Transform, ...], length: int | None, held_out: bool = True) -> Self:
        source = self.source.held_out() if held_out else self.source
        return replace(self, source=source, transforms=transforms, length=length or self.length, num_tasks=None)

    def load(self) -> Resident:
        return resident(self.source.load())

    def sample(self, data: Resident, key: Key) -> ClassificationTask:
        data = jax.tree.map(jnp.asarray, data)  # nothing to do for what is on the device
        examples_key, key = jax.random.split(key)
        keys = transform_keys(task_key(key, self.num_tasks, self.task_seed), self.transforms)
        found = specs(self.transforms, data.x.shape[1:], data.counts.shape[0])
        drawn = [
            self._draw(examples_key, data, relabelled(self.transforms, keys, found, part.start), part)
            for part in parts(self.transforms, self.length * self.batch)
        ]
        index, labels = (jnp.concatenate(pieces) for pieces in zip(*drawn, strict=True))
        mask = jnp.ones((self.length, self.batch), jnp.float32)
        return make_task(self.transforms, keys, data, index, labels, mask, found[-1])

    def _draw(self, key: Key, data: Resident, labels: Array, part: slice) -> tuple[Array, Array]:
        """Indices into the source and labels of the examples of a part of a lifetime, [size of the part] each."""
        available = jnp.where(labels >= 0, data.counts, 0)
        ends = jnp.cumsum(available, dtype=jnp.int32)
        total = ends[-1]
        if self.replacement:
            rank = jax.random.randint(key, (self.length * self.batch,), 0, total)[part]
        else:  # with the same key for every part: each goes on in the order of the one before
            rank = shuffled(key, jnp.arange(part.start, part.stop, dtype=jnp.int32), total)
        # The available examples are numbered class by class: find the class, then the place inside it.
        source_class = jnp.searchsorted(ends, rank, side="right")
        starts = jnp.cumsum(data.counts, dtype=jnp.int32) - data.counts
        place = starts[source_class] + rank - (ends - available)[source_class]
        return data.order[place], labels[source_class]


def _left_out(num_classes: list[int]) -> int:
    """How many classes of the source transforms leave out, given the numbers before and after each."""
    return sum(max(0, before - after) for before, after in pairwise(num_classes))


def _check_classes(dataset: Dataset, num_classes: list[int]) -> None:
    """Raises `UserError` where the classes that transforms leave out may be all that have examples."""
    left_out = _left_out(num_classes)
    occupied = len(np.unique(dataset.y))
    if occupied <= left_out:
        raise UserError(
            f"the transforms leave out {left_out} classes, but only {occupied} have examples, so a lifetime may have "
            f"none: keep more classes, use a larger split, or pad after taking a subset"
        )
    if min(occupied, *num_classes) < 2:
        raise UserError(
            "all examples of a lifetime are of one class, which any learner predicts at once: use data of two classes "
            "or more, a split that holds them, and transforms that keep them"
        )
