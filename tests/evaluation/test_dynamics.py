"""Time scales of signals that are known, and a learner whose weights and activations are known."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_online_accuracy import Counting, Parrot

from vsml.errors import UserError
from vsml.evaluation import Dynamics
from vsml.evaluation.dynamics import autocovariance, entries, some_units, time_scale, trials
from vsml.learners import VSML, Learner, MetaRNN
from vsml.learners.held import learned_leaves
from vsml.tasks import ClassificationTask, Feedback, TaskDistribution, TaskSpec


def scale_of(signal: np.ndarray) -> float:
    """Of one entry, given [T, units]."""
    return float(time_scale(np.asarray(autocovariance(jnp.asarray(signal[:, None])), np.float64))[0])


def test_time_scales_of_known_signals():
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(400, 200))
    # White noise: correlation 1 at lag 0 and 0 at lag 1, so 1/e is crossed at 1 - 1/e.
    assert scale_of(noise) == pytest.approx(1 - np.exp(-1), abs=0.02)
    # Exponential decay: correlation exp(-k / 8), which is 1/e at 8.
    decaying = np.zeros_like(noise)
    for t in range(1, len(noise)):
        decaying[t] = np.exp(-1 / 8) * decaying[t - 1] + noise[t]
    assert scale_of(decaying) == pytest.approx(8, rel=0.06)
    assert scale_of(decaying + 100 * draw.normal(size=200)) == pytest.approx(8, rel=0.06)  # a level of each unit
    assert scale_of(np.exp(-np.arange(4000) / 20)[:, None] * np.ones(3)) == pytest.approx(20, rel=0.05)
    # What does not move is as slow as can be told.
    assert scale_of(np.ones((400, 3))) == 199


def test_autocovariance_by_hand():
    """-1, 1, -1, 1: products of neighbours are -1, of next neighbours 1."""
    signal = jnp.asarray([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])[:, None, None]
    np.testing.assert_allclose(autocovariance(signal)[:, 0], [1, -1, 1], atol=1e-6)


def test_entries_of_a_leaf():
    leaf = jnp.arange(12.0).reshape(1, 3, 4)
    np.testing.assert_array_equal(np.sort(some_units(leaf, 10)), leaf[0])
    assert some_units(leaf, 2).shape == (3, 2)
    assert some_units(jnp.arange(5.0), 10).shape == (1, 5)


def test_what_is_tried():
    trial, cuts = trials(np.asarray([30.0, 1.0, 10.0, 2.0]), slow=10.0)
    assert cuts.tolist() == [0, 1, 2, 3, 4]  # not twice where there are fewer entries than parts
    rows = [row.nonzero()[0].tolist() for row in trial.held]
    assert rows[:6] == [[], [0, 2], [1, 3], [0, 1, 2, 3], [0, 2], [1, 3]]
    assert rows[6:11] == [[], [1], [1, 3], [1, 2, 3], [0, 1, 2, 3]]  # the fastest
    assert rows[11:] == [[], [0], [0, 2], [0, 2, 3], [0, 1, 2, 3]]  # the slowest
    assert trial.reset.tolist() == [False] * 4 + [True] * 2 + [True] * 5 + [False] * 5


@dataclass(frozen=True)
class Words(TaskDistribution):
    """One of two inputs, drawn at random, with the other one's label."""

    length: int = 60

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((2,), 2, self.length)

    def load(self):
        return ()

    def sample(self, data, key) -> ClassificationTask:
        word = jax.random.bernoulli(key, shape=(self.length, 1)).astype(jnp.int32)
        return ClassificationTask(
            jax.nn.one_hot(word, 2), jax.nn.one_hot(1 - word, 2), jnp.ones((self.length, 1), jnp.float32)
        )


@dataclass(frozen=True)
class Table(Learner):
    """Counts the labels of each input, which is slow, and notes the input it saw last, which is fast and no use."""

    def init(self, key, spec):
        return ()

    def initial_state(self, params, key, spec):
        return {"count": jnp.zeros((1, 2, 2)), "last": jnp.zeros((1, 1, 2)), "steps": jnp.zeros(())}

    def predict(self, params, state, x):
        return state, jnp.einsum("bi,bij->bj", x, state["count"])

    def learn(self, params, state, x, feedback):
        assert feedback.target is not None
        counted = state["count"] + x[:, :, None] * feedback.target[:, None]
        return {"count": counted, "last": x[:, None], "steps": state["steps"] + 1}

    def learned_variables(self, state):
        return state["count"], state["last"]


def test_weights_and_activations_are_told_apart():
    evaluation = Dynamics("words", Words(), learned=20, slow=5.0, lifetimes=8).run(Table(), ())
    scales = evaluation.curves["time_scale"].mean(0)
    assert evaluation.measure("time_scale").places == ("0 0", "0 1", "1 0")
    assert scales[:2].min() > 8
    assert scales[2] < 1.5
    assert (evaluation.facts["slow_entries"], evaluation.facts["fast_entries"]) == (2, 1)
    means = {name: values.mean() for name, values in evaluation.scores.items()}
    # What is known after 20 examples is enough; without its counts it predicts class 0, as frequent as the other.
    for kept in ("accuracy", "slow_frozen", "fast_frozen", "all_frozen", "fast_reset"):
        assert means[kept] == 1, kept
    assert 0.3 < means["slow_reset"] < 0.7
    np.testing.assert_array_equal(evaluation.curves["fastest_reset"].mean(0)[:2], [1, 1])
    assert "messages_forward_1" not in evaluation.curves


def test_a_parrot_that_is_frozen_repeats_itself():
    """Labels 0, 1, 0, 1, ...; after 5 steps it saw 0: held there it is right at 7 of the 15 steps after them, from 0
    at its beginning as well; learning it is never right."""
    evaluation = Dynamics("parrot", Counting(length=20), learned=5, slow=1e-3, lifetimes=2)
    scores = evaluation.run(Parrot(), jnp.float32(2.0)).scores
    np.testing.assert_array_equal(scores["accuracy"], [0, 0])
    for held in ("slow_frozen", "all_frozen", "slow_reset"):
        np.testing.assert_allclose(scores[held], [7 / 15] * 2, rtol=1e-6)
    np.testing.assert_array_equal(scores["fast_frozen"], [0, 0])  # there are none


def test_norms_of_messages_are_those_of_the_passes():
    from vsml.cells import LSTM

    learner = VSML(LSTM(4), hidden=(3,), message_size=2, feedback="backward_pass")
    spec = TaskSpec((2,), 2, 30)
    params = learner.init(jax.random.key(0), spec)
    state = learner.initial_state(params, jax.random.key(1), spec)
    x, feedback = jnp.ones((1, 2)), Feedback(error=jnp.asarray([[1.0, -1.0]]), target=jnp.asarray([[0.0, 1.0]]))
    predicted, _ = learner.predict(params, state, x)
    sent = learner.messages(params, predicted, x, feedback)
    assert {name: message.shape for name, message in sent.items()} == {
        "forward_1": (1, 2, 3),
        "forward_2": (1, 2, 2),
        "backward_1": (1, 2, 2),
        "backward_2": (1, 2, 3),
    }
    np.testing.assert_array_equal(sent["forward_2"], predicted["forward"][2])
    learned = learner.learn(params, predicted, x, feedback)
    np.testing.assert_array_equal(sent["backward_2"], learned["backward"][0])  # in flight to the hidden neurons
    silent = learner.messages(params, predicted, x, Feedback(error=jnp.zeros((1, 2)), target=jnp.zeros((1, 2))))
    assert not np.allclose(silent["backward_2"], sent["backward_2"])


def test_entries_have_names():
    from vsml.cells import LSTM

    spec = TaskSpec((2,), 2, 30)
    deep = VSML(LSTM(2), hidden=(3,))
    assert entries(deep, deep.init(jax.random.key(0), spec), spec)[0][:3] == ["0/c 0", "0/c 1", "0/h 0"]
    learner = VSML(LSTM(2))
    names, sizes = entries(learner, learner.init(jax.random.key(0), spec), spec)
    assert (names, sizes) == (["c 0", "c 1", "h 0", "h 1"], [2, 2])
    meta = MetaRNN(hidden_size=3)
    assert len(entries(meta, meta.init(jax.random.key(0), spec), spec)[0]) == 6


def test_learned_variables_that_are_computed_cannot_be_held():
    @dataclass(frozen=True)
    class Computed(Parrot):
        def learned_variables(self, state):
            return 2.0 * state

    with pytest.raises(UserError, match=r"learned_variables of learners\.Computed is not a part of its state"):
        learned_leaves(Computed(), jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    ("field", "value"), [("lifetimes", 1), ("learned", 0), ("units", 0), ("chunk", 0), ("slow", 0)]
)
def test_sizes_out_of_range_are_refused(field, value):
    with pytest.raises(UserError, match=rf"Dynamics\.{field} is {value}: set it"):
        Dynamics("x", Counting(), **{field: value})


def test_something_has_to_be_left_to_predict():
    with pytest.raises(UserError, match=r"learned is 20, but lifetimes of x have 20 steps: lower it"):
        Dynamics("x", Counting(length=20), learned=20).check()
