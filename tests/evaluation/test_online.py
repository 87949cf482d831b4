"""Scores of tasks of any kind: a world that outputs change, and a regression."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from memory_task import Lamps
from noise_tasks import NoiseTasks
from test_online_accuracy import Parrot

from vsml.errors import UserError
from vsml.evaluation import FrozenAccuracy, Online
from vsml.learners import MetaRNN
from vsml.tasks import RegressionTask


def test_rewards_of_a_world():
    tasks, learner = Lamps(length=10), MetaRNN(hidden_size=3)
    params = learner.init(jax.random.key(0), tasks.spec)
    evaluation = Online("lamps", tasks, lifetimes=4, headline="cumulative_reward").run(learner, params)
    assert list(evaluation.scores) == ["cumulative_reward", "final_reward", "loss"]
    reward = evaluation.curves["reward"]
    np.testing.assert_allclose(evaluation.scores["cumulative_reward"], reward.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(evaluation.scores["final_reward"], reward[:, -1], rtol=1e-6)
    assert not evaluation.measure("cumulative_reward").lower_is_better
    assert evaluation.measure("loss").lower_is_better


class Regressed(NoiseTasks):
    """The noise, with its labels as values."""

    def sample(self, data, key):
        return RegressionTask(*super().sample(data, key))


def test_errors_of_a_regression():
    """A parrot predicts the last target, by hand."""
    evaluation = Online("noise", Regressed(length=10), lifetimes=2).run(Parrot(), jnp.float32(1.0))
    assert list(evaluation.scores) == ["cumulative_squared_error", "final_squared_error", "loss"]
    assert evaluation.measure("final_squared_error").lower_is_better
    # One-hot targets: an error is 0 where the label is the one before, else each of two outputs is off by 1.
    counted = evaluation.curves["loss"][np.isfinite(evaluation.curves["loss"])]
    assert set(np.unique(counted)) == {0.0, 1.0}


def test_a_headline_that_the_tasks_do_not_give_is_refused_before_anything_runs():
    with pytest.raises(UserError, match="but the tasks of lamps give cumulative_reward, final_reward, loss"):
        Online("lamps", Lamps(), headline="cumulative_accuracy").check()
    with pytest.raises(UserError, match="the tasks of lamps are no classification"):
        FrozenAccuracy("lamps", Lamps(), learned=2).check()
