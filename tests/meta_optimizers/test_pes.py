"""PES is unbiased, truncated ES is not: against exact gradients, on the same problem; both are ES in one window."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dynamics import Dynamics

from vsml.meta_optimizers import ES, PES, EstimatorState, Population, TruncatedES
from vsml.meta_optimizers.es import noise_key

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
THETA = jnp.array([0.5, -0.2])
PAIRS = 4_000


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _lifetimes_of_one_pair(estimator: Any, lifetimes: Any, windows: int) -> Any:
    """The gradients of `PAIRS` populations of one pair, each the mean over one whole lifetime: [PAIRS, 2]."""

    def one(key: Any) -> Any:
        state = EstimatorState(members=estimator.init_members(THETA, key[None], lifetimes))

        def step(state: Any, number: Any) -> Any:
            population = Population(key, jax.random.fold_in(key, number)[None], 1, number)
            gradient, state, _ = estimator.gradient(THETA, state, population, lifetimes)
            return state, gradient

        return jax.lax.scan(step, state, jnp.arange(windows))[1].mean(axis=0)

    return jax.vmap(one)(jax.random.split(jax.random.key(2), PAIRS))


def _scores(estimates: Any, expected: Any) -> Any:
    """Distance of the mean from the expected one in standard errors."""
    error = estimates.std(axis=0) / PAIRS**0.5
    assert (error < 0.15 * np.max(np.abs(expected))).all()
    return np.abs(estimates.mean(axis=0) - expected) / error


@pytest.mark.parametrize(
    ("window", "truncated"),
    [(1, 18.0), (2, 12.0), (3, 6.0)],
)
def test_truncation_turns_the_sign_and_pes_turns_it_back(window, truncated):
    """By hand: dL/dtheta = 3 * 6 - 2 * 15 = -12; without what windows before did to the state, 18 - 6 (n - 1)."""
    problem = Dynamics()
    biased = np.asarray(_lifetimes_of_one_pair(TruncatedES(window=window, sigma=0.3), problem, 6 // window))
    unbiased = np.asarray(_lifetimes_of_one_pair(PES(window=window, sigma=0.3), problem, 6 // window))
    assert (_scores(biased, [truncated, truncated]) < 4).all()
    assert (_scores(unbiased, [-12.0, -12.0]) < 4).all()
    assert (_scores(biased, [-12.0, -12.0]) > 10).all()


def test_pes_is_unbiased_on_a_quadratic_with_random_starts_and_a_falling_sigma():
    """A quadratic smoothed by noise keeps its gradient, which is linear in s_0, whose mean is 0."""
    problem = Dynamics(curvature=1.5, luck=0.5)
    exact = jax.grad(lambda theta: Dynamics(curvature=1.5).loss(theta, jax.random.key(0))[0])(THETA)
    # By hand: s_t = t theta, so -12 + 1.5 theta sum_t t^2, which is 55.
    np.testing.assert_allclose(exact, -12 + 82.5 * THETA, rtol=1e-5)
    estimator = PES(window=2, sigma=optax.linear_schedule(0.4, 0.2, 2))
    assert (_scores(np.asarray(_lifetimes_of_one_pair(estimator, problem, 3)), exact) < 4).all()


def test_the_sum_of_perturbations():
    """Carried on through a lifetime of three windows, 0 before the next; sigma counts at the meta-step of each."""
    estimator, problem = PES(window=2, sigma=lambda step: 0.5 / (1.0 + step)), Dynamics()
    state, sums, directions = EstimatorState(members=estimator.init_members(THETA, _keys(0), problem)), [], []
    for step in range(4):
        gradient, state, _ = _gradient(estimator, problem, THETA, state, step)
        sums.append(state.members.accumulated[0])
        directions.append(gradient)
    drawn = [
        jax.random.normal(jax.random.split(noise_key(_keys(step)[0]), 1)[0], (2,)) * (1.0 + step) / 0.5
        for step in range(4)
    ]
    np.testing.assert_allclose(
        sums, [drawn[0], drawn[0] + drawn[1], drawn[0] + drawn[1] + drawn[2], drawn[3]], rtol=1e-5
    )
    # The first window of 2 steps from 0: L+ - L- = 2 * 3 windows * sum((3 * 2 - 2 * 1) sigma eps).
    eps = drawn[0] * 0.5
    np.testing.assert_allclose(directions[0], drawn[0] * 3 * 4 * 0.5 * eps.sum(), rtol=1e-4)


def _keys(step: int) -> Any:
    return jax.random.split(jax.random.fold_in(jax.random.key(9), step), 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(estimator: Any, problem: Any, theta: Any, state: Any, step: Any) -> Any:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(9), step), state_size(state))
    return estimator.gradient(theta, state, Population(keys[0], keys, len(keys), step), problem)


def state_size(state: Any) -> int:
    """Members of an estimator's state; 3 where it has none."""
    leaves = jax.tree.leaves(state.members)
    return leaves[0].shape[0] if leaves else 3


@pytest.mark.parametrize("part", [PES, TruncatedES])
def test_one_window_is_es(part):
    with jax.enable_x64(True):
        problem, theta = Dynamics(curvature=1.5, luck=0.5), jnp.asarray(THETA, float)
        schedule = optax.linear_schedule(0.4, 0.2, 2)
        truncated, whole = part(window=6, sigma=schedule), ES(sigma=schedule)
        keys = jax.random.split(jax.random.key(4), 3)
        state, empty = EstimatorState(members=truncated.init_members(theta, keys, problem)), EstimatorState()
        for step in range(3):
            one, state, metrics = _gradient(truncated, problem, theta, state, step)
            other, _, expected = _gradient(whole, problem, theta, empty, step)
            np.testing.assert_allclose(one, other, rtol=1e-10)
            np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-10)
            theta = theta - 0.01 * one
