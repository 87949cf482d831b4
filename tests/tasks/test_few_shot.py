"""Few-shot lifetimes: what they hold, and that order and labels tell nothing of a query."""

from __future__ import annotations

import functools
import itertools
import pickle
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks import Dataset, FewShot, Source, TaskSpec
from vsml.tasks.transforms import ClassSubset, LabelPermutation, Pad, Redrawn


@dataclass(frozen=True)
class Drawings(Source):
    """Example e of class c is the pair (c, e); class 5 has a single example, class 6 none."""

    examples: int = 4

    def read(self) -> Dataset:
        pairs = np.array([(c, e) for e in range(self.examples) for c in range(5)] + [(5, 0)], np.float32)
        return Dataset(pairs, pairs[:, 0].astype(np.int32), num_classes=7, mean=0.0, std=1.0)


@functools.cache
def lifetimes(distribution, number=2000):
    """Class and number of the examples shown, and labels, of many lifetimes: [lifetimes, T] each; and the mask."""
    sample = jax.jit(jax.vmap(distribution.sample, (None, 0)))
    task = jax.device_get(sample(distribution.load(), jax.random.split(jax.random.key(0), number)))
    assert task.x.shape[1:] == (distribution.spec.length, 1, *distribution.spec.input_shape)
    np.testing.assert_array_equal(task.y.sum(-1), 1.0)
    return *task.x[:, :, 0].astype(int).transpose(2, 0, 1), np.argmax(task.y[:, :, 0], -1), task.mask


def check_uniform(cells, number_of_cells):
    """Chi-square of counts in `number_of_cells` equally likely cells; false alarms at p = 0.001 by Wilson-Hilferty."""
    counts = np.bincount(np.asarray(cells).ravel(), minlength=number_of_cells)
    assert len(counts) == number_of_cells
    expected = counts.sum() / number_of_cells
    df = number_of_cells - 1
    bound = df * (1 - 2 / (9 * df) + 3.09 * (2 / (9 * df)) ** 0.5) ** 3
    assert np.sum((counts - expected) ** 2 / expected) < bound


def test_a_lifetime_is_support_and_then_queries():
    distribution = FewShot(Drawings(), ways=3, shots=2, queries=4)
    assert distribution.spec == TaskSpec((2,), 3, 10)
    kinds, numbers, labels, mask = lifetimes(distribution)
    np.testing.assert_array_equal(mask[:, :, 0], np.tile([0.0] * 6 + [1.0] * 4, (2000, 1)))
    assert kinds.max() < 5  # the class of one example cannot be asked for after its shots
    for kind, number, label in zip(kinds[:300], numbers[:300], labels[:300], strict=True):
        assert np.bincount(label[:6]).tolist() == [2, 2, 2]
        meaning = dict(zip(label.tolist(), kind.tolist(), strict=True))
        assert len(set(meaning.values())) == 3
        assert [meaning[i] for i in label] == kind.tolist()
        items = list(zip(kind.tolist(), number.tolist(), strict=True))
        assert len(set(items[:6])) == 6
        assert not set(items[:6]) & set(items[6:])
        for name, asked in itertools.groupby(sorted(items[6:]), key=lambda item: item[0]):
            number_asked = len(asked := list(asked))
            assert len(set(asked)) == min(2, number_asked), name  # 2 of 4 examples are left to ask for


def test_position_and_order_tell_nothing_of_a_label():
    kinds, numbers, labels, _ = lifetimes(FewShot(Drawings(), ways=3, shots=1, queries=2), 6000)
    orders = labels[:, 0] * 9 + labels[:, 1] * 3 + labels[:, 2]
    permutations = [a * 9 + b * 3 + c for a, b, c in itertools.permutations(range(3))]
    assert set(orders) == set(permutations)
    order = np.searchsorted(permutations, orders)
    # Every order of the support, with every pair of queries, is equally likely: nothing seen tells of what is asked.
    check_uniform(order * 9 + labels[:, 3] * 3 + labels[:, 4], 54)
    # The class behind a label, and which of its examples is shown, do not depend on the place or the label either.
    for place in range(5):
        check_uniform((labels[:, place] * 5 + kinds[:, place]) * 4 + numbers[:, place], 60)
    # Nor is the place of a query's class in the support any more likely than another.
    check_uniform(np.argmax(labels[:, :3] == labels[:, 3:4], axis=1), 3)
    # Examples of different classes are drawn independently of each other: no style that goes with the lifetime.
    check_uniform(numbers[:, 0] * 4 + numbers[:, 1], 16)


def test_a_finite_number_of_tasks_fixes_classes_labels_and_transforms():
    distribution = FewShot(Drawings(), ways=3, transforms=(LabelPermutation(),), num_tasks=3)
    kinds, numbers, labels, _ = lifetimes(distribution, 300)
    tasks = {tuple(kind[np.argsort(label[:3])]) for kind, label in zip(kinds, labels, strict=True)}
    assert len(tasks) == 3  # of 60
    assert len({tuple(number) for number in numbers}) > 100  # of 256: the examples are drawn again every time


def test_labels_pass_through_transforms_which_may_change():
    transforms = (Pad(num_classes=6), LabelPermutation(), Redrawn(LabelPermutation(), 3))
    distribution = FewShot(Drawings(), ways=3, queries=3, transforms=transforms)
    assert distribution.spec.num_outputs == 6
    kinds, _, labels, _ = lifetimes(distribution, 600)
    check_uniform(labels[:, 0], 6)
    check_uniform(labels[:, 5], 6)
    for kind, label in zip(kinds, labels, strict=True):
        for part in (slice(3), slice(3, 6)):
            assert len(set(zip(kind[part], label[part], strict=True))) == len(set(kind[part])) == len(set(label[part]))
    support = np.take_along_axis(labels[:, :3], np.argmax(kinds[:, :3, None] == kinds[:, None, 3:], 1), 1)
    assert np.mean(support != labels[:, 3:]) == pytest.approx(5 / 6, abs=0.06)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FewShot(Drawings(), ways=1), "ways is 1: give at least 2"),
        (lambda: FewShot(Drawings(), shots=0), "shots is 0"),
        (lambda: FewShot(Drawings(), queries=0), "queries is 0"),
        (lambda: FewShot(Drawings(), num_tasks=0), "num_tasks is 0"),
        (lambda: FewShot(Drawings(), ways=6).spec, "needs 6 classes of 2 examples or more, but the source has 5"),
        (lambda: FewShot(Drawings(), ways=2, shots=4).spec, "needs 2 classes of 5 examples or more, but .* has 0"),
        (lambda: FewShot(Drawings(), transforms=(ClassSubset(3),)).spec, "set ways instead"),
    ],
)
def test_what_does_not_fit_is_refused_early(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_distribution_is_a_value():
    distribution = FewShot(Drawings(), transforms=(LabelPermutation(),))
    assert pickle.loads(pickle.dumps(distribution)) == distribution
    assert hash(distribution) == hash(FewShot(Drawings(), transforms=(LabelPermutation(),)))
