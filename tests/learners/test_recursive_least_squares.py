"""Recursive least squares: by hand, and the ridge regression that scikit-learn finds in double precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from stepping import live, step

from vsml.errors import UserError
from vsml.learners import RecursiveLeastSquares
from vsml.tasks import Feedback, TaskSpec


def _begin(learner: RecursiveLeastSquares, num_inputs: int, num_outputs: int, batch: int = 1):
    spec = TaskSpec((num_inputs,), num_outputs, length=1, batch=batch)
    return learner.initial_state({}, jax.random.key(0), spec)


def test_two_examples_by_hand():
    # f = (x, 1). After f = (1, 1), y = (1, 0): (f f^T + 2) w = f y_0 has w = (1, 1) / 4.
    learner = RecursiveLeastSquares(features=0, ridge=2.0)
    state, logits = step(learner, {}, _begin(learner, 1, 2), jnp.array([[1.0]]), jnp.array([[1.0, 0.0]]))
    assert logits.argmax() == 0
    np.testing.assert_allclose(state.w, [[0.25, 0.0], [0.25, 0.0]], rtol=1e-6)
    # Then f = (-1, 1), y = (0, 1): sum f f^T + 2 = 4 I, sum f y^T = (1, -1; 1, 1).
    state, logits = step(learner, {}, state, jnp.array([[-1.0]]), jnp.array([[0.0, 1.0]]))
    np.testing.assert_allclose(state.w, [[0.25, -0.25], [0.25, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(state.root @ state.root.T, np.eye(2) / 4, atol=1e-7)
    # (x, 1) w: (.25 x + .25, -.25 x + .25), equal at 0
    for x, expected in ((0.1, 0), (-0.1, 1)):
        assert learner.predict({}, state, jnp.array([[x]]))[1].argmax() == expected


@pytest.mark.parametrize(("features", "batch"), [(0, 1), (20, 1), (20, 5)])
def test_equals_the_ridge_regression_of_scikit_learn(features: int, batch: int):
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(30, 6)), rng.integers(0, 3, 30)
    learner = RecursiveLeastSquares(features, ridge=0.7)
    state = _begin(learner, 6, 3, batch)
    y = np.eye(3)[label]
    steps = (jnp.asarray(each, jnp.float32).reshape(-1, batch, each.shape[1]) for each in (x, y))
    lived = live(learner, {}, state, *steps)
    read = x
    if state.random is not None:
        directions, offsets = (np.asarray(leaf, np.float64) for leaf in state.random)
        read = np.maximum(x @ directions + offsets, 0)
    read = np.hstack([read, np.ones((30, 1))])
    ridge = Ridge(alpha=0.7, fit_intercept=False)
    np.testing.assert_allclose(lived.state.w, ridge.fit(read, y).coef_.T, atol=1e-5)
    outputs = lived.outputs.reshape(30, 3)
    for t in range(10, 30, batch):
        expected = ridge.fit(read[:t], y[:t]).predict(read[t : t + batch])
        np.testing.assert_array_equal(outputs[t : t + batch].argmax(1), expected.argmax(1))


def test_single_precision_is_enough_for_thousands_of_examples():
    """Inputs that nearly depend on each other, as pixels do, and a small ridge."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 60)) + 0.05 * rng.normal(size=(2000, 60))).astype(np.float32)
    label = rng.integers(0, 2, 2000)
    learner = RecursiveLeastSquares(features=0, ridge=0.1)
    y = jax.nn.one_hot(label[:, None], 2)
    state = live(learner, {}, _begin(learner, 60, 2), jnp.asarray(x[:, None]), y).state
    read = np.hstack([x, np.ones((2000, 1))]).astype(np.float64)
    expected = np.linalg.solve(read.T @ read + 0.1 * np.eye(61), read.T @ np.eye(2)[label])
    assert np.linalg.cond(read.T @ read + 0.1 * np.eye(61)) > 1e4
    np.testing.assert_allclose(read @ np.asarray(state.w, np.float64), read @ expected, atol=2e-5)


def test_random_features_differ_between_lifetimes():
    learner, spec = RecursiveLeastSquares(features=400), TaskSpec((10, 10), 2, length=1)
    one, other = (learner.initial_state({}, jax.random.key(seed), spec).random for seed in (0, 1))
    assert one is not None
    assert other is not None
    assert jnp.abs(one[0] - other[0]).max() > 0.1
    np.testing.assert_allclose([one[0].std(), one[1].std()], [0.1, 0.3], rtol=0.1)
    assert one[0].shape == (100, 400)


def test_examples_without_a_target_change_nothing():
    learner = RecursiveLeastSquares(features=3)
    state = live(learner, {}, _begin(learner, 2, 2), jnp.ones((1, 1, 2)), jnp.ones((1, 1, 2))).state
    x, target = jnp.array([[1.0, 2.0], [9.0, 9.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]])
    both = learner.learn({}, state, x, Feedback(target=target, given=jnp.array([1.0, 0.0])))
    alone = learner.learn({}, state, x[:1], Feedback(target=target[:1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), both, alone)
    nothing = learner.learn({}, state, x, Feedback(target=0 * target, given=jnp.zeros(2)))
    jax.tree.map(np.testing.assert_array_equal, nothing, state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"features": -1}, "features is -1: give 1 or more, or 0 for the inputs"), ({"ridge": 0.0}, "ridge is 0.0: set")],
)
def test_refuses(wrong, message):
    with pytest.raises(UserError, match=message):
        RecursiveLeastSquares(**wrong)
