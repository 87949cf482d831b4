"""The oracle: it equals gradient descent run by itself, picks the best, and learns digits as well as it is known to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from vsml.errors import UserError
from vsml.evaluation import Baselines, OnlineAccuracy
from vsml.evaluation.baselines import Contenders
from vsml.evaluation.rollouts import run_lifetimes
from vsml.learners import GradientDescent
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


def test_the_best_is_gradient_descent_by_itself_on_the_same_lifetimes():
    baselines = Baselines(hidden=(7,), sgd_learning_rates=(0.002, 0.05), adam_learning_rates=(0.001, 0.02))
    shared = {"tasks": Digits(20), "lifetimes": 5, "seed": 3}
    evaluation = OnlineAccuracy("digits", baselines=baselines, **shared).run(GradientDescent(optax.sgd(0.1)), {})
    for name, optimizer in (("best_sgd", optax.sgd), ("best_adam", optax.adam)):
        best = evaluation.summary["baselines"][name]
        learner = GradientDescent(optimizer(best["learning_rate"]), (best["hidden"],))
        alone = OnlineAccuracy("alone", **shared).run(learner, {})
        for score, tolerance in (("cumulative_accuracy", 1e-6), ("final_accuracy", 1e-6), ("loss", 1e-4)):
            spread = {statistic: best[score][statistic] for statistic in alone.summary[score]}
            assert spread == pytest.approx(alone.summary[score], rel=tolerance)
        curves = evaluation.rivals[name].curves
        np.testing.assert_array_equal(curves["correct"], alone.curves["correct"])
        np.testing.assert_allclose(curves["loss"], alone.curves["loss"], rtol=1e-4)


def test_the_best_of_all_contenders_is_chosen():
    baselines = Baselines(hidden=(7, 0), sgd_learning_rates=(0.002, 0.05), adam_learning_rates=(0.01,))
    tasks, rates = Digits(20), np.asarray(baselines.sgd_learning_rates, np.float32)
    best = baselines.run(tasks, lifetimes=5, seed=3)["best_sgd"]
    means = {}
    for hidden in baselines.hidden:
        correct = run_lifetimes(Contenders("sgd", hidden), rates, tasks, 5, 3).measures[
            "accuracy"
        ]  # [lifetimes, rates, T]
        means |= zip([(hidden, rate) for rate in baselines.sgd_learning_rates], correct.mean(axis=(0, 2)), strict=True)
    hidden, rate = best.facts["hidden"], best.facts["learning_rate"]
    assert means[hidden, rate] == max(means.values()) > min(means.values())
    assert best.facts["at_grid_edge"]  # a grid of two is all edge
    assert best.label == f"best SGD ({hidden} hidden, lr {rate:g}, the grid's edge)"


def test_default_grids_bracket_the_best_on_digits():
    # Known: .78 over 300 examples for the best of all; the standard error of 16 lifetimes is about .005.
    best = Baselines().run(Digits(300), lifetimes=16, seed=0)
    scores = {name: rival.scores["cumulative_accuracy"].mean() for name, rival in best.items()}
    assert 0.76 < max(scores.values()) < 0.82
    assert min(scores.values()) > 0.74
    assert not any(rival.facts["at_grid_edge"] for rival in best.values())
    assert all("grid" not in rival.label for rival in best.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"sgd_learning_rates": (0.1, 0.01)}, r"sgd_learning_rates is \(0\.1, 0\.01\).*ascending"),
        ({"adam_learning_rates": (0.0, 0.1)}, "adam_learning_rates is .*above 0"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(UserError, match=message):
        Baselines(**wrong)
