"""Evaluations of clones: exact backprop is its own perfect clone, another learning rate is not."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backprop import backprop
from noise_tasks import NoiseTasks

from vsml.cells import Bilinear
from vsml.evaluation import BesideBackprop, CloneFit
from vsml.evaluation.beside_backprop import correlation
from vsml.objectives import Cloning

RATE = 0.05
CLONE = backprop(
    Bilinear(rank=5, start="backprop", learning_rate=RATE, bias_learning_rate=RATE), message_size=1, output_channel=0
)
CLONING = Cloning(RATE, RATE, units=16, followed=4)
TASKS = NoiseTasks(num_inputs=5, num_classes=3, length=12)
PARAMS = CLONE.init(jax.random.key(0), TASKS.spec)


@pytest.mark.parametrize("hidden", [None, (4,)], ids=["shallow", "deep"])
def test_backprop_is_its_own_clone(hidden):
    found = BesideBackprop("beside", TASKS, lifetimes=2, objective=CLONING, hidden=hidden).run(CLONE, PARAMS)
    teacher = found.rivals["backprop"]
    for name in ("agreement", "weight_correlation", "change_correlation"):
        np.testing.assert_allclose(found.scores[name], 1, atol=1e-5)
    for name, values in found.scores.items():
        np.testing.assert_allclose(values, teacher.scores[name], atol=1e-5)
    np.testing.assert_array_equal(found.curves["correct"], teacher.curves["correct"])
    assert teacher.label == "backprop (lr 0.05)"


def test_another_learning_rate_is_seen():
    objective = replace(CLONING, learning_rate=40 * RATE, bias_learning_rate=40 * RATE)
    found = BesideBackprop("beside", TASKS, lifetimes=2, objective=objective).run(CLONE, PARAMS)
    assert np.all(found.scores["weight_correlation"] < 0.99)
    assert np.all(found.scores["loss"] != found.rivals["backprop"].scores["loss"])


def test_correlation_by_hand():
    np.testing.assert_allclose(correlation(jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 4.0, 3.0])), 0.5, rtol=1e-6)
    assert correlation(jnp.array([1.0, 2.0]), jnp.array([3.0, 3.0])) == 0


def test_the_fit_of_backprop_is_perfect():
    found = CloneFit("fit", TASKS, CLONING, lifetimes=2).run(CLONE, PARAMS)
    assert list(found.scores)[:2] == ["r2", "r2_alone_forward"]
    assert len(found.scores) == 1 + 2 * 4
    for values in found.scores.values():
        np.testing.assert_allclose(values, 1, atol=1e-5)


def test_the_fit_is_as_bad_as_its_worst_term():
    objective = replace(CLONING, learning_rate=2 * RATE)
    found = CloneFit("fit", TASKS, objective, lifetimes=2).run(CLONE, PARAMS)
    others = [values for name, values in found.scores.items() if name != "r2"]
    np.testing.assert_array_equal(found.scores["r2"], np.min(others, axis=0))
    assert np.all(found.scores["r2"] < 0.9)
