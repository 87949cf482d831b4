"""Online accuracy: numbers worked out by hand from learners whose predictions are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.evaluation import Baselines, OnlineAccuracy
from vsml.evaluation.rollouts import Outcomes, online_scores
from vsml.learners.base import Learner
from vsml.tasks import ClassificationTask, TaskDistribution, TaskSpec


@dataclass(frozen=True)
class Counting(TaskDistribution):
    """Labels 0, 1, 0, 1, ...; x is a number drawn per lifetime; the first `silent` steps do not count."""

    length: int = 20
    batch: int = 1
    silent: int = 0

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((1,), 2, self.length, self.batch)

    def load(self):
        return np.float32(3.0)

    def sample(self, data, key) -> ClassificationTask:
        shape = (self.length, self.batch)
        labels = jnp.broadcast_to(jnp.arange(self.length)[:, None] % 2, shape)
        mask = jnp.broadcast_to(jnp.arange(self.length)[:, None] >= self.silent, shape).astype(jnp.float32)
        return ClassificationTask(
            jnp.full((*shape, 1), data * jax.random.uniform(key)), jax.nn.one_hot(labels, 2), mask
        )


@dataclass(frozen=True)
class Parrot(Learner):
    """Predicts the label it saw last, class 0 at first, with confidence `params`."""

    def init(self, key, spec):
        return jnp.float32(2.0)

    def initial_state(self, params, key, spec):
        return jnp.zeros((spec.batch, spec.num_outputs)).at[:, 0].set(1.0)

    def predict(self, params, state, x):
        return state, params * state

    def learn(self, params, state, x, feedback):
        return feedback.target

    def learned_variables(self, state):
        return state


@dataclass(frozen=True)
class Threshold(Parrot):
    """Predicts class 0 where x < 1.5, else class 1: right at half of all steps, told apart by lifetimes."""

    def predict(self, params, state, x):
        return state, params * jax.nn.one_hot((x[:, 0] >= 1.5).astype(jnp.int32), 2)


@dataclass(frozen=True)
class Broken(Parrot):
    """Predicts NaN, whose argmax is class 0."""

    def predict(self, params, state, x):
        return state, jnp.full_like(state, jnp.nan)


def test_parrot_is_right_once():
    evaluation = OnlineAccuracy("parrot", Counting(), lifetimes=3).run(Parrot(), jnp.float32(2.0))
    # Right at the first of 20 steps, with softmax(2, 0); then wrong with the same confidence. Final: steps 19 and 20.
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    summary = evaluation.summary
    assert summary["cumulative_accuracy"] == pytest.approx({"mean": 0.05, "std": 0, "interval95": 0})
    assert summary["final_accuracy"] == pytest.approx({"mean": 0, "std": 0, "interval95": 0})
    assert summary["loss"]["mean"] == pytest.approx((right + 19 * wrong) / 20, rel=1e-6)
    assert {name: summary[name] for name in ("examples", "lifetimes", "chance", "baselines")} == {
        "examples": 20,
        "lifetimes": 3,
        "chance": 0.5,
        "baselines": {},
    }
    np.testing.assert_array_equal(evaluation.curves["correct"], np.eye(1, 20).repeat(3, axis=0))
    np.testing.assert_allclose(evaluation.curves["loss"][1], [right, *[wrong] * 19], rtol=1e-6)
    json.dumps(summary)


def test_masked_predictions_do_not_count():
    evaluation = OnlineAccuracy("masked", Counting(length=7, silent=6), lifetimes=2).run(Threshold(), jnp.float32(1.0))
    # One step counts, the seventh, of class 0: it is the whole and the last tenth.
    assert np.isnan(evaluation.curves["correct"][:, :6]).all()
    last = evaluation.curves["correct"][:, 6]
    assert set(last) <= {0.0, 1.0}
    assert evaluation.summary["cumulative_accuracy"]["mean"] == last.mean()
    assert evaluation.summary["final_accuracy"] == evaluation.summary["cumulative_accuracy"]


def test_a_mask_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match="is 0 at every step"):
        OnlineAccuracy("empty", Counting(length=4, silent=4), lifetimes=2).run(Parrot(), jnp.float32(1.0))


def test_a_prediction_of_nan_is_wrong():
    summary = OnlineAccuracy("broken", Counting(), lifetimes=2).run(Broken(), jnp.float32(1.0)).summary
    assert summary["cumulative_accuracy"]["mean"] == 0
    assert np.isnan(summary["loss"]["mean"])


def test_lifetimes_depend_on_seed_and_index_alone():
    def correct(lifetimes, seed=0, chunk=None):
        tasks = Counting(length=1)
        evaluation = OnlineAccuracy("any", tasks, lifetimes, seed, chunk=chunk).run(Threshold(), jnp.float32(1.0))
        return evaluation.curves["correct"][:, 0]

    whole = correct(31)
    assert 5 < whole.sum() < 26
    np.testing.assert_array_equal(correct(31, chunk=8), whole)
    np.testing.assert_array_equal(correct(31, chunk=1), whole)
    np.testing.assert_array_equal(correct(7), whole[:7])
    assert (correct(31, seed=1) != whole).any()


def test_examples_of_a_batch_are_averaged():
    correct = np.array([[0.5, 1.0], [0.0, 0.25]])
    weight = np.array([[2.0, 1.0], [1.0, 4.0]])
    scores = online_scores(Outcomes(correct, weight, {"accuracy": correct}))
    assert scores["cumulative_accuracy"] == pytest.approx([(0.5 * 2 + 1) / 3, 0.25 * 4 / 5])
    assert scores["final_accuracy"] == pytest.approx([1, 0.25])


def test_final_is_the_last_tenth_of_the_steps_that_count():
    weight = np.ones((2, 40))
    weight[1, 20:] = 0
    correct = np.where(weight > 0, np.arange(40) / 40, np.nan)
    final = online_scores(Outcomes(correct, weight, {"accuracy": correct}))["final_accuracy"]
    assert final == pytest.approx([np.mean([36, 37, 38, 39]) / 40, np.mean([18, 19]) / 40])


def test_interim_is_cheaper_and_starts_with_the_same_lifetimes():
    whole = OnlineAccuracy("any", Counting(length=1), 31, baselines=Baselines(), interim_lifetimes=5)
    interim = whole.interim()
    assert (interim.name, interim.lifetimes, interim.baselines) == ("any", 5, None)
    first = replace(whole, baselines=None).run(Threshold(), jnp.float32(1.0)).curves["correct"][:5]
    np.testing.assert_array_equal(interim.run(Threshold(), jnp.float32(1.0)).curves["correct"], first)
    assert replace(whole, interim_lifetimes=None).interim().lifetimes == 31
    assert replace(whole, interim_lifetimes=50).interim().lifetimes == 31


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lifetimes": 1}, "lifetimes is 1: set it to 2 or more"),
        ({"chunk": 0}, "chunk is 0: set it to 1 or more"),
        ({"interim_lifetimes": 1}, "interim_lifetimes is 1: set it to 2 or more"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(UserError, match=message):
        OnlineAccuracy(**{"name": "any", "tasks": Counting(), **wrong})
