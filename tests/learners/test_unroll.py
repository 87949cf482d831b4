"""A lifetime: order and timing by hand; segments change neither predictions nor gradients."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from memory_task import Lamp
from stepping import live

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
        return jnp.zeros((spec.batch, spec.num_outputs))

    def predict(self, params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        return state, params["rate"] * state + x

    def learn(self, params: Any, state: Any, x: Any, feedback: Any) -> Any:
        return jnp.tanh(params["leak"] * state + feedback.target)

    def learned_variables(self, state: Any) -> Any:
        return state


def test_three_examples_by_hand():
    params = {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}
    x, y = jnp.array([0.1, 0.2, 0.3]).reshape(3, 1, 1), jnp.array([1.0, -1.0, 0.5]).reshape(3, 1, 1)
    state, _, predictions, _, _ = live(LeakySum(), params, jnp.zeros((1, 1)), x, y)
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
        state, _, predictions, _, _ = live(LeakySum(), params, start, x, y, segment=segment)
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


def test_a_function_of_the_states_is_stacked():
    params = {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}
    x, y = jnp.zeros((4, 1, 1)), jnp.array([1.0, -1.0, 0.5, 0.0]).reshape(4, 1, 1)
    whole = live(LeakySum(), params, jnp.zeros((1, 1)), x, y, observe=lambda predicted, after: (predicted, after))
    before, after = whole.observed
    np.testing.assert_allclose(after.ravel()[:3], [0.7615942, -0.5505728, 0.2210061], rtol=1e-6)
    np.testing.assert_array_equal(before[1:], after[:-1])
    pieces = live(LeakySum(), params, jnp.zeros((1, 1)), x, y, observe=lambda _, after: 2 * after, segment=3)
    np.testing.assert_array_equal(pieces.observed, 2 * after)


def test_learning_switched_off_predicts_from_one_state():
    params = {"rate": jnp.array(2.0), "leak": jnp.array(0.5)}
    x, y = jnp.arange(3.0).reshape(3, 1, 1), jnp.ones((3, 1, 1))
    frozen = live(LeakySum(), params, jnp.full((1, 1), 0.25), x, y, learns=False)
    np.testing.assert_allclose(frozen.outputs.ravel(), [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(frozen.state, [[0.25]])


def test_a_world_changes_with_the_outputs_by_hand():
    """Outputs (0, rate s + lit): the lamp is switched whenever that is positive; s is a leaking sum of rewards."""
    params = {"rate": jnp.array(-1.0), "leak": jnp.array(1.0)}
    task = Lamp(lit=jnp.ones(1), noise=jnp.zeros((4, 1)), weight=jnp.ones((4, 1)))
    lived = unroll(Rewarded(), params, jnp.zeros(1), task)
    # s 0: output 1 > 0 switches off, reward 0, s 0; output 0 is not above 0: off, reward 0; and so on.
    np.testing.assert_array_equal(lived.outputs[:, 0, 1], [1, 0, 0, 0])
    np.testing.assert_array_equal(lived.outcomes.ravel(), [0, 0, 0, 0])
    task = task._replace(lit=jnp.zeros(1))
    lived = unroll(Rewarded(), {"rate": jnp.array(-1.0), "leak": jnp.array(1.0)}, jnp.full(1, -1.0), task)
    # s -1: output 1, switched on, reward 1, s 0; output 1, off, 0, s 0; output 0: off, 0, s 0; off.
    np.testing.assert_array_equal(lived.outputs[:, 0, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(lived.outcomes.ravel(), [1, 0, 0, 0])
    assert lived.world == 0
    # A window starts from the world that it is given.
    window = unroll(Rewarded(), params, jnp.zeros(1), task, world=jnp.ones(1), steps=task.steps[2:])
    np.testing.assert_array_equal(window.outputs[:, 0, 1], [1, 0])


@dataclass(frozen=True)
class Rewarded(LeakySum):
    """Outputs (0, rate * sum + x), and sums up rewards."""

    def predict(self, params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        value = params["rate"] * state[:, None] + x
        return state, jnp.concatenate([jnp.zeros_like(value), value], axis=1)

    def learn(self, params: Any, state: Any, x: Any, feedback: Any) -> Any:
        return params["leak"] * state + feedback.reward
