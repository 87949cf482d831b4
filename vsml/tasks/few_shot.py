"""Few-shot lifetimes: N classes, K labelled examples of each in random order, then Q queries, which alone count.

    classes      N of those of the source, drawn per task in random order; their order is their labels
    support      all N K pairs (class, shot) in uniformly random order; their shots are distinct examples
    query        class ~ U{0, ..., N - 1}, independently of everything else; an example that is not in the support

Neither the place of an item nor anything before a query tells its label: only its likeness to a support item does.
A query repeats no other one as long as its class has further examples.

Source: the protocol of Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching networks for one shot learning",
NeurIPS 2016, arXiv 1606.04080; as one sequence in Kirsch & Schmidhuber 2021, arXiv 2012.14905, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Source, TaskDistribution, TaskSpec, Transform
from vsml.tasks.one_source import (
    Resident,
    Spec,
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
class FewShot(TaskDistribution):
    """Few-shot classification: `ways` x `shots` labelled examples, then queries, one example per step.

    A lifetime has `ways * shots + queries` steps; the mask is 1 on the queries alone.

    Attributes:
      source: where the examples come from; classes with fewer than `shots + 1` of them are left out.
      ways: N, the number of classes of a task.
      shots: K, the number of labelled examples of each class.
      queries: Q, the number of predictions that count.
      transforms: applied in this order to all examples of a lifetime; their labels are the N of the task.
      num_tasks: a finite number of tasks, that is of draws of classes, their labels, and the transforms; None for a
        fresh one per lifetime. Which examples a lifetime sees, and in which order, is always drawn again.
      task_seed: another seed is another set of `num_tasks` tasks.
    """

    source: Source
    ways: int = 5
    shots: int = 1
    queries: int = 1
    transforms: tuple[Transform, ...] = ()
    num_tasks: int | None = None
    task_seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("num_tasks", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"tasks.FewShot.{name} is {value}: give at least {least}")

    @property
    def _length(self) -> int:
        return self.ways * self.shots + self.queries

    @property
    def spec(self) -> TaskSpec:
        dataset = self.source.load()
        enough = int(np.sum(np.bincount(dataset.y) > self.shots))
        if enough < self.ways:
            raise UserError(
                f"tasks.FewShot needs {self.ways} classes of {self.shots + 1} examples or more, but the source has "
                f"{enough}: lower ways or shots, or use a larger split"
            )
        check_changes(self.transforms, self._length)
        shape, num_classes = self._specs(dataset.x.shape[1:])[-1]
        return TaskSpec(shape, num_classes, self._length)

    @property
    def data(self) -> str:
        return self.source.data

    def for_meta_test(self, transforms: tuple[Transform, ...], length: int | None, held_out: bool = True) -> Self:
        """As every distribution; the length follows from ways, shots and queries, and stays."""
        source = self.source.held_out() if held_out else self.source
        return replace(self, source=source, transforms=transforms, num_tasks=None)

    def load(self) -> Resident:
        return resident(self.source.load())

    def sample(self, data: Resident, key: Key) -> ClassificationTask:
        data = jax.tree.map(jnp.asarray, data)  # nothing to do for what is on the device
        examples_key, key = jax.random.split(key)
        classes_key, key = jax.random.split(task_key(key, self.num_tasks, self.task_seed))
        keys, found = transform_keys(key, self.transforms), self._specs(data.x.shape[1:])
        way, index = self._draw(examples_key, data, self._classes(classes_key, data))
        labels = [
            relabelled(self.transforms, keys, found, part.start)[way[part]]
            for part in parts(self.transforms, self._length)
        ]
        mask = (jnp.arange(self._length) >= self.ways * self.shots).astype(jnp.float32)[:, None]
        return make_task(self.transforms, keys, data, index, jnp.concatenate(labels), mask, found[-1])

    def _specs(self, shape: tuple[int, ...]) -> list[Spec]:
        found = specs(self.transforms, shape, self.ways)
        if min(num_classes for _, num_classes in found) < self.ways:
            raise UserError("tasks.FewShot: transforms must keep all classes: set ways instead of taking a subset")
        return found

    def _classes(self, key: Key, data: Resident) -> Array:
        """The classes of a task, [ways], in random order, among those that have enough examples."""
        score = jax.random.uniform(key, data.counts.shape)
        return jnp.argsort(jnp.where(data.counts > self.shots, score, 2.0))[: self.ways].astype(jnp.int32)

    def _draw(self, key: Key, data: Resident, classes: Array) -> tuple[Array, Array]:
        """Which of the task's classes each item of a lifetime is of, and its place in the source: [T] each."""
        order_key, query_key, examples_key = jax.random.split(key, 3)
        support = jax.random.permutation(order_key, jnp.arange(self.ways * self.shots, dtype=jnp.int32))
        query = jax.random.randint(query_key, (self.queries,), 0, self.ways, jnp.int32)
        asked = jax.nn.one_hot(query, self.ways, dtype=jnp.int32)
        earlier = jnp.take_along_axis(jnp.cumsum(asked, axis=0) - asked, query[:, None], axis=1)[:, 0]
        way = jnp.concatenate([support // self.shots, query])
        turn = jnp.concatenate([support % self.shots, self.shots + earlier])

        # The examples of each class in a random order of its own: first its shots, then what its queries go round.
        counts = data.counts[classes]
        turns = jnp.arange(self.shots + self.queries, dtype=jnp.int32)[None, :]
        spare = counts[:, None] - self.shots
        places = jnp.where(turns < self.shots, turns, self.shots + (turns - self.shots) % spare)
        order = jax.vmap(shuffled)(jax.random.split(examples_key, self.ways), places, counts)
        starts = jnp.cumsum(data.counts, dtype=jnp.int32) - data.counts
        return way, data.order[starts[classes[way]] + order[way, turn]]
