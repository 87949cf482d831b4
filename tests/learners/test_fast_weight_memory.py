"""Fast weight memory: a loop written with numpy, its bound, and mistakes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import step

from vsml.errors import UserError
from vsml.learners.fast_weight_memory import FastWeightMemory
from vsml.tasks.base import TaskSpec

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
SPEC = TaskSpec((2, 2), 3, length=6, batch=2)


def _sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_equals_a_numpy_loop():
    learner = FastWeightMemory(hidden_size=4, memory_size=2, forget_offset=0.7, output_bound=0.8)
    rng = np.random.default_rng(0)
    params = jax.jit(learner.init, static_argnums=1)(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    params["write"] = jax.tree.map(lambda leaf: 8 * leaf, params["write"])  # so that the memory reaches its bound
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, y = rng.standard_normal((6, 2, 2, 2)), np.eye(3)[rng.integers(0, 3, (6, 2))]

    def apply(name, values):
        return values @ p[name]["w"] + p[name]["b"]

    live, norms = jax.jit(functools.partial(step, learner)), []
    state = learner.initial_state(params, jax.random.key(0), SPEC)
    h, c, memory = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 2, 4))  # F: values x keys
    error, label = np.zeros((2, 3)), np.zeros((2, 3))
    for inputs, labels in zip(x, y, strict=True):
        expected = np.zeros((2, 3))
        for s in range(2):
            i, g, f, o = np.split(apply("gates", np.concatenate([inputs[s].ravel(), error[s], label[s], h[s]])), 4)
            c[s] = _sigmoid(f + 0.7) * c[s] + _sigmoid(i) * np.tanh(g)
            h[s] = _sigmoid(o) * np.tanh(c[s])
            said = apply("write", h[s])
            k1, k2, v = np.split(np.tanh(said[:6]), 3)
            key = np.outer(k1, k2).ravel()
            memory[s] += _sigmoid(said[6]) * np.outer(v - memory[s] @ key, key)
            norms.append(np.linalg.norm(memory[s]))
            memory[s] /= max(1.0, norms[-1])
            q1, q2 = np.split(np.tanh(apply("ask", h[s])), 2)
            n = memory[s] @ np.outer(q1, q2).ravel()
            n = (n - n.mean()) / np.sqrt(n.var() + 1e-5)
            logits = 0.8 * np.tanh(apply("output", h[s] + apply("read", n)) / 0.8)
            error[s], label[s] = np.exp(logits) / np.exp(logits).sum() - labels[s], labels[s]
            expected[s] = logits
        state, logits = live(params, state, jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.float32))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.fast.swapaxes(1, 2), memory, rtol=1e-5, atol=1e-5)
    assert min(norms) < 1 < max(norms)


@pytest.mark.parametrize("options", [{"hidden_size": 0}, {"memory_size": 0}, {"output_bound": 0.0}], ids=str)
def test_refuses_sizes_below_one(options: dict[str, Any]):
    with pytest.raises(UserError, match=rf"learners\.FastWeightMemory\.{next(iter(options))} is 0"):
        FastWeightMemory(**options)
