"""Nearest class mean: by hand, and as numpy finds it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from stepping import live, step

from vsml.learners import NearestClassMean
from vsml.tasks import Feedback, TaskSpec

LEARNER = NearestClassMean()


def _begin(num_inputs: int, num_outputs: int, batch: int = 1):
    return LEARNER.initial_state({}, jax.random.key(0), TaskSpec((num_inputs,), num_outputs, length=1, batch=batch))


def test_three_examples_by_hand():
    state = _begin(1, 3)
    for x, label, expected in ((1.0, 2, 0), (4.0, 1, 2), (2.0, 2, 2)):
        # Nothing seen: the first class; class 2 alone: that; means 1 and 4 of classes 2 and 1: 2 is nearer to 1.
        state, logits = step(LEARNER, {}, state, jnp.array([[x]]), jax.nn.one_hot(jnp.array([label]), 3))
        assert logits.argmax() == expected
    np.testing.assert_allclose(state.mean, [[0.0], [4.0], [1.5]])
    np.testing.assert_allclose(state.count, [0, 1, 2])
    np.testing.assert_allclose(state.scatter, 0.5**2 + 0.5**2)
    for x, expected in ((2.7, 2), (2.8, 1)):  # 2.75 lies in the middle
        _, logits = LEARNER.predict({}, state, jnp.array([[x]]))
        assert logits.argmax() == expected
        np.testing.assert_allclose(jax.nn.softmax(logits)[0, 0], 1 / 3, rtol=1e-3)  # never seen


def test_a_batch_is_learned_together():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 1, 4)), jnp.float32)
    y = jax.nn.one_hot(jnp.array([0, 1, 0, 2, 1, 0]), 3)[:, None]
    one = live(LEARNER, {}, _begin(4, 3), x, y).state
    together = live(LEARNER, {}, _begin(4, 3, batch=3), x.reshape(2, 3, 4), y.reshape(2, 3, 3)).state
    for name in ("mean", "count", "scatter"):
        np.testing.assert_allclose(getattr(one, name), getattr(together, name), rtol=1e-5)


def test_examples_without_a_target_change_nothing():
    state = live(LEARNER, {}, _begin(2, 2, batch=2), jnp.ones((1, 2, 2)), jnp.eye(2)[None]).state
    x, target = jnp.array([[1.0, 2.0], [9.0, 9.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]])
    learned = LEARNER.learn({}, state, x, Feedback(target=target, given=jnp.array([1.0, 0.0])))
    np.testing.assert_allclose(learned.mean, [[1.0, 1.0], [1.0, 1.5]])
    nothing = LEARNER.learn({}, state, x, Feedback(target=0 * target, given=jnp.zeros(2)))
    jax.tree.map(np.testing.assert_array_equal, nothing, state)


def test_equals_numpy_on_images():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 4, 60)
    x = rng.normal(size=(60, 2, 3)) + np.linspace(-1, 1, 4)[label, None, None]
    spec = TaskSpec((2, 3), 4, length=60)
    state = LEARNER.initial_state({}, jax.random.key(0), spec)
    outputs = live(LEARNER, {}, state, jnp.asarray(x[:, None], jnp.float32), jax.nn.one_hot(label[:, None], 4)).outputs
    for t in range(1, 60):
        means = [x[:t][label[:t] == c].mean(0) if (label[:t] == c).any() else np.full((2, 3), np.inf) for c in range(4)]
        assert outputs[t, 0].argmax() == np.argmin([((x[t] - mean) ** 2).sum() for mean in means])
