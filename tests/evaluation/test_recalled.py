"""What is recalled, the mean snippet beside it, and pictures."""

from __future__ import annotations

import dataclasses
import math

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


def outer_product(tasks, frames, recalled):
    """The answers of a single lifetime by explicit loops, [T, B, n]."""
    answers = np.zeros_like(frames.y)
    asked_for = set(recalled.ravel().tolist())
    for asked in recalled:
        for b in range(tasks.batch):
            seen = {t: frames.x[t, b] for t in range(asked[0]) if t not in asked_for}
            cue, count = frames.x[asked[0], b], sum(np.any(x != 0) for x in seen.values())
            for f, step in enumerate(asked):
                field = sum(seen[t + f] * (x @ cue) * (1 + 1e-5 * t) for t, x in seen.items() if t + f in seen)
                if tasks.values == "binary":
                    answers[step, b] = np.clip(2 * field / max(count - 1, 1), -np.log(99), np.log(99))
                else:
                    answers[step, b] = field / max(cue @ cue + count - 1, 1)
    return answers


@pytest.mark.parametrize(
    "how",
    [
        {"values": "binary"},
        {"values": "real"},
        {"values": "binary", "delay": 3, "distractors": True, "rounds": 2},
        {"values": "real", "delay": 2, "noise": 0.1},
        {"values": "binary", "snippets": 1},
        # At the second frame of these, steps that are one frame after another are not all of one snippet.
        {"values": "binary", "frames": 2, "cue": 1.0},
    ],
    ids=str,
)
def test_the_outer_product_equals_explicit_loops(how):
    tasks = Remember(**{"size": 6, "snippets": 3, "batch": 2, **how})
    measure = {"binary": "recalled", "real": "squared_error"}[tasks.values]
    found = Recalled("a", tasks, lifetimes=3, headline=f"cumulative_{measure}").run(LEARNER, PARAMS)
    rival, sampled = found.rivals["outer_product"], tasks_of(tasks, 3)
    for k in range(3):
        frames = type(sampled.frames)(*(np.asarray(leaf[k], np.float64) for leaf in sampled.frames))
        answers = outer_product(tasks, frames, np.asarray(sampled.recalled[k]))
        own = np.square(answers - frames.y) if measure == "squared_error" else answers * frames.y > 0
        counted = frames.hidden * frames.asked[..., None]
        per_step = (own * counted).sum(-1) / np.maximum(counted.sum(-1), 1)
        expected = (per_step * frames.asked).sum() / frames.asked.sum()
        assert rival.scores[f"cumulative_{measure}"][k] == pytest.approx(expected, abs=1e-5)


def test_the_outer_product_recalls_what_hopfield_networks_recall():
    """4 patterns, 8 numbers shown: three others add the sum of 24 signs to a field of 8; half of the ties count."""
    tasks = Remember(size=16, snippets=4, batch=8)
    found = Recalled("a", tasks, lifetimes=32).run(LEARNER, LEARNER.init(jax.random.key(0), tasks.spec))
    right = sum(math.comb(24, k) for k in range(25) if 2 * k - 24 > -8)
    exact = (right + math.comb(24, 8) / 2) / 2**24
    assert np.mean(found.rivals["outer_product"].scores["cumulative_recalled"]) == pytest.approx(exact, abs=0.01)


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


def test_meta_training_leaves_the_rivals_out():
    during = Recalled("a", TASKS, lifetimes=4, interim_lifetimes=2).interim()
    assert (during.lifetimes, during.run(LEARNER, PARAMS).rivals) == (2, {})


def test_other_tasks_are_refused():
    with pytest.raises(UserError, match=r"the tasks of a are no streams of snippets: use evaluators\.Online"):
        Recalled("a", Classification(Random(num_examples=8), length=4), headline="cumulative_accuracy").check()
    with pytest.raises(UserError, match=r"pictured is 0: set it to 1 or more"):
        Recalled("a", TASKS, pictured=0)
