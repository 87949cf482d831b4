"""What the distributions over one source share: the resident arrays, and the transforms that make a lifetime's task.

A task is a draw of the transforms: a fresh one per lifetime, or one of a finite number, each regenerated from its id:

    task's key = fold_in(key(task_seed), id),  id ~ U{0, ..., num_tasks - 1} per lifetime

A transform that changes within a lifetime (`Transform.changes`) has another key from each change on. The examples
between two changes of any transform are a part of the lifetime: within it nothing changes.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Examples, Transform
from vsml.tasks.supervised import ClassificationTask
from vsml.types import Array, Key

Spec = tuple[tuple[int, ...], int]
"""Input shape and number of classes."""


class Resident(NamedTuple):
    """What a lifetime is drawn from: NumPy arrays as loaded, JAX arrays once they are on the devices."""

    x: Any  # [n, *input_shape] uint8 or float32
    order: Any  # [n] int32, examples class by class: what makes drawing from some classes cheap
    counts: Any  # [classes of the source] int32, examples of each class
    mean: Any  # scalar float32
    std: Any  # scalar float32


def resident(dataset: Dataset) -> Resident:
    """The arrays of a source as a lifetime needs them."""
    return Resident(
        x=dataset.x,
        order=np.argsort(dataset.y, kind="stable").astype(np.int32),
        counts=np.bincount(dataset.y, minlength=dataset.num_classes).astype(np.int32),
        mean=np.asarray(dataset.mean, np.float32),
        std=np.asarray(dataset.std, np.float32),
    )


def inputs(data: Resident, index: Array) -> Array:
    """The inputs at places [n] of the source, float32 [n, *input_shape]; bytes are read as x / 255."""
    x = data.x[index]
    return x.astype(jnp.float32) / 255.0 if data.x.dtype == jnp.uint8 else x


def specs(transforms: tuple[Transform, ...], shape: tuple[int, ...], num_classes: int) -> list[Spec]:
    """Input shape and number of classes before the transforms and after each. Raises `UserError` for a misfit."""
    found = [(tuple(shape), num_classes)]
    for transform in transforms:
        found.append(transform.output_spec(*found[-1]))
    return found


def check_changes(transforms: tuple[Transform, ...], size: int) -> None:
    """Raises `UserError` where a lifetime of `size` examples ends before a transform changes."""
    for transform in transforms:
        for change in transform.changes:
            if change >= size:
                raise UserError(
                    f"transforms.{type(transform).__name__} changes at example {change}, but a lifetime has only "
                    f"{size}, counted from 0: let it change earlier, or make lifetimes longer"
                )


def task_key(key: Key, num_tasks: int | None, task_seed: int) -> Key:
    """The key of a fresh task, or of one of `num_tasks`."""
    if num_tasks is None:
        return key
    task = jax.random.randint(key, (), 0, num_tasks)
    return jax.random.fold_in(jax.random.key(task_seed), task)


def transform_keys(key: Key, transforms: tuple[Transform, ...]) -> list[Key]:
    """One key per transform of a task, that of its first draw."""
    return [jax.random.fold_in(key, position) for position in range(len(transforms))]


def parts(transforms: tuple[Transform, ...], size: int) -> list[slice]:
    """The parts of a lifetime of `size` examples in which no transform changes."""
    changes = {change for transform in transforms for change in transform.changes if change < size}
    return [slice(start, stop) for start, stop in pairwise(sorted({0, size} | changes))]


def relabelled(transforms: tuple[Transform, ...], keys: list[Key], found: list[Spec], start: int) -> Array:
    """The label of every class in the part of a lifetime from `start` on, -1 for a class that does not occur.

    Args:
      transforms: in order.
      keys: one per transform.
      found: their `specs`.
      start: an example of the part.

    Returns:
      int32 [classes before the transforms].
    """
    labels = jnp.arange(found[0][1], dtype=jnp.int32)
    for transform, key, (_, num_classes) in zip(transforms, keys, found[:-1], strict=True):
        new = transform.relabel(_key_at(transform, key, start), num_classes)
        labels = labels if new is None else jnp.where(labels >= 0, new[labels], -1)
    return labels


def make_task(
    transforms: tuple[Transform, ...],
    keys: list[Key],
    data: Resident,
    index: Array,
    labels: Array,
    mask: Array,
    spec: Spec,
) -> ClassificationTask:
    """Reads the examples of a lifetime, transforms them, and arranges them in steps.

    Args:
      transforms: in order.
      keys: one per transform.
      data: the source's arrays, on the device.
      index: int32 [T * B], places in the source.
      labels: int32 [T * B], labels after all transforms.
      mask: [T, B].
      spec: input shape and number of classes after all transforms.
    """
    examples = Examples(inputs(data, index), data.mean, data.std)
    for transform, key in zip(transforms, keys, strict=True):
        examples = _apply(transform, key, examples)
    shape, num_classes = spec
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    x = examples.x.reshape(*mask.shape, *shape)
    return ClassificationTask(x, one_hot.reshape(*mask.shape, num_classes), mask)


def _key_at(transform: Transform, key: Key, example: int) -> Key:
    """The key of the draw that holds at an example."""
    draw = bisect_right(transform.changes, example)
    return jax.random.fold_in(key, draw) if draw else key


def _apply(transform: Transform, key: Key, examples: Examples) -> Examples:
    """Applies a transform to each part between its changes."""
    applied = [
        transform.apply(_key_at(transform, key, part.start), examples._replace(x=examples.x[part]))
        for part in parts((transform,), len(examples.x))
    ]
    return applied[0] if len(applied) == 1 else applied[0]._replace(x=jnp.concatenate([part.x for part in applied]))
