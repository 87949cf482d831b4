"""Streams of snippets: what is shown when, what is asked for, and how outputs are scored."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks import Remember
from vsml.tasks.sources import Digits

KEY = jax.random.key(0)


def drawn(tasks, key=KEY):
    return jax.tree.map(np.asarray, tasks.sample(tasks.load(), key))


@pytest.mark.parametrize(
    "tasks",
    [
        Remember(size=8, snippets=3, delay=2),
        Remember(size=8, snippets=2, frames=3, rounds=2, batch=2, delay=1),
        Remember(size=8, snippets=2, frames=2, cue=1.0, values="real"),
        Remember(size=8, snippets=2, delay=3, distractors=True, shown="first", cue=0.25),
        Remember(snippets=3, source=Digits(split="train"), values="real", shown="first"),
    ],
)
def test_a_snippet_is_asked_for_as_it_was_written(tasks):
    task, spec = drawn(tasks), tasks.spec
    frames = task.frames
    x = frames.x.reshape(*frames.x.shape[:2], -1)
    assert x.shape == (spec.length, spec.batch, spec.num_inputs)
    for written, recalled in zip(task.written, task.recalled, strict=True):
        assert written.max() < recalled.min()
        np.testing.assert_array_equal(frames.y[recalled], x[written])
        shown = 1 - frames.hidden[recalled[0]]
        np.testing.assert_array_equal(x[recalled[0]], shown * x[written[0]])
        np.testing.assert_array_equal(shown.sum(-1), round(tasks.cue * spec.num_inputs))
        np.testing.assert_array_equal(x[recalled[1:]], 0)
        np.testing.assert_array_equal(frames.hidden[recalled[1:]], 1)
    steps = np.concatenate([task.written.ravel(), task.recalled.ravel()])
    assert len(set(steps)) == len(steps) == spec.length - tasks.rounds * tasks.delay
    rest = np.setdiff1d(np.arange(spec.length), task.recalled.ravel())
    np.testing.assert_array_equal(frames.asked[rest], 0)
    asked = frames.asked[task.recalled]
    np.testing.assert_array_equal(asked[:, 0], 0 if tasks.cue == 1 else 1)
    np.testing.assert_array_equal(asked[:, 1:], 1)
    quiet = np.setdiff1d(rest, task.written.ravel())
    assert len(quiet) == tasks.rounds * tasks.delay
    assert np.all((x[quiet] != 0) == tasks.distractors)
    if tasks.shown == "first":
        np.testing.assert_array_equal(np.diff(shown, axis=-1) <= 0, True)


def test_snippets_are_recalled_in_any_order():
    tasks = Remember(snippets=3)
    first = {int(drawn(tasks, key).recalled[:, 0].argmin()) for key in jax.random.split(KEY, 20)}
    assert first == {0, 1, 2}


@pytest.mark.parametrize("values", ["binary", "real"])
def test_noise_and_correlation_are_what_they_say(values):
    tasks = Remember(size=500, snippets=20, noise=0.2, correlation=0.6, values=values)
    task = drawn(tasks)
    clean, seen = task.frames.y[task.recalled[:, 0], 0], task.frames.x[task.written[:, 0], 0]
    if values == "binary":
        assert set(np.unique(seen)) == {-1, 1}
        np.testing.assert_allclose((clean != seen).mean(), 0.2, atol=0.02)
    else:
        np.testing.assert_allclose((seen - clean).std(), 0.2, atol=0.02)
    np.testing.assert_allclose(clean.std(), 1, atol=0.1)
    between = np.corrcoef(clean)[np.triu_indices(20, 1)]
    np.testing.assert_allclose(between.mean(), 0.6, atol=0.05)
    assert np.abs(np.corrcoef(drawn(Remember(size=500, snippets=20)).frames.x[:20, 0])[0, 1:]).max() < 0.2


def test_images_come_once_and_are_standardised():
    tasks = Remember(snippets=40, source=Digits(split="train"), values="real", delay=10, distractors=True, rounds=2)
    task = drawn(tasks)
    assert task.frames.x.shape[2:] == (8, 8, 1)
    images = np.delete(task.frames.x, task.recalled.ravel(), axis=0).reshape(100, -1)
    assert len(np.unique(images.round(4), axis=0)) == 100
    np.testing.assert_allclose((images.mean(), images.std()), (0, 1), atol=0.1)
    binary = drawn(Remember(snippets=4, source=Digits(split="train")))
    assert set(np.unique(binary.frames.x[:4])) == {-1, 1}


def test_scores():
    task = Remember(size=4, snippets=1).sample((), KEY)
    row = jax.tree.map(lambda leaf: leaf[1], task.steps)
    scores = task.score(row, 30.0 * row.y, ())
    np.testing.assert_allclose((scores.loss[0], scores.measures["recalled"][0]), (0, 1), atol=1e-6)
    flipped = task.score(row, jnp.where(row.hidden == 1, -1.0, 1.0) * 30.0 * row.y, ())
    np.testing.assert_allclose((flipped.loss[0], flipped.measures["recalled"][0]), (15, 0), atol=1e-6)
    silent = task.score(row, jnp.zeros_like(row.y), ())
    np.testing.assert_allclose((silent.loss[0], silent.measures["recalled"][0]), (np.log(2), 0), atol=1e-6)
    real = Remember(size=4, snippets=1, values="real").sample((), KEY)
    row = jax.tree.map(lambda leaf: leaf[1], real.steps)
    scores = real.score(row, row.y + 3 * row.hidden, ())
    np.testing.assert_allclose((scores.loss[0], scores.measures["squared_error"][0]), (4.5, 9), atol=1e-5)


def test_meta_tests_use_held_out_images():
    tasks = Remember(source=Digits(split="train")).for_meta_test((), None)
    assert tasks.source == Digits(split="test")
    assert Remember().for_meta_test((), None) == Remember()
    with pytest.raises(UserError, match=r"leave tasks\.HeldOut\.length out, and set tasks\.Remember\.rounds"):
        Remember().for_meta_test((), 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"snippets": 0}, "snippets is 0: give at least 1"),
        ({"delay": -1}, "delay is -1: give at least 0"),
        ({"cue": 1.5}, "cue is 1.5: give a share, from 0 to 1"),
        ({"noise": 0.6}, "noise is 0.6: give at least 0 and at most 0.5"),
        ({"noise": -0.1, "values": "real"}, "noise is -0.1: give at least 0"),
        ({"correlation": 1.0}, "correlation is 1.0: give it from 0 to below 1"),
        ({"correlation": 0.5, "source": Digits(split="train")}, "correlation is of random snippets"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Remember(**fields)


def test_a_cue_that_shows_nothing_tells_no_snippet_from_another():
    with pytest.raises(
        UserError, match=r"none of 16 numbers is shown and nothing tells which of 4 snippets .* raise it"
    ):
        _ = Remember(cue=0.0).spec
    assert Remember(cue=0.0, snippets=1).spec.length == 2


def test_more_examples_than_a_source_has_are_refused():
    with pytest.raises(UserError, match=r"shows 1200 examples in a lifetime, none twice, but digits has only \d+ here"):
        _ = Remember(snippets=300, batch=4, source=Digits(split="train")).spec


def test_a_cue_that_shows_all_leaves_nothing_to_recall():
    with pytest.raises(UserError, match="all 16 numbers of a snippet are shown and none is left to recall"):
        _ = Remember(cue=1.0).spec
