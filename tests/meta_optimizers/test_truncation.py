"""Windows of lifetimes: where members stand, when lifetimes end, how long they are; truncated BPTT by hand."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dynamics import Dynamics
from leaky import Leaky
from noise_tasks import NoiseTasks
from stepping import step

from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.meta_optimizers import BPTT, PES, EstimatorState, Population, TruncatedBPTT, TruncatedES
from vsml.objectives import OnlineMean, PredictionObjective
from vsml.training.lifetimes import TaskLifetimes

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
THETA = jnp.array([0.5, -0.2])


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _steps(estimator: Any, lifetimes: Any, steps: int, members: int, params: Any) -> Any:
    """Meta-steps without updates: gradients, members' states after every step, and metrics, leaves [steps, ...]."""
    keys = jax.random.split(jax.random.key(7), members)
    state = EstimatorState(members=estimator.init_members(params, keys, lifetimes))

    def step(state: Any, number: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(8), number)
        population = Population(key, jax.random.split(key, members), members, number)
        gradient, state, metrics = estimator.gradient(params, state, population, lifetimes)
        return state, (gradient, state.members, metrics)

    return jax.lax.scan(step, state, jnp.arange(steps))[1]


def test_members_are_staggered_and_start_again_at_the_end():
    """Three windows of 2: first lifetimes of 0, 0, 1 and 2 windows (floor(i 3 / 4)), whole ones of 3 afterwards."""
    _, progress, _ = _steps(TruncatedBPTT(window=2), Dynamics(), 5, 4, THETA)
    assert progress.position.T.tolist() == [[2, 4, 6, 2, 4], [2, 4, 6, 2, 4], [2, 2, 4, 6, 2], [2, 4, 2, 4, 6]]
    assert progress.length[:3].T.tolist() == [[6, 6, 6], [6, 6, 6], [2, 6, 6], [4, 4, 6]]
    # A key per lifetime: member 3 keeps its first one for two windows, its second one for three.
    keys = progress.key[:, 3]
    assert (keys[0] == keys[1]).all()
    assert (keys[2] == keys[3]).all()
    assert (keys[2] == keys[4]).all()
    assert (keys[1] != keys[2]).any()
    # After n steps from 0 the state is n theta.
    np.testing.assert_allclose(progress.state, progress.position[..., None] * THETA.reshape(1, 1, 2), rtol=1e-6)


@pytest.mark.parametrize(("window", "expected"), [(1, 18.0), (2, 12.0), (3, 6.0), (6, -12.0), (100, -12.0)])
def test_truncated_bptt_by_hand(window, expected):
    """3 * 6 - 2 * 6 (n - 1) / 2: short windows see the cost, the whole lifetime sees that it pays."""
    gradient, _, _ = _steps(TruncatedBPTT(window=window), Dynamics(), 1, 1, THETA)
    np.testing.assert_allclose(gradient[0], [expected, expected], rtol=1e-6)


def test_a_last_window_that_is_cut_short():
    """Windows of 4 and 2: 2 (3 * 4 - 2 * 6) = 0 and 2 (3 * 2 - 2 * 1) = 8, in the mean 4; and again from the start."""
    gradient, progress, _ = _steps(TruncatedBPTT(window=4), Dynamics(luck=1.0), 2, 4, THETA)
    assert progress.position.T.tolist() == [[4, 8], [4, 8], [4, 4], [4, 4]]
    # Members 2 and 3 start with one window of 4 examples, a whole lifetime of theirs: 3 * 4 - 2 * 6 = 0.
    np.testing.assert_allclose(gradient[:, 0], [0.0, (8 + 8 + 0 + 0) / 4], rtol=1e-5, atol=1e-5)


def test_log_uniform_lengths():
    """From 1..7 length n has the probability log2((n + 1) / n) / 3, so that 1, 2..3 and 4..7 are equally likely."""
    draws = 20_000
    estimator, lifetimes = PES(min_length=1), Dynamics(length=7)
    lengths = jax.vmap(lambda key: estimator._new_length(key, lifetimes))(jax.random.split(jax.random.key(0), draws))
    share = np.bincount(lengths, minlength=8)[1:] / draws
    expected = np.log2([2, 3 / 2, 4 / 3, 5 / 4, 6 / 5, 7 / 6, 8 / 7]) / 3
    assert len(share) == 7
    np.testing.assert_array_less(np.abs(share - expected), 4 * np.sqrt(expected / draws))


def test_every_lifetime_has_a_length_of_its_own():
    _, progress, _ = _steps(TruncatedBPTT(window=2, min_length=3), Dynamics(length=40), 40, 4, THETA)
    started = (progress.position[1:] == 2) & (progress.key[1:] != progress.key[:-1]).any(axis=-1)
    lengths = progress.length[1:][started]
    assert len(lengths) > 6
    assert len(np.unique(lengths)) > 3
    assert lengths.min() >= 3
    assert lengths.max() <= 40


@dataclass(frozen=True)
class Breaks(Dynamics):
    """A lifetime breaks down in its second window of 2."""

    def run(self, params: Any, progress: Any, window: int, segment: int | None = None) -> Any:
        loss, (after, metrics) = super().run(params, progress, window, segment)
        loss = jnp.where(progress.position == 2, jnp.nan, loss)
        return loss, (after, {**metrics, "loss": loss})


@pytest.mark.parametrize("estimator", [TruncatedBPTT(window=2), PES(window=2)], ids=["truncated_bptt", "pes"])
def test_a_lifetime_that_breaks_down_is_over(estimator):
    _, members, metrics = _steps(estimator, Breaks(), 4, 1, THETA)
    progress = members.lifetime if isinstance(estimator, PES) else members
    assert progress.position[:, 0].tolist() == [2, 6, 2, 6]
    assert np.isfinite(metrics["loss"]).tolist() == [True, False, True, False]


# ---------------------------------------------------------------------------------- against BPTT and an explicit loop

LENGTH = 10
LEAKY = TaskLifetimes(Leaky(), NoiseTasks(length=LENGTH), OnlineMean(), data=())
PARAMS = Leaky().init(jax.random.key(5), LEAKY.tasks.spec)


def _close(one: Any, other: Any, tolerance: float = 1e-6) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_one_window_is_bptt():
    truncated, _, metrics = _steps(TruncatedBPTT(window=LENGTH, clip=0.1), LEAKY, 3, 4, PARAMS)
    whole, _, expected = _steps(BPTT(clip=0.1, segment=LENGTH), LEAKY, 3, 4, PARAMS)
    _close(truncated, whole)
    _close(metrics, expected)


def test_equals_an_explicit_loop_that_stops_gradients():
    """Member 0, whose whole lifetime starts at once: windows of 4, 4 and 2 examples."""

    @jax.jit
    def loop(params: Any, key: Any) -> Any:
        task_key, state_key = jax.random.split(key)
        task: Any = LEAKY.tasks.sample((), task_key)

        def losses(params: Any) -> Any:
            state, by_window = Leaky().initial_state(params, state_key, LEAKY.tasks.spec), [jnp.zeros(())] * 3
            for t in range(LENGTH):
                if t in (4, 8):
                    state = jax.lax.stop_gradient(state)
                state, logits = step(Leaky(), params, state, task.x[t], task.y[t])
                cross_entropy = -jnp.sum(task.y[t] * jax.nn.log_softmax(logits), axis=-1)
                by_window[t // 4] += 3 * jnp.sum(cross_entropy * task.mask[t]) / jnp.sum(task.mask)
            return jnp.stack(by_window)

        return losses(params), jax.jacobian(losses)(params)

    @jax.jit
    def windows(params: Any, keys: Any) -> Any:
        estimator = TruncatedBPTT(window=4, segment=2)
        state, out = EstimatorState(members=estimator.init_members(params, keys[:1], LEAKY)), []

        def step(state: Any, key: Any) -> Any:
            gradient, state, metrics = estimator.gradient(params, state, Population(key, key[None], 1), LEAKY)
            return state, (metrics["loss"], gradient)

        state, out = jax.lax.scan(step, state, keys)
        return out

    keys = jax.random.split(jax.random.key(3), 3)
    _close(windows(PARAMS, keys), loop(PARAMS, keys[0]), 1e-5)


# ------------------------------------------------------------------------------------------------------------ refusals


@dataclass(frozen=True)
class Worst(PredictionObjective):
    """The largest loss: no sum."""

    def loss(self, losses: Any, weight: Any) -> Any:
        return jnp.max(losses)


@pytest.mark.parametrize("estimator", [PES(), TruncatedES(), TruncatedBPTT()], ids=lambda e: type(e).__name__)
def test_an_objective_that_is_no_sum_is_refused_with_both_names(estimator):
    experiment = functools.partial(Experiment, Leaky(), NoiseTasks(), Worst(), optimizer=optax.sgd(1.0), steps=1)
    experiment(meta_optimizer=BPTT(), population=1)
    name = type(estimator).__name__
    with pytest.raises(UserError, match=rf"^meta_optimizers\.{name} cuts .* objectives\.Worst is not a weighted sum"):
        experiment(meta_optimizer=estimator, population=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PES(window=0), r"meta_optimizers\.PES\.window is 0: set it to 1 or more$"),
        (lambda: TruncatedES(min_length=0), r"TruncatedES\.min_length is 0: set it to 1 or more, or None$"),
        (lambda: PES(sigma=0.0), r"meta_optimizers\.PES\.sigma is 0\.0: set it above 0"),
        (lambda: TruncatedBPTT(segment=0), r"TruncatedBPTT\.segment is 0"),
        (lambda: TruncatedBPTT(clip=-1.0), r"TruncatedBPTT\.clip is -1\.0"),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
