"""What is recalled, the mean snippet beside it, and pictures."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.evaluation import Online, Recalled
from vsml.evaluation.rollouts import run_lifetimes
from vsml.learners import AttentionMemory
from vsml.tasks import Classification, Remember
from vsml.tasks.sources import Random

TASKS = Remember(size=6, snippets=3, cue=0.5, correlation=0.5)
LEARNER = AttentionMemory()
PARAMS = LEARNER.init(jax.random.key(0), TASKS.spec)


class Sampled:
    def __call__(self, spec, shared, task, key):
        return task


def tasks_of(tasks, lifetimes):
    return run_lifetimes(Sampled(), {}, tasks, lifetimes, seed=0)


def test_scores_are_those_of_online():
    found = Recalled("a", TASKS, lifetimes=4).run(LEARNER, PARAMS)
    alone = Online("a", TASKS, lifetimes=4).run(LEARNER, PARAMS)
    assert found.scores.keys() == alone.scores.keys()
    for name, values in alone.scores.items():
        np.testing.assert_array_equal(found.scores[name], values)


@pytest.mark.parametrize("values", ["binary", "real"])
def test_the_mean_snippet(values):
    tasks = dataclasses.replace(TASKS, values=values, batch=2)
    measure = {"binary": "recalled", "real": "squared_error"}[values]
    found = Recalled("a", tasks, lifetimes=5, headline=f"cumulative_{measure}").run(LEARNER, PARAMS)
    frames = tasks_of(tasks, 5).frames
    asked = frames.asked[..., None] > 0
    mean = np.sum(frames.y * asked, (0, 1, 2)) / np.sum(asked)
    own = np.square(mean - frames.y) if values == "real" else mean * frames.y > 0
    counted = frames.hidden * asked
    expected = np.sum(own * counted, (1, 2, 3)) / np.sum(counted, (1, 2, 3))
    rival = found.rivals["mean_snippet"]
    np.testing.assert_allclose(rival.scores[f"cumulative_{measure}"], expected, atol=1e-6)
    assert rival.label == "mean snippet"


def test_the_mean_of_a_stream_does_not_know_the_cue():
    """4 patterns: who says the sign of their sum, ties to one of them, is right with 11 of 16 numbers."""
    tasks = Remember(size=16, snippets=4, batch=8)
    found = Recalled("a", tasks, lifetimes=32).run(LEARNER, LEARNER.init(jax.random.key(0), tasks.spec))
    sampled = tasks_of(tasks, 32)
    frames = sampled.frames
    mean = np.sum(frames.y, 1) / 4 + 1e-6 * frames.y[:, 4]  # the first recall
    counted = np.asarray(frames.hidden)
    right = (mean[:, None] * frames.y > 0) * counted
    rival = found.rivals["mean_of_the_stream"]
    assert rival.label == "mean of the stream"
    np.testing.assert_allclose(
        rival.scores["cumulative_recalled"], right.sum((1, 2, 3)) / counted.sum((1, 2, 3)), atol=1e-6
    )
    assert np.mean(rival.scores["cumulative_recalled"]) == pytest.approx(11 / 16, abs=0.02)


def test_pictures_show_what_was_written_its_cue_and_what_is_recalled():
    found = Recalled("a", TASKS, lifetimes=2, pictured=2).run(LEARNER, PARAMS).pictures["recalls"]
    assert found.rows == ("written", "cue", "recalled")
    assert found.values.shape == (3, 2, 1, 6)
    frames = tasks_of(TASKS, 2).frames
    np.testing.assert_array_equal(found.values[0, :, 0], frames.y[0, 3:5, 0])
    np.testing.assert_array_equal(found.values[1, :, 0], frames.x[0, 3:5, 0])
    assert ((found.values[1] == 0).sum((1, 2)) == 3).all()
    assert np.abs(found.values[2]).max() <= 1


def test_images_keep_their_shape():
    tasks = Remember(source=Random(num_examples=12, image_shape=(2, 3, 1)), snippets=2)
    found = Recalled("a", tasks, lifetimes=2).run(LEARNER, PARAMS).pictures["recalls"]
    assert found.values.shape == (3, 2, 2, 3)


def test_meta_training_leaves_the_rival_out():
    during = Recalled("a", TASKS, lifetimes=4, interim_lifetimes=2).interim()
    assert (during.lifetimes, during.run(LEARNER, PARAMS).rivals) == (2, {})


def test_other_tasks_are_refused():
    with pytest.raises(UserError, match=r"the tasks of a are no streams of snippets: use evaluators\.Online"):
        Recalled("a", Classification(Random(num_examples=8), length=4), headline="cumulative_accuracy").check()
    with pytest.raises(UserError, match=r"pictured is 0: set it to 1 or more"):
        Recalled("a", TASKS, pictured=0)
