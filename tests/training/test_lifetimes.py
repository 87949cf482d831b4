"""Lifetimes run on by windows are the same lifetimes as those run at once."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from leaky import Leaky
from memory_task import Lamps
from noise_tasks import NoiseTasks
from stepping import step

from vsml.objectives import Discounted, Improvement, Last, OnlineMean
from vsml.training.lifetimes import TaskLifetimes

LENGTH = 10
TASKS = NoiseTasks(length=LENGTH, batch=2)
PARAMS = Leaky().init(jax.random.key(5), TASKS.spec)
KEY = jax.random.key(1)


# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
WINDOW, WINDOWS = 4, 3  # of 4, 4 and 2 examples


def _lifetimes(objective: Any) -> TaskLifetimes:
    return TaskLifetimes(Leaky(), TASKS, objective, data=())


@functools.partial(jax.jit, static_argnums=0)
def _by_windows(objective: Any, length: Any) -> Any:
    """Loss of every window, the lifetime and the metrics after every window: leaves [windows, ...]."""
    lifetimes = _lifetimes(objective)

    def run(progress: Any, _: Any) -> Any:
        loss, (progress, metrics) = lifetimes.run(PARAMS, progress, WINDOW)
        return progress, (loss, progress, metrics)

    return jax.lax.scan(run, lifetimes.start(PARAMS, KEY, length), length=WINDOWS)[1]


@jax.jit
def _predictions() -> Any:
    """The task, and predictions [T, B, classes] by a plain loop."""
    task_key, state_key = jax.random.split(KEY)
    task = TASKS.sample((), task_key)
    state, logits = Leaky().initial_state(PARAMS, state_key, TASKS.spec), []
    for t in range(LENGTH):
        state, prediction = step(Leaky(), PARAMS, state, task.x[t], task.y[t])
        logits.append(prediction)
    return task, jnp.stack(logits)


def _loss(objective: Any, logits: Any, task: Any) -> Any:
    return objective.loss(task.score(task, logits, ()).loss, task.mask)


OBJECTIVES = [OnlineMean(), Last(3), Discounted(0.8), Discounted(1.3), Improvement(2)]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_the_mean_over_windows_is_the_loss(objective):
    task, logits = _predictions()
    losses, progress, metrics = _by_windows(objective, LENGTH)
    np.testing.assert_allclose(np.mean(losses), _loss(objective, logits, task), rtol=1e-5)
    assert progress.position.tolist() == [4, 8, 12]
    np.testing.assert_array_equal(metrics["loss"], losses)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_shorter_lifetime_is_the_start_of_a_longer_one(objective):
    """7 of 10 examples in two windows: the loss over those alone; what comes behind them counts nothing."""
    task, logits = _predictions()
    losses, _, _ = _by_windows(objective, 7)
    expected = _loss(objective, logits[:7], jax.tree.map(lambda leaf: leaf[:7], task))
    np.testing.assert_allclose(np.mean(losses[:2]), expected, rtol=1e-5)


def test_a_window_by_hand():
    task, logits = jax.device_get(_predictions())
    losses, _, metrics = jax.device_get(_by_windows(OnlineMean(), LENGTH))
    cross_entropy = -np.log(np.sum(task.y * np.exp(logits), axis=-1) / np.sum(np.exp(logits), axis=-1))
    counted = (cross_entropy * task.mask)[4:8]
    np.testing.assert_allclose(losses[1], 3 * counted.sum() / task.mask.sum(), rtol=1e-5)
    right = logits.argmax(-1) == task.y.argmax(-1)
    np.testing.assert_allclose(metrics["accuracy"][1], (right * task.mask)[4:8].sum() / task.mask[4:8].sum(), rtol=1e-6)
    # What was not lived yet is not known.
    curves = np.where(np.arange(LENGTH) < np.array([[4], [8], [LENGTH]]), right.mean(axis=1), np.nan)
    np.testing.assert_allclose(metrics["accuracy_curve"], curves)


def test_whole_lifetimes_agree():
    task, logits = _predictions()
    loss, metrics = jax.jit(_lifetimes(OnlineMean()).loss)(PARAMS, KEY)
    np.testing.assert_allclose(loss, _loss(OnlineMean(), logits, task), rtol=1e-5)
    _, _, by_windows = _by_windows(OnlineMean(), LENGTH)
    np.testing.assert_array_equal(metrics["accuracy_curve"], by_windows["accuracy_curve"][-1])


def test_windows_carry_the_world_of_the_task():
    """Lamps that outputs switch: six steps one by one are the six steps at once."""
    lifetimes = TaskLifetimes(Leaky(), Lamps(length=6, batch=2), OnlineMean(), data=())
    params = {"a": jnp.array(0.9), "w": jnp.array([[-0.6, 0.6]])}

    @jax.jit
    def run() -> Any:
        def window(lifetime: Any, _: Any) -> Any:
            loss, (lifetime, metrics) = lifetimes.run(params, lifetime, 1)
            return lifetime, (loss, lifetime.world, metrics)

        _, by_windows = jax.lax.scan(window, lifetimes.start(params, KEY, jnp.int32(6)), length=6)
        return by_windows, lifetimes.loss(params, KEY)

    (losses, worlds, metrics), (loss, expected) = run()
    np.testing.assert_allclose(np.mean(losses), loss, rtol=1e-5)
    np.testing.assert_array_equal(metrics["reward_curve"][-1], expected["reward_curve"])
    assert set(expected) == {"loss", "reward", "reward_curve"}
    assert len({tuple(world.tolist()) for world in worlds}) > 1, "no lamp was ever switched"
