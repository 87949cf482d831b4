"""Nearest neighbour: by hand, and as scikit-learn finds it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from stepping import live, step

from vsml.errors import UserError
from vsml.learners import NearestNeighbour
from vsml.tasks import Feedback, TaskSpec


def _begin(learner: NearestNeighbour, shape: tuple[int, ...], num_outputs: int, length: int, batch: int = 1):
    return learner.initial_state({}, jax.random.key(0), TaskSpec(shape, num_outputs, length, batch))


def test_three_examples_by_hand():
    learner = NearestNeighbour()
    state = _begin(learner, (1,), 3, length=3)
    for x, label, expected in ((1.0, 2, 0), (4.0, 1, 2), (2.0, 2, 2)):
        # Nothing seen: the first class; then that of 1, the only one, and of 1 again, which is nearer than 4.
        state, logits = step(learner, {}, state, jnp.array([[x]]), jax.nn.one_hot(jnp.array([label]), 3))
        assert logits.argmax() == expected
    np.testing.assert_array_equal(state.x, [[1.0], [4.0], [2.0]])
    assert (state.count, state.compared) == (3, 2)
    np.testing.assert_allclose(state.total, 3.0**2 + 1.0**2)
    for x, expected in ((2.9, 2), (3.1, 1), (-5.0, 2)):
        _, logits = learner.predict({}, state, jnp.array([[x]]))
        assert logits.argmax() == expected
        np.testing.assert_allclose(jax.nn.softmax(logits)[0, 0], 1 / 3, rtol=1e-3)  # never seen


def test_of_equally_near_examples_the_first_class_wins():
    learner = NearestNeighbour()
    x, y = jnp.array([[[1.0]], [[-1.0]]]), jax.nn.one_hot(jnp.array([[2], [1]]), 3)
    state = live(learner, {}, _begin(learner, (1,), 3, length=2), x, y).state
    assert learner.predict({}, state, jnp.zeros((1, 1)))[1].argmax() == 1


@pytest.mark.parametrize(("memory", "batch"), [(None, 1), (None, 4), (7, 1), (7, 3)])
def test_equals_scikit_learn(memory: int | None, batch: int):
    rng, steps = np.random.default_rng(3), 12
    label = rng.integers(0, 4, steps * batch)
    x = rng.normal(size=(steps * batch, 2, 3)) + np.linspace(-1, 1, 4)[label, None, None]
    learner = NearestNeighbour(memory)
    state = _begin(learner, (2, 3), 4, steps, batch)
    images = jnp.asarray(x, jnp.float32).reshape(steps, batch, 2, 3)
    outputs = live(learner, {}, state, images, jax.nn.one_hot(label.reshape(steps, batch), 4)).outputs
    for t in range(1, steps):
        seen = slice(max(0, t * batch - (memory or steps * batch)), t * batch)
        neighbour = KNeighborsClassifier(1).fit(x[seen].reshape(-1, 6), label[seen])
        found = neighbour.predict(x[t * batch : (t + 1) * batch].reshape(-1, 6))
        np.testing.assert_array_equal(outputs[t].argmax(1), found)


def test_examples_without_a_target_are_not_stored():
    learner = NearestNeighbour()
    state = _begin(learner, (1,), 2, length=2, batch=2)
    x, target = jnp.array([[7.0], [3.0]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
    state = learner.learn({}, state, x, Feedback(target=target, given=jnp.array([0.0, 1.0])))
    np.testing.assert_array_equal(state.x[:, 0], [3.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(state.label[:, 1], [True, False, False, False])
    nothing = learner.learn({}, state, x, Feedback(target=0 * target, given=jnp.zeros(2)))
    jax.tree.map(np.testing.assert_array_equal, nothing, state)


def test_refuses_a_memory_that_is_too_small():
    with pytest.raises(UserError, match=r"NearestNeighbour\.memory is 0: set it to 1 or more"):
        NearestNeighbour(memory=0)
    with pytest.raises(UserError, match=r"memory is 2, but 3 examples come at once: set it to 3 or more"):
        _begin(NearestNeighbour(memory=2), (1,), 2, length=1, batch=3)
