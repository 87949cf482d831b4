"""`vsml.load`: a learned algorithm at work on numpy arrays."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import NO_EVALUATORS, call, train

import vsml
from vsml import learned
from vsml.errors import UserError
from vsml.tasks import Feedback

X = np.random.default_rng(0).normal(size=(12, 7))
Y = np.arange(12) % 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in it, of a VSML learner and of a Meta RNN."""
    folder = tmp_path_factory.mktemp("trained")
    cheap = (*NO_EVALUATORS, "meta_optimizers/es.gin", "train.checkpoint_every=1")
    train(folder / "runs" / "quickstart", *cheap, "STEPS=2")
    train(folder / "runs" / "rnn", *cheap, "learners/meta_rnn.gin", "learners.MetaRNN.hidden_size=4", "STEPS=1")
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def plain(algorithm: learned.LearnedAlgorithm) -> np.ndarray:
    """The outputs of a lifetime of X and Y, step by step from the equations of the contract."""
    spec = algorithm._spec((7,), 3, 12)
    state, outputs = algorithm.learner.initial_state(algorithm.params, jax.random.key(5), spec), []
    for x, y in zip(X.astype(np.float32), np.eye(3, dtype=np.float32)[Y][:, None], strict=True):
        state, output = algorithm.learner.predict(algorithm.params, state, x[None])
        feedback = Feedback(error=jax.nn.softmax(output) - y, target=y)
        state = algorithm.learner.learn(algorithm.params, state, x[None], feedback)
        outputs.append(np.asarray(output[0]))
    return np.stack(outputs)


def test_the_examples_of_its_page_run(here: Path):
    assert doctest.testmod(learned).attempted > 5
    assert doctest.testmod(learned).failed == 0


def test_online_and_step_by_step_are_the_contract(here: Path):
    algorithm = vsml.load("runs/quickstart")
    expected = plain(algorithm)
    assert np.abs(np.diff(expected, axis=0)).max() > 1e-3
    online = algorithm.online(X, Y, seed=5)
    assert (online.shape, online.dtype) == ((12, 3), np.float32)
    np.testing.assert_allclose(online, expected, rtol=1e-4, atol=1e-5)
    lifetime = algorithm.begin(7, 3, seed=5)
    for x, y, output in zip(X, Y, expected, strict=True):
        np.testing.assert_allclose(lifetime.predict(x), output, rtol=1e-4, atol=1e-5)
        lifetime.learn(y)


def test_it_holds_what_a_run_is_known_by(here: Path, capfd: pytest.CaptureFixture[str]):
    """Of a run, of a checkpoint and of an exported file, by string or path."""
    newest, first = vsml.load("runs/quickstart"), vsml.load("runs/quickstart@1")
    assert (newest.step, first.step, newest.about["recipe"]) == (2, 1, "recipes/quickstart.gin")
    assert vsml.load("runs/quickstart@best").step in (1, 2)
    assert newest.specs[0].input_shape == (8, 8, 1)
    assert newest.experiment.learner == newest.learner
    assert "LENGTH = 5" in newest.config.text
    assert call(capfd, "export", "runs/quickstart", "vsml.npz").code == 0
    exported = vsml.load(here / "vsml.npz")
    for one, other in zip(jax.tree.leaves(exported.params), jax.tree.leaves(newest.params), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(exported.online(X, Y), newest.online(X, Y))


def test_classes_may_be_more_than_the_labels_show(here: Path):
    assert vsml.load("runs/quickstart").online(X, Y, outputs=5).shape == (12, 5)


def test_a_prediction_alone_leaves_no_trace(here: Path):
    lifetime = vsml.load("runs/quickstart").begin((7,), 3)
    first = lifetime.predict(X[0])
    lifetime.predict(X[1])
    np.testing.assert_array_equal(lifetime.predict(X[0]), first)
    before = lifetime.state
    lifetime.learn(0)
    assert np.abs(lifetime.predict(X[0]) - first).max() > 1e-5
    lifetime.state = before
    np.testing.assert_array_equal(lifetime.predict(X[0]), first)


def test_feedback_other_than_a_label(here: Path):
    """What a label stands for may be given by hand, and so may the answers of other tasks."""
    one, other = (vsml.load("runs/quickstart").begin(7, 3) for _ in range(2))
    output = one.predict(X[0])
    other.predict(X[0])
    one.learn(2)
    target = np.array([0.0, 0.0, 1.0])
    other.learn(Feedback(error=np.exp(output) / np.exp(output).sum() - target, target=target))  # pyright: ignore
    np.testing.assert_allclose(one.predict(X[1]), other.predict(X[1]), rtol=1e-4, atol=1e-6)


def test_a_learner_bound_to_its_shapes_says_so(here: Path):
    algorithm = vsml.load("runs/rnn")
    images = np.zeros((4, 8, 8, 1))
    assert algorithm.online(images, np.arange(4), outputs=10).shape == (4, 10)
    with pytest.raises(UserError, match=r"learners.MetaRNN depend on the task: they fit inputs of shape \(8, 8, 1\) "):
        algorithm.online(X, Y)


ROWS = [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("x", "y", "outputs", "message"),
    [
        (X, Y[:5], None, r"x is of shape \(12, 7\), y of \(5,\): give x as \[T, inputs\] and y as \[T\] labels"),
        (X[0], Y, None, r"x is of shape \(7,\)"),
        (X, np.eye(3)[Y], None, r"y of \(12, 3\)"),
        (X, Y + 0.5, None, "labels are of type float64: give whole numbers"),
        (X, Y - 1, None, "a label is -1: labels are 0, 1, ..."),
        (X, Y, 2, "a label is 2: labels are 0, 1, 1"),
        (X, Y, 0, "a label is 0"),
        (X * np.nan, Y, None, "x holds numbers that are not finite in float32"),
        (X * 1e300, Y, None, "x holds numbers that are not finite in float32"),
        (X.astype(str)[:, :1] + "a", Y, None, "x holds something else than numbers"),
        (ROWS, Y[:2], None, "x holds something else than numbers, or rows of unlike length"),
        (X[:0], Y[:0], None, "0 examples: give 1 or more"),
        (X[:, :0], Y, None, r"an input of shape \(0,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(here: Path, x: Any, y: Any, outputs: int | None, message: str):
    algorithm = vsml.load("runs/quickstart")
    with pytest.raises(UserError, match=message) as caught:
        algorithm.online(x, y, outputs)
    assert "\n" not in str(caught.value)


def test_the_functions_refuse_what_does_not_fit(here: Path):
    """Shapes also under jit, where labels are not known."""
    algorithm = vsml.load("runs/quickstart")
    state = algorithm.init(jax.random.key(0), 7, 3)
    x = jnp.asarray(X)
    predicted, output = algorithm.predict(state, x[0])
    for wrong in (x[0, :5], x[0, :1], x[:2], x[0, 0]):
        for predict in (algorithm.predict, jax.jit(algorithm.predict)):
            with pytest.raises(
                UserError, match=r"x is of shape \([\d, ]*\): give one of shape \(7,\), as init was told"
            ):
                predict(state, wrong)
        with pytest.raises(UserError, match="x is of shape"):
            algorithm.learn(predicted, wrong, output, 0)
    for learn in (algorithm.learn, jax.jit(algorithm.learn)):
        with pytest.raises(UserError, match=r"output is of shape \(2,\): give one of shape \(3,\)"):
            learn(predicted, x[0], output[:2], 0)
        with pytest.raises(UserError, match=r"label is of shape \(2,\): give one of shape \(\)"):
            learn(predicted, x[0], output, jnp.asarray(Y[:2]))
    for label, message in [(7, "a label is 7: labels are 0, 1, 2"), (np.int64(-1), "a label is -1"), (0.5, "of type")]:
        with pytest.raises(UserError, match=message):
            algorithm.learn(predicted, x[0], output, label)  # pyright: ignore


def test_the_functions_under_vmap(here: Path):
    """Many lifetimes at once are the same as each alone."""
    algorithm = vsml.load("runs/quickstart")
    x, y, keys = jnp.asarray(X), jnp.asarray(Y), jax.random.split(jax.random.key(1), 12)

    def logits(key: jax.Array, x: jax.Array, label: jax.Array) -> jax.Array:
        predicted, output = algorithm.predict(algorithm.init(key, 7, 3), x)
        return algorithm.predict(algorithm.learn(predicted, x, output, label), x)[1]

    together = jax.vmap(logits)(keys, x, y)
    np.testing.assert_allclose(together[4], logits(keys[4], x[4], y[4]), rtol=1e-3, atol=1e-5)


def test_steps_that_do_not_fit_are_one_line(here: Path):
    lifetime = vsml.load("runs/quickstart").begin(7, 3)
    with pytest.raises(UserError, match=r"call predict\(x\) before each"):
        lifetime.learn(0)
    with pytest.raises(UserError, match=r"x is of shape \(8,\), this lifetime has inputs of \(7,\)"):
        lifetime.predict(np.zeros(8))
    lifetime.predict(X[0])
    for answer, message in [
        (3, "a label is 3: labels are 0, 1, 2"),
        ([0, 1], r"a label is of shape \(2,\)"),
        (Feedback(reward=1.0), "meta-trained on error and target, and this answer tells reward"),  # pyright: ignore
        (Feedback(error=np.zeros(2), target=np.zeros(3)), r"the error is of shape \(2,\): give \(3,\)"),  # pyright: ignore
    ]:
        with pytest.raises(UserError, match=message):
            lifetime.learn(answer)
    lifetime.learn(1)
    with pytest.raises(UserError, match=r"call predict\(x\) before each"):
        lifetime.learn(1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("runs/none", "vsml.load: there is no runs/none (relative to the working directory): name a run directory"),
        ("runs/quickstart@7", "no checkpoint '7'; kept are 1, 2"),
        ("runs", "runs: no config.json in it, so this is not a run directory"),
        ("notes.npz", "notes.npz: this is not a file of meta-parameters"),
        ("notes.npz@best", "vsml.load: notes.npz is a file and holds one set of meta-parameters: leave out @best"),
    ],
)
def test_what_is_not_there_is_one_line(here: Path, source: str, message: str):
    (here / "notes.npz").touch()
    with pytest.raises(UserError) as caught:
        vsml.load(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_importing_the_package_alone_is_light():
    program = "import sys, vsml; print(vsml.load, sorted({'jax', 'numpy', 'gin', 'vsml.learned'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
