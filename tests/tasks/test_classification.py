"""Lifetimes drawn from a source."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from departures import assert_stays_on_devices

from vsml.errors import UserError
from vsml.tasks import Classification, Dataset, Source, TaskSpec
from vsml.tasks.sources import Digits, Random, SumSign
from vsml.tasks.transforms import (
    ClassSubset,
    LabelPermutation,
    Pad,
    PixelPermutation,
    RandomProjection,
    Resize,
    Standardise,
)


@dataclass(frozen=True)
class Numbered(Source):
    """Example i is the number i, of class i % classes."""

    n: int = 30
    classes: int = 5
    dtype: str = "float32"

    def read(self) -> Dataset:
        x = np.arange(self.n, dtype=self.dtype).reshape(self.n, 1)
        return Dataset(x, np.arange(self.n, dtype=np.int32) % self.classes, self.classes, 0.0, 1.0)


@functools.cache
def compiled(distribution, many):
    sample = jax.vmap(distribution.sample, (None, 0)) if many else distribution.sample
    return jax.jit(sample)


def draw(distribution, seed=0, lifetimes=None):
    key = jax.random.key(seed)
    keys = key if lifetimes is None else jax.random.split(key, lifetimes)
    return compiled(distribution, lifetimes is not None)(distribution.load(), keys)


def numbers(task):
    """Which examples a lifetime of `Numbered` saw, [..., T * B]."""
    return np.asarray(task.x)[..., 0].reshape(*task.x.shape[:-3], -1).astype(int)


def classes(task):
    return np.argmax(np.asarray(task.y), -1).reshape(*task.y.shape[:-3], -1)


def test_shapes_and_types_are_those_of_the_spec():
    distribution = Classification(Digits(), length=7, batch=3)
    task = draw(distribution)
    assert distribution.spec == TaskSpec((8, 8, 1), 10, 7, 3)
    assert task.x.shape == (7, 3, 8, 8, 1)
    assert task.y.shape == (7, 3, 10)
    assert task.mask.shape == (7, 3)
    assert {leaf.dtype for leaf in task} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(task.mask, 1.0)
    np.testing.assert_array_equal(np.sum(task.y, -1), 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_labels_belong_to_their_inputs(seed):
    task = draw(Classification(Numbered(n=33), length=20, batch=2), seed)
    np.testing.assert_array_equal(classes(task), numbers(task) % 5)


def test_bytes_are_read_as_shares_of_255():
    distribution = Classification(Numbered(n=200, dtype="uint8"), length=200)
    assert distribution.load().x.dtype == np.uint8
    task = draw(distribution)
    assert task.x.dtype == jnp.float32
    np.testing.assert_allclose(np.sort(task.x.ravel()), np.arange(200) / 255.0, rtol=1e-6)


def test_nothing_repeats_before_everything_was_seen():
    seen = numbers(draw(Classification(Numbered(30), length=35, batch=2), lifetimes=20))
    for lifetime in seen:
        assert set(lifetime[:30]) == set(lifetime[30:60]) == set(range(30))
        assert len(set(lifetime[60:])) == 10
        assert not np.array_equal(lifetime[:30], lifetime[30:60])
    assert len({tuple(lifetime) for lifetime in seen}) == 20


def test_a_part_of_the_examples_is_drawn_evenly():
    seen = numbers(draw(Classification(Numbered(30), length=10), lifetimes=900))
    assert all(len(set(lifetime)) == 10 for lifetime in seen)
    counts = np.bincount(seen.ravel(), minlength=30)
    np.testing.assert_allclose(counts, 300, atol=70)  # binomial(900, 1/3): standard deviation 14
    first = np.bincount(seen[:, 0], minlength=30)
    assert np.sum((first - 30) ** 2 / 30) < 58.3  # chi-square, 29 degrees of freedom, p = 0.001


def test_replacement_draws_independently():
    seen = numbers(draw(Classification(Numbered(30), length=60, replacement=True), lifetimes=200))
    distinct = np.mean([len(set(lifetime)) for lifetime in seen])
    assert distinct == pytest.approx(30 * (1 - (29 / 30) ** 60), abs=0.5)  # 26.08
    counts = np.bincount(seen.ravel(), minlength=30)
    assert np.sum((counts - 400) ** 2 / 400) < 58.3


def test_the_same_key_is_the_same_lifetime_alone_or_among_others():
    distribution = Classification(Digits(), 5, transforms=(Standardise(), RandomProjection(0.5), LabelPermutation()))
    data, keys = distribution.load(), jax.random.split(jax.random.key(4), 3)
    many = jax.jit(jax.vmap(distribution.sample, (None, 0)))(data, keys)
    sample = jax.jit(distribution.sample)
    for i in range(3):
        one = sample(data, keys[i])
        again = sample(data, keys[i])
        assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
        np.testing.assert_array_equal(one.y, many.y[i])
        np.testing.assert_allclose(one.x, many.x[i], atol=1e-5)
    assert not np.array_equal(many.x[0], many.x[1])


def test_sampling_needs_nothing_of_the_host():
    transforms = (Standardise(), Resize((4, 4)), RandomProjection(), ClassSubset(3), LabelPermutation())
    distribution = Classification(Digits(), 6, 2, transforms, num_tasks=4)
    data, key = jax.device_put(distribution.load()), jax.device_put(jax.random.key(0))
    sample = jax.jit(distribution.sample).lower(data, key).compile()
    with jax.transfer_guard_host_to_device("disallow"):
        task = jax.block_until_ready(sample(data, key))
    assert_stays_on_devices(sample)
    assert task.x.shape == (6, 2, 4, 4, 1)
    assert task.y.shape == (6, 2, 3)


def test_the_data_is_no_constant_of_the_program():
    distribution = Classification(Digits(), 5)
    data = distribution.load()
    text = jax.jit(distribution.sample).lower(data, jax.random.key(0)).as_text()
    assert len(text) < data.x.nbytes / 4


def test_a_class_subset_sees_only_its_classes_and_all_of_them():
    # Classes of unequal size: 0..4 have 7, 7, 7, 6, 6 of 33 examples.
    distribution = Classification(Numbered(33), length=14, transforms=(ClassSubset(2),))
    task = draw(distribution, lifetimes=40)
    assert distribution.spec.num_outputs == 2
    assert task.y.shape == (40, 14, 1, 2)
    pairs = set()
    for seen, labels in zip(numbers(task), classes(task), strict=True):
        old = {label: set(seen[labels == label] % 5) for label in (0, 1)}
        assert all(len(classes_of_label) == 1 for classes_of_label in old.values())
        kept = (*old[0], *old[1])
        pairs.add(kept)
        available = [i for i in range(33) if i % 5 in kept]
        assert set(seen) == set(available)
        assert sorted(seen[: len(available)]) == available
    assert len(pairs) > 10  # of 20 ordered pairs


def test_label_transforms_compose_in_any_order():
    for transforms in (
        (LabelPermutation(), ClassSubset(4), ClassSubset(2), Pad(num_classes=4)),
        (Pad(num_classes=7), LabelPermutation(0.5), ClassSubset(7)),
    ):
        distribution = Classification(Numbered(30), length=40, transforms=transforms)
        task = draw(distribution, lifetimes=10)
        np.testing.assert_array_equal(np.sum(task.y, -1), 1.0)
        for seen, labels in zip(numbers(task), classes(task), strict=True):
            pairs = set(zip(seen % 5, labels, strict=True))
            expected = 5 if distribution.spec.num_outputs == 7 else 2
            assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs}) == expected


def test_what_is_drawn_holds_for_the_whole_lifetime():
    distribution = Classification(Digits(), length=4, transforms=(PixelPermutation(), RandomProjection()))
    data, key = distribution.load(), jax.random.key(5)
    sample = jax.jit(distribution.sample)
    plain = jax.jit(Classification(Digits(), length=4).sample)(data, key).x.reshape(4, 64)
    x = sample(data, key).x.reshape(4, 64)
    # Both transforms are linear: one map for the whole lifetime maps a combination of examples to that of their images.
    weights = jnp.array([0.5, -1.0, 2.0, 0.25])

    def mixed(images):
        return data._replace(x=jnp.broadcast_to(images, data.x.shape))

    combined = sample(mixed((weights @ plain).reshape(8, 8, 1)), key).x[0].reshape(64)
    np.testing.assert_allclose(weights @ x, combined, atol=1e-4)


def test_a_finite_number_of_tasks_is_regenerated_from_ids():
    def tasks(num_tasks, task_seed, seed, lifetimes=60):
        distribution = Classification(
            Numbered(30), 30, transforms=(LabelPermutation(),), num_tasks=num_tasks, task_seed=task_seed
        )
        task = draw(distribution, seed, lifetimes)
        seen, labels = numbers(task), classes(task)
        assert len({tuple(row) for row in seen}) == lifetimes  # the examples are drawn again every time
        return {tuple(label[np.argsort(row)][:5]) for row, label in zip(seen, labels, strict=True)}

    four = tasks(4, 0, seed=0)
    assert len(four) == 4
    assert four == tasks(4, 0, seed=1)
    assert four != tasks(4, 1, seed=0)
    assert tasks(1, 0, seed=0) < four  # a task depends on its id, not on how many there are
    assert len(tasks(None, 0, seed=0)) > 30  # of 120 permutations


def test_standardised_digits_have_zero_mean_and_unit_deviation():
    task = draw(Classification(Digits(), 1797, transforms=(Standardise(),)))
    assert abs(float(jnp.mean(task.x))) < 1e-5
    assert float(jnp.std(task.x)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(Digits(), 0), "length is 0"),
        (lambda: Classification(Digits(), 1, batch=0), "batch is 0"),
        (lambda: Classification(Digits(), 1, num_tasks=0), "num_tasks is 0"),
        (lambda: Classification(Digits(), 1, transforms=(ClassSubset(11),)).spec, "cannot keep 11 of 10 classes"),
        (lambda: Classification(Digits(), 1, transforms=(Pad((7, 7, 1)),)).spec, "cannot pad inputs"),
        (lambda: Classification(Numbered(), 1, transforms=(Resize((2, 2)),)).spec, "needs images"),
        (lambda: Classification(Random(3), 1, transforms=(ClassSubset(2),)).spec, "leave out 8 classes, but only"),
        (lambda: Classification(Digits(), 1, transforms=(Pad(num_classes=62), ClassSubset(3))).spec, "leave out 59"),
        (lambda: Classification(Digits("all[5:5]"), 1).spec, "is empty"),
        (lambda: Classification(Digits("all[5:6]"), 1).spec, "all examples of a lifetime are of one class"),
        (lambda: Classification(Random(num_classes=1), 1).spec, "all examples of a lifetime are of one class"),
        (lambda: Classification(Digits(), 1, transforms=(ClassSubset(1),)).spec, "of one class"),
        (lambda: Random(seed=-1), "seed is -1"),
        (lambda: SumSign(seed=-1), "seed is -1"),
    ],
)
def test_what_does_not_fit_is_refused_early(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_distribution_is_a_value():
    distribution = Classification(Digits(), 5, transforms=(Standardise(), Resize((4, 4))))
    assert pickle.loads(pickle.dumps(distribution)) == distribution
    lists: Any = [Standardise(), Resize((4, 4))]  # as a configuration file gives them
    assert hash(distribution) == hash(Classification(Digits(), 5, transforms=lists))
