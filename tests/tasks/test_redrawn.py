"""Shifts within a lifetime: the plain draw before, another one after, nothing that changes in between."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks import Classification, Examples, FewShot
from vsml.tasks.one_source import parts
from vsml.tasks.sources import Random
from vsml.tasks.transforms import ClassSubset, LabelPermutation, PixelPermutation, RandomProjection, Redrawn

SOURCE = Random(num_examples=40, image_shape=(3,), num_classes=5)
CLASS_OF = {x.tobytes(): int(y) for x, y in zip(*SOURCE.load()[:2], strict=True)}


@functools.cache
def lifetimes(*transforms, number=8, **fields):
    """Host arrays of the first lifetimes of a seed, 10 steps of 2 examples each."""
    distribution = Classification(SOURCE, 10, batch=2, transforms=transforms, **fields)
    sample = jax.jit(jax.vmap(distribution.sample, (None, 0)))
    return jax.device_get(sample(distribution.load(), jax.random.split(jax.random.key(3), number)))


def classes(task):
    """Labels and classes of the source [lifetimes, 20]."""
    labels = np.argmax(task.y, -1).reshape(len(task.y), 20)
    return labels, np.array([[CLASS_OF[x.tobytes()] for x in row] for row in task.x.reshape(len(task.y), 20, 3)])


def meaning(labels, kinds):
    """Class of the source -> label; fails where a class has two."""
    found = dict(zip(kinds.tolist(), labels.tolist(), strict=True))
    assert [found[kind] for kind in kinds] == labels.tolist()
    assert len(set(found.values())) == len(found)
    return found


@pytest.mark.parametrize("replacement", [False, True])
def test_labels_change_at_the_example_and_nowhere_else(replacement):
    plain = lifetimes(LabelPermutation(), replacement=replacement)
    task = lifetimes(Redrawn(LabelPermutation(), 13), replacement=replacement)
    np.testing.assert_array_equal(task.x, plain.x)  # the same examples, none again because of the shift
    labels, kinds = classes(task)
    np.testing.assert_array_equal(labels[:, :13], classes(plain)[0][:, :13])
    changed = 0
    for row, kind in zip(labels, kinds, strict=True):
        before, after = meaning(row[:13], kind[:13]), meaning(row[13:], kind[13:])
        changed += any(before.get(kind, label) != label for kind, label in after.items())
    assert changed >= 6  # of 8; a permutation of 5 is the same one again in 1 of 120 draws


def test_inputs_change_by_the_draws_of_the_following_keys():
    """By hand: the first draw has the transform's key, the one after its n-th change fold_in(key, n)."""
    transform = Redrawn(Redrawn(PixelPermutation(), at=16), at=5)
    assert transform.changes == (5, 16)
    task, plain = lifetimes(transform, number=2), lifetimes(number=2)
    for i, key in enumerate(jax.random.split(jax.random.key(3), 2)):
        first = jax.random.fold_in(jax.random.split(key)[1], 0)
        keys = [first, jax.random.fold_in(first, 1), jax.random.fold_in(first, 2)]
        x = Examples(plain.x[i].reshape(20, 3), jnp.float32(0), jnp.float32(1))
        drawn = [PixelPermutation().apply(k, x).x for k in keys]
        np.testing.assert_array_equal(transform.apply(first, x).x, drawn[0])  # alone it is what it wraps
        expected = np.concatenate([drawn[0][:5], drawn[1][5:16], drawn[2][16:]])
        np.testing.assert_array_equal(task.x[i].reshape(20, 3), expected)


def test_classes_can_change_too():
    _, kinds = classes(lifetimes(Redrawn(ClassSubset(1), 10)))
    assert all(len(set(half)) == 1 for half in kinds.reshape(-1, 10))
    assert np.any(kinds[:, 0] != kinds[:, -1])


def test_transforms_change_each_at_its_own_example():
    transforms = (Redrawn(PixelPermutation(), 5), LabelPermutation(), Redrawn(RandomProjection(), 12))
    assert parts(transforms, 20) == [slice(0, 5), slice(5, 12), slice(12, 20)]
    assert parts(transforms, 12) == [slice(0, 5), slice(5, 12)]
    assert parts(transforms[1:2], 20) == [slice(0, 20)]


def test_a_finite_number_of_tasks_holds_shifts_as_well():
    # Sparing the learner nothing: both halves of a lifetime are determined by the id of its task.
    labels, kinds = classes(lifetimes(Redrawn(LabelPermutation(), 10), number=40, num_tasks=2))
    tasks: list[tuple[dict[int, int], dict[int, int]]] = []
    for row, kind in zip(labels, kinds, strict=True):
        seen = meaning(row[:10], kind[:10]), meaning(row[10:], kind[10:])
        for task in tasks:
            if all(known.get(k, v) == v for known, half in zip(task, seen, strict=True) for k, v in half.items()):
                task[0].update(seen[0])
                task[1].update(seen[1])
                break
        else:
            tasks.append(seen)
    assert len(tasks) == 2
    assert all(task[0] != task[1] for task in tasks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Redrawn(LabelPermutation(), 0), "at is 0: give at least 1"),
        (lambda: Redrawn(Redrawn(LabelPermutation(), 3), 3), "where its transform changes already"),
        (lambda: Classification(SOURCE, 5, 2, (Redrawn(LabelPermutation(), 10),)).spec, "has only 10"),
        (lambda: FewShot(SOURCE, transforms=(Redrawn(LabelPermutation(), 6),)).spec, "has only 6"),
        (lambda: Classification(SOURCE, 5, 1, (Redrawn(ClassSubset(6), 2),)).spec, "cannot keep 6"),
    ],
)
def test_what_does_not_fit_is_refused_early(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_it_is_a_value():
    transform = Redrawn(RandomProjection(0.5), at=9)
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert hash(transform) == hash(Redrawn(RandomProjection(0.5), at=9))
