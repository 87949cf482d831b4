"""Attention over all inputs so far, beside the formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.learners import AttentionMemory
from vsml.tasks import Feedback, TaskSpec

SPEC = TaskSpec((3,), 3, length=4, batch=2, feedback=())


def test_equals_the_formula():
    learner = AttentionMemory(sharpness=3.0, scale=2.0)
    params = learner.init(jax.random.key(0), SPEC)
    state = learner.initial_state(params, jax.random.key(1), SPEC)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    for t in range(4):
        state, output = learner.predict(params, state, jnp.asarray(x[t]))
        for b in range(2):
            weights = np.exp([3.0 * x[t, b] @ x[j, b] / 3 for j in range(t)])
            mean = sum(w * x[j, b] for j, w in enumerate(weights)) / max(weights.sum(), 1e-9) if t else np.zeros(3)
            np.testing.assert_allclose(output[b], 2.0 * mean, atol=1e-5)
        state = learner.learn(params, state, jnp.asarray(x[t]), Feedback())


def test_slopes_are_finite_while_nothing_is_known():
    learner = AttentionMemory()
    params = learner.init(jax.random.key(0), SPEC)
    state = learner.initial_state(params, jax.random.key(1), SPEC)
    slopes = jax.grad(lambda p: learner.predict(p, state, jnp.ones((2, 3)))[1].sum())(params)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slopes))


def test_outputs_have_to_be_inputs_again():
    with pytest.raises(UserError, match=r"these tasks have 3 inputs and 2 outputs: choose tasks/remember\.gin"):
        AttentionMemory().init(jax.random.key(0), TaskSpec((3,), 2, length=4))
    with pytest.raises(UserError, match=r"learners\.AttentionMemory\.scale is 0: set it above 0"):
        AttentionMemory(scale=0)
