"""A lifetime: order and timing by hand; segments change neither predictions nor gradients."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.learners.base import Learner
from vsml.learners.unroll import KEPT, auto_segment, unroll
from vsml.tasks.base import TaskSpec

LENGTH = 10


@dataclass(frozen=True)
class LeakySum(Learner):
    """Predicts rate * sum + x, then adds y to a leaking sum: every label matters to every later prediction."""

    def init(self, key: Any, spec: TaskSpec) -> Any:
        return {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}

    def initial_state(self, params: Any, key: Any, spec: TaskSpec) -> Any:
        return jnp.zeros((spec.batch, spec.num_classes))

    def step(self, params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        return jnp.tanh(params["leak"] * state + y), params["rate"] * state + x

    def learned_variables(self, state: Any) -> Any:
        return state


def test_three_examples_by_hand():
    params = {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}
    x, y = jnp.array([0.1, 0.2, 0.3]).reshape(3, 1, 1), jnp.array([1.0, -1.0, 0.5]).reshape(3, 1, 1)
    state, predictions = unroll(LeakySum(), params, jnp.zeros((1, 1)), x, y)
    # States tanh(1) = .7615942, tanh(.3807971 - 1) = -.5505728, tanh(-.2752864 + .5) = .2210061;
    # predictions 0 + .1, 2 * .7615942 + .2, 2 * -.5505728 + .3.
    np.testing.assert_allclose(predictions.ravel(), [0.1, 1.7231884, -0.8011456], rtol=1e-6)
    np.testing.assert_allclose(state.ravel(), [0.2210061], rtol=1e-6)


def _objective(predictions: Any, state: Any) -> Any:
    return jnp.sum(jnp.sin(predictions) * jnp.arange(1.0, LENGTH + 1)[:, None, None]) + jnp.sum(state)


@functools.partial(jax.jit, static_argnums=0)
def _everything(segment: int | None, params: Any, start: Any, x: Any, y: Any) -> Any:
    """Predictions, final state, and the gradient of a function of both in parameters, state and examples."""

    def function(params, start, x, y):
        state, predictions = unroll(LeakySum(), params, start, x, y, segment)
        return _objective(predictions, state), (predictions, state)

    return jax.grad(function, argnums=(0, 1, 2, 3), has_aux=True)(params, start, x, y)


@pytest.mark.parametrize("segment", [1, 3, 5, 7, LENGTH - 1, LENGTH, LENGTH + 5])
def test_segments_change_nothing(segment):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, y = jnp.asarray(rng.standard_normal((2, LENGTH, 2, 3)))
        start = jnp.asarray(rng.standard_normal((2, 3)))
        params = {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}
        whole, segmented = _everything(None, params, start, x, y), _everything(segment, params, start, x, y)
        assert jax.tree.structure(whole) == jax.tree.structure(segmented)
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(segmented), strict=True):
            assert jnp.any(one != 0)
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "segment"), [(1, 1), (2, 1), (10, 3), (100, 10), (500, 22), (2_000, 45)])
def test_auto_segment_is_about_the_square_root_where_states_are_large(length, segment):
    assert auto_segment(length, state_bytes=KEPT) == segment


def test_auto_segment_keeps_all_states_that_fit():
    assert auto_segment(100, state_bytes=KEPT // 100) == 100
    assert auto_segment(100, state_bytes=KEPT // 100 + 1) == 10
