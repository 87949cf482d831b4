"""Meta-tests follow the tasks of meta-training: the same kind, on examples kept apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from noise_tasks import NoiseTasks

from vsml import config as configs
from vsml.errors import UserError
from vsml.evaluation.data import facts_of_data, notes_on_repeats
from vsml.tasks import Classification, FewShot, Mixture
from vsml.tasks.base import Dataset, Share, Source
from vsml.tasks.held_out import HeldOut
from vsml.tasks.sources import CsvFile, Digits, IdxFiles, Iris, NpzFiles, Omniglot, Random, Wine
from vsml.tasks.transforms import ClassSubset, LabelPermutation, Standardise

WINE = Classification(Wine("train"), length=100, batch=2, transforms=(LabelPermutation(),), num_tasks=4)


def test_tasks_are_of_the_same_kind_fresh_and_on_other_examples():
    held_out = HeldOut(WINE, (Standardise(),), length=30)
    assert held_out.resolved == Classification(Wine("test"), length=30, batch=2, transforms=(Standardise(),))
    assert HeldOut(WINE).spec.length == 100
    task: Any = held_out.sample(held_out.load(), jax.random.key(0))
    expected: Any = held_out.resolved.sample(held_out.load(), jax.random.key(0))
    np.testing.assert_array_equal(task.x, expected.x)
    rows = {bytes(row) for row in np.asarray(task.x, np.float32).reshape(-1, 13)}
    assert rows <= {bytes(row) for row in Wine("test").load().x}


def test_few_shot_episodes_keep_their_length():
    tasks = FewShot(Omniglot("background"), ways=3, transforms=(Standardise(),))
    assert HeldOut(tasks, (), length=300).resolved == replace(tasks, source=Omniglot("evaluation"), transforms=())


def test_a_share_of_a_mixture_is_named():
    mixture = Mixture((WINE, replace(WINE, source=Iris("train"))), ("wine", "iris"))
    assert HeldOut(mixture, share="iris").resolved == HeldOut(replace(WINE, source=Iris("train"))).resolved
    assert HeldOut(mixture, share="iris").data == "iris"
    with pytest.raises(UserError, match=r"share is None, but meta-training uses a mixture of wine, iris: name one"):
        HeldOut(mixture)
    with pytest.raises(UserError, match=r"share is iris, but meta-training uses no mixture: leave it out"):
        HeldOut(WINE, share="iris")


def test_two_are_equal_where_they_come_to_the_same_tasks():
    assert HeldOut(WINE, length=30) == HeldOut(replace(WINE, length=50), length=30)
    assert hash(HeldOut(WINE, length=30)) == hash(HeldOut(replace(WINE, length=50), length=30))
    assert HeldOut(WINE) != HeldOut(replace(WINE, length=50))


def test_the_split_as_given_is_for_data_that_is_all_unseen():
    everything = replace(WINE, source=Wine("all"))
    assert HeldOut(everything, part="as_given").resolved.different_examples == 178
    with pytest.raises(UserError, match=r"sources.Wine: split 'all' leaves no one part to hold out"):
        _ = HeldOut(everything).spec


def test_what_has_no_held_out_part_says_so():
    with pytest.raises(UserError, match=r"tasks.NoiseTasks knows no held-out part: give the evaluators tasks of their"):
        _ = HeldOut(NoiseTasks()).spec
    with pytest.raises(
        UserError, match=r"sources.Fixed knows no held-out part: give the evaluators tasks of their own"
    ):
        _ = HeldOut(replace(WINE, source=Fixed())).spec
    assert HeldOut(replace(WINE, source=Random(seed=2))).source == Random(seed=3)


def test_files_of_ones_own_are_split_class_by_class(tmp_path: Path):
    x, y = np.arange(14, dtype=np.float32).reshape(7, 2), np.array([0, 0, 0, 1, 1, 1, 1])
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    whole, train, test = (
        NpzFiles(str(tmp_path / "mine.npz"), images_key="x", labels_key="y", split=split).load()
        for split in ("all", "train", "test")
    )
    assert train.x[:, 0].tolist() == [0, 4, 6, 10]
    assert test.x[:, 0].tolist() == [2, 8, 12]
    assert (train.mean, train.std) == (test.mean, test.std) != (whole.mean, whole.std)
    assert {part.num_classes for part in (whole, train, test)} == {2}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (CsvFile("data/my wine.csv.gz"), "my_wine"),
        (NpzFiles("a/b.npz"), "b"),
        (IdxFiles("train-images.gz", "l.gz"), "train-images"),
        (Wine(), "wine"),
    ],
)
def test_data_has_a_name(source, name):
    assert replace(WINE, source=source).data == name


KINDS = ("projected", "plain")


@dataclass(frozen=True)
class Fixed(Source):
    """Without a split, and nothing held out."""

    def read(self) -> Dataset:
        return Own().read()


@dataclass(frozen=True)
class Own(Source):
    """Of a user: without a field `split`."""

    half: int = 0

    def held_out(self):
        return Own(1 - self.half)

    def read(self) -> Dataset:
        return Dataset(np.full((4, 2), self.half, np.float32), np.arange(4, dtype=np.int32) % 2, 2, 0.0, 1.0)


@pytest.mark.parametrize(
    ("source", "trained", "relation"),
    [
        (Wine("test"), [Wine("train")], "held out"),
        (Wine("test"), [Iris("train")], "transfer"),
        (Wine("test"), [Wine("all")], "examples of meta-training"),
        (Wine("test"), [Iris("train"), Wine("train")], "held out"),
        (CsvFile("a.csv", split="test"), [CsvFile("b.csv", split="train")], "transfer"),
        (Random(), [Random()], "examples of meta-training"),
        (Random(seed=1), [Random()], "held out"),
        (Random(seed=2), [Random()], "transfer"),
        (Own(1), [Own(0)], "held out"),
    ],
)
def test_the_relation_to_meta_training_is_told(source, trained, relation):
    tasks = replace(WINE, source=source, transforms=())
    if not isinstance(source, CsvFile):
        assert facts_of_data(tasks, [replace(WINE, source=each) for each in trained])["relation"] == relation
    assert HeldOut(replace(WINE, source=Own(0))).resolved == replace(WINE, source=Own(1), transforms=(), num_tasks=None)


def test_examples_that_come_more_than_once_are_told():
    tasks = replace(WINE, transforms=())
    assert facts_of_data(tasks, [tasks])["different_examples"] == 90
    assert notes_on_repeats([Share("", tasks, 8)], []) == [
        "meta-training on wine: lifetimes of 200 examples meet 90 different ones, each 2.2 times"
    ]
    assert notes_on_repeats([Share("", replace(tasks, length=45), 8)], []) == []
    subset = replace(tasks, transforms=(ClassSubset(2),))
    assert subset.different_examples == 54  # the two smallest classes of 30, 36, 24


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["digits_projected", "digits_plain"]),
        (["tasks/wine.gin"], [f"wine_{kind}" for kind in KINDS]),
        (["tasks/csv.gin", "sources.CsvFile.path=mine.csv"], ["mine_projected", "mine_plain"]),
        (["tasks/omniglot.gin"], ["omniglot_projected", "omniglot_plain"]),
        (["tasks/mixture.gin"], [f"{data}_{kind}" for data in ("digits", "mnist", "iris") for kind in KINDS]),
        (["evaluators/frozen.gin", "tasks/iris.gin"], ["iris_frozen"]),
        (["evaluators/paper.gin", "tasks/kmnist.gin"], ["kmnist"]),
    ],
)
def test_evaluators_follow_the_tasks_of_meta_training(words, names):
    evaluators: Any = configs.load("quickstart", words).build().evaluators
    assert [evaluator.name for evaluator in evaluators] == names
    if "evaluators/frozen.gin" not in words:
        assert all(evaluator.baselines is not None for evaluator in evaluators)


def test_the_quickstart_is_tested_on_the_digits_it_always_was():
    evaluators: Any = configs.load("quickstart").build().evaluators
    projected, plain = evaluators
    assert plain.tasks.resolved == Classification(Digits("test"), 300, transforms=(Standardise(),))
    assert projected.tasks.resolved.source == Digits("test")
    assert [type(transform).__name__ for transform in projected.tasks.resolved.transforms] == [
        "Standardise",
        "RandomProjection",
    ]
