"""Delta-rule fast weight programmer: writes and reads by hand, and a loop written with numpy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import step

from vsml.errors import UserError
from vsml.learners.delta_rule import DeltaRule, read, write
from vsml.tasks.base import TaskSpec

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
SPEC = TaskSpec((2, 2), 3, length=5, batch=2)


def test_write_and_read_by_hand():
    # Under the key (3/4, 1/4) the memory says 3/4 * 4 + 1/4 * 4 = 4 where 8 should be: half of the 4 that are missing
    # is written, 3/4 of it to the first row and 1/4 to the second. The other stream, with beta 0, stays.
    fast = jnp.full((2, 2, 1), 4.0)
    key, value, beta = jnp.array([[0.75, 0.25]] * 2), jnp.array([[8.0]] * 2), jnp.array([[0.5], [0.0]])
    fast = write(fast, key, value, beta)
    np.testing.assert_allclose(fast, [[[5.5], [4.5]], [[4.0], [4.0]]])
    np.testing.assert_allclose(read(fast, jnp.array([[1.0, 0.0], [0.5, 1.0]])), [[5.5], [6.0]])


def test_a_key_of_one_line_at_beta_1_replaces_what_was_there():
    fast = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    fast = write(fast, jnp.array([[0.0, 1.0]]), jnp.array([[-5.0, 6.0]]), jnp.ones((1, 1)))
    np.testing.assert_allclose(fast, [[[1.0, 2.0], [-5.0, 6.0]]])


def test_a_second_pass_ties_an_input_to_its_own_label():
    # The slow layer copies the label to v and all else is constant: phi = (1/2, 1/2), beta = sig(0) = 1/2.
    # F becomes 1/2 * 1/2 of the label in both rows; asked, it says 2 * 1/2 * 1/4.
    learner, spec = DeltaRule(key_size=2, feedback="second_pass"), TaskSpec((1,), 2, length=2)
    copy = jnp.zeros((5, 7)).at[3:5, 4:6].set(jnp.eye(2))
    params = {"slow": {"w": copy, "b": jnp.zeros(7)}}
    state = learner.initial_state(params, jax.random.key(0), spec)
    x, y = jnp.array([[3.0]]), jnp.array([[0.0, 1.0]])
    state, first = step(learner, params, state, x, y)
    _, second = step(learner, params, state, x, y)
    np.testing.assert_array_equal(first, [[0.0, 0.0]])
    np.testing.assert_allclose(state.fast[0], [[0.0, 0.25], [0.0, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(second, [[0.0, 0.25]], rtol=1e-6)


@pytest.mark.parametrize("feedback", ["delayed", "second_pass"])
def test_equals_a_numpy_loop(feedback):
    learner, rng = DeltaRule(key_size=4, feedback=feedback), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1,
        jax.jit(learner.init, static_argnums=1)(jax.random.key(0), SPEC),
    )
    slow, bias = (np.asarray(params["slow"][name], np.float64) for name in "wb")
    x, y = rng.standard_normal((5, 2, 2, 2)), np.eye(3)[rng.integers(0, 3, (5, 2))]

    def phi(z):
        positive = np.where(z > 0, z, np.exp(z) - 1) + 1
        return positive / positive.sum()

    def written(memory, said):
        key, value, beta = phi(said[:4]), said[8:11], 1 / (1 + np.exp(-said[11]))
        return memory + beta * np.outer(key, value - memory.T @ key)

    live = jax.jit(functools.partial(step, learner))
    state = learner.initial_state(params, jax.random.key(0), SPEC)
    fast, error, label = np.zeros((2, 4, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    for inputs, labels in zip(x, y, strict=True):
        expected = np.zeros((2, 3))
        for stream in range(2):
            pixels = inputs[stream].ravel()
            said = np.concatenate([pixels, error[stream], label[stream]]) @ slow + bias
            if feedback == "delayed":
                fast[stream] = written(fast[stream], said)
            expected[stream] = logits = fast[stream].T @ phi(said[4:8])
            error[stream] = np.exp(logits) / np.exp(logits).sum() - labels[stream]
            label[stream] = labels[stream]
            if feedback == "second_pass":
                said = np.concatenate([pixels, error[stream], label[stream]]) @ slow + bias
                fast[stream] = written(fast[stream], said)
                error[stream], label[stream] = 0, 0
        state, logits = live(params, state, jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.float32))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.fast, fast, rtol=1e-5, atol=1e-5)


def test_refuses_empty_keys():
    with pytest.raises(UserError, match=r"learners\.DeltaRule\.key_size is 0"):
        DeltaRule(key_size=0)
