"""Baselines: each equals its learner run by itself, the tuned ones are the best, and digits are learned as is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from vsml import config as configs
from vsml.errors import UserError
from vsml.evaluation import Baselines, OnlineAccuracy
from vsml.evaluation import baselines as module
from vsml.evaluation.baselines import Descents
from vsml.evaluation.rollouts import run_lifetimes
from vsml.learners import (
    GradientDescent,
    Learner,
    NearestClassMean,
    NearestNeighbour,
    RecursiveLeastSquares,
    UnitLength,
)
from vsml.tasks import ClassificationTask, TaskDistribution, TaskSpec


@lru_cache
def _digits():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[900:].astype(np.float32), labels[900:].astype(np.int32)
    return (images - images.mean()) / images.std(), labels


@dataclass(frozen=True)
class Digits(TaskDistribution):
    """The second half of the standardised 8x8 digits, online."""

    length: int

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((64,), 10, self.length)

    def load(self):
        return _digits()

    def sample(self, data, key) -> ClassificationTask:
        images, labels = data
        drawn = jax.random.permutation(key, labels.shape[0])[: self.length, None]
        return ClassificationTask(images[drawn], jax.nn.one_hot(labels[drawn], 10), jnp.ones((self.length, 1)))


LEARNERS: dict[str, Callable[[dict[str, Any]], Learner]] = {
    "best_sgd": lambda facts: GradientDescent(optax.sgd(facts["learning_rate"]), (facts["hidden"],)),
    "best_adam": lambda facts: GradientDescent(optax.adam(facts["learning_rate"]), (facts["hidden"],)),
    "nearest_class_mean": lambda facts: NearestClassMean(),
    "nearest_neighbour": lambda facts: NearestNeighbour(),
    "nearest_by_angle": lambda facts: UnitLength(NearestNeighbour()),
    "best_rls": lambda facts: RecursiveLeastSquares(facts["features"], facts["ridge"]),
}


def test_a_rival_is_its_learner_by_itself_on_the_same_lifetimes():
    baselines = Baselines(
        hidden=(7,),
        sgd_learning_rates=(0.002, 0.05),
        adam_learning_rates=(0.001, 0.02),
        nearest_by_angle=True,
        rls_features=(9,),
        ridges=(0.5, 5),
    )
    shared = {"tasks": Digits(20), "lifetimes": 5, "seed": 3}
    evaluation = OnlineAccuracy("digits", baselines=baselines, **shared).run(GradientDescent(optax.sgd(0.1)), {})
    assert list(evaluation.rivals) == list(LEARNERS)
    assert evaluation.note.endswith("SGD, Adam and RLS are tuned on these very lifetimes.")
    for name, learner_of in LEARNERS.items():
        best = evaluation.summary["baselines"][name]
        learner = learner_of(best)
        alone = OnlineAccuracy("alone", **shared).run(learner, {})
        for score, tolerance in (("cumulative_accuracy", 1e-6), ("final_accuracy", 1e-6), ("loss", 1e-4)):
            spread = {statistic: best[score][statistic] for statistic in alone.summary[score]}
            assert spread == pytest.approx(alone.summary[score], rel=tolerance)
        curves = evaluation.rivals[name].curves
        np.testing.assert_array_equal(curves["correct"], alone.curves["correct"])
        np.testing.assert_allclose(curves["loss"], alone.curves["loss"], rtol=1e-4)


def test_the_best_of_all_contenders_is_chosen():
    baselines = replace(ALL_OUT, hidden=(7, 0), sgd_learning_rates=(0.002, 0.05))
    tasks, rates = Digits(20), np.asarray(baselines.sgd_learning_rates, np.float32)
    best = baselines.run(tasks, lifetimes=5, seed=3)["best_sgd"]
    means = {}
    for hidden in baselines.hidden:
        correct = run_lifetimes(Descents("sgd", hidden), rates, tasks, 5, 3).measures[
            "accuracy"
        ]  # [lifetimes, rates, T]
        means |= zip([(hidden, rate) for rate in baselines.sgd_learning_rates], correct.mean(axis=(0, 2)), strict=True)
    hidden, rate = best.facts["hidden"], best.facts["learning_rate"]
    assert means[hidden, rate] == max(means.values()) > min(means.values())
    assert best.facts["at_grid_edge"]  # a grid of two is all edge
    assert best.label == f"best SGD ({hidden} hidden, lr {rate:g}, the grid's edge)"


@pytest.mark.slow
def test_default_grids_bracket_the_best_on_digits():
    # Known, over 300 examples; the standard error of 16 lifetimes is about .005.
    known = {
        "best_sgd": 0.79,
        "best_adam": 0.78,
        "nearest_class_mean": 0.85,
        "nearest_neighbour": 0.89,
        "best_rls": 0.88,
    }
    best = Baselines().run(Digits(300), lifetimes=16, seed=0)
    scores = {name: rival.scores["cumulative_accuracy"].mean() for name, rival in best.items()}
    assert scores == pytest.approx(known, abs=0.03)
    losses = {name: rival.scores["loss"].mean() for name, rival in best.items()}
    assert max(losses.values()) < 0.85  # of a guess: 2.3
    assert losses["nearest_neighbour"] < 0.5
    assert not any(rival.facts.get("at_grid_edge") for rival in best.values())
    assert all("grid" not in rival.label for rival in best.values())


ALL_OUT = Baselines(
    sgd_learning_rates=(), adam_learning_rates=(), nearest_class_mean=False, nearest_neighbour=False, rls_features=()
)


def test_each_may_be_left_out():
    assert ALL_OUT.run(Digits(5), lifetimes=2, seed=0) == {}
    evaluation = OnlineAccuracy("digits", Digits(5), 2, baselines=replace(ALL_OUT, nearest_class_mean=True))
    outcome = evaluation.run(NearestClassMean(), {})
    assert list(outcome.rivals) == ["nearest_class_mean"]
    assert "tuned" not in outcome.note
    np.testing.assert_array_equal(outcome.rivals["nearest_class_mean"].curves["correct"], outcome.curves["correct"])
    alone = replace(ALL_OUT, adam_learning_rates=(0.01,), ridges=())
    assert (
        replace(evaluation, baselines=alone)
        .run(NearestClassMean(), {})
        .note.endswith(
            "label is seen. Cumulative: all "
            "examples of a lifetime. Final: its last tenth. Adam is tuned on these very lifetimes."
        )
    )


def test_least_squares_reads_the_inputs_where_these_are_not_too_many(monkeypatch: pytest.MonkeyPatch):
    baselines = replace(ALL_OUT, rls_features=(0,), ridges=(1, 10, 100))
    best = baselines.run(Digits(5), lifetimes=2, seed=0)["best_rls"]
    assert best.label.startswith("best RLS (inputs, ridge ")
    monkeypatch.setattr(module, "MOST_INPUTS", 63)
    assert baselines.run(Digits(5), lifetimes=2, seed=0) == {}


def test_least_squares_in_parallel_is_least_squares_one_by_one(monkeypatch: pytest.MonkeyPatch):
    """What accelerators do: all lifetimes and ridges at once."""
    baselines = replace(ALL_OUT, rls_features=(7,), ridges=(1, 10))
    one_by_one = baselines.run(Digits(21), lifetimes=3, seed=0)["best_rls"]
    monkeypatch.setattr(module, "lifetimes_at_once", lambda count: count)
    module._best.cache_clear()
    jax.clear_caches()
    parallel = baselines.run(Digits(21), lifetimes=3, seed=0)["best_rls"]
    np.testing.assert_allclose(one_by_one.curves["loss"], parallel.curves["loss"], rtol=1e-4)


def test_a_field_that_there_is_not_is_one_line():
    with pytest.raises(UserError, match=r"^command line: .*Baselines has no field ridge; did you mean ridges\?"):
        configs.load("recipes/quickstart.gin", ["evaluators.Baselines.ridge=[1.0]"])
    with pytest.raises(UserError, match=r"^command line: evaluators\.Baselines\.nearest_neighbour takes bool"):
        configs.load("recipes/quickstart.gin", ["evaluators.Baselines.nearest_neighbour=[1]"])
    with pytest.raises(
        UserError, match=r"^command line: evaluators\.Baselines\.ridges is \(0\.0,\): .*or \(\) to leave"
    ):
        configs.load("recipes/quickstart.gin", ["evaluators.Baselines.ridges=[0.0]"]).build()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"sgd_learning_rates": (0.1, 0.01)}, r"sgd_learning_rates is \(0\.1, 0\.01\).*ascending"),
        ({"adam_learning_rates": (0.0, 0.1)}, "adam_learning_rates is .*above 0"),
        ({"ridges": (10, 1)}, r"ridges is \(10, 1\).*ascending, or \(\) to leave it out"),
        ({"rls_features": (0, -3)}, r"rls_features is \(0, -3\)"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(UserError, match=message):
        Baselines(**wrong)
