"""The meta-step's bookkeeping: what is not finite is skipped and counted; keys and averages."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from noise_tasks import NoiseTasks

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.learners.vsml import VSML
from vsml.meta_optimizers import EstimatorState, MetaOptimizer
from vsml.metrics import OF_THE_UPDATE
from vsml.objectives import OnlineMean
from vsml.tasks.mixture import Mixture
from vsml.training.meta_step import LOSS_MEMORY, build_meta_step, init_state, member_keys, run_key
from vsml.training.parallel import Parallel

RATE = 0.5


@dataclass(frozen=True)
class Told(MetaOptimizer):
    """Says what it is told: `data` holds each member's loss and the first entry of every leaf of its gradient.

    Its shared state counts, its members' state are their keys.
    """

    def init_shared(self, params: Any, keys: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def init_members(self, params: Any, keys: Any, lifetimes: Any) -> Any:
        return jax.random.key_data(keys)

    def gradient(self, params: Any, state: Any, population: Any, lifetimes: Any) -> Any:
        member = jax.lax.axis_index("devices")
        loss, entry = lifetimes.data[0, member], lifetimes.data[1, member]
        gradient = jax.tree.map(lambda leaf: jnp.zeros_like(leaf).ravel().at[0].set(entry).reshape(leaf.shape), params)
        state = EstimatorState(state.shared + 1, jax.random.key_data(population.keys))
        return gradient, state, {"loss": loss}


EXPERIMENT = Experiment(
    learner=VSML(LSTM(size=2), message_size=2),
    tasks=NoiseTasks(),
    objective=OnlineMean(),
    meta_optimizer=Told(),
    optimizer=optax.sgd(RATE, momentum=0.9),
    steps=1,
    population=2,
    seed=3,
)


@functools.cache
def _compiled() -> tuple[Parallel, Any]:
    parallel = Parallel("shard_map", jax.devices()[:2])
    return parallel, parallel.compile(build_meta_step(EXPERIMENT, 2))


class Run:
    """Meta-steps on two devices with one member each."""

    def __init__(self) -> None:
        self.parallel, self._step = _compiled()
        self.state = self.parallel.replicate(init_state(EXPERIMENT))
        self.estimator = (self.parallel.spread(jnp.zeros((2, 2), jnp.uint32)),)

    def step(self, losses: Any, gradients: Any) -> tuple[Any, dict[str, Any]]:
        """The state afterwards and the metrics, on the host."""
        data = (self.parallel.replicate(jnp.array([losses, gradients], jnp.float32)),)
        running = self._step.start(self.state, self.estimator, data)
        running.step()
        self.state, self.estimator = running.state, running.members
        return jax.device_get(self.state), running.metrics()


@pytest.fixture
def run() -> Run:
    return Run()


def _equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_a_finite_step(run):
    start = jax.device_get(run.state)
    state, metrics = run.step(losses=[1.0, 3.0], gradients=[0.5, 1.5])
    leaves = len(jax.tree.leaves(start.params))
    for old, new in zip(jax.tree.leaves(start.params), jax.tree.leaves(state.params), strict=True):
        expected = old.ravel().copy()
        expected[0] -= RATE * 1.0
        np.testing.assert_allclose(new.ravel(), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], 2.0)
    np.testing.assert_allclose(metrics["gradient_norm"], leaves**0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["update_norm"], RATE * leaves**0.5, rtol=1e-6)
    squares = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(state.params))
    np.testing.assert_allclose(metrics["parameter_norm"], squares**0.5, rtol=1e-6)
    assert (state.step, state.skipped, state.skipped_in_row) == (1, 0, 0)


BAD = {
    "gradient of one member": ([1.0, 1.0], [0.0, np.nan]),
    "gradients that cancel to nothing": ([1.0, 1.0], [np.inf, -np.inf]),
    "loss of one member": ([np.inf, 1.0], [1.0, 1.0]),
    "both": ([np.nan, np.nan], [np.inf, np.inf]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_finite_changes_nothing_but_the_counts(run, case):
    before, _ = run.step(losses=[2.0, 2.0], gradients=[1.0, 1.0])  # so that the momentum is not 0
    assert any(np.any(leaf) for leaf in jax.tree.leaves(before.optimizer))
    state, metrics = run.step(*BAD[case])
    assert _equal(state.params, before.params)
    assert _equal(state.optimizer, before.optimizer)
    assert state.estimator == before.estimator == (1,)
    assert state.smoothed_loss == before.smoothed_loss == 2.0
    assert (state.step, state.skipped, state.skipped_in_row) == (2, 1, 1)
    keys = member_keys(jax.random.fold_in(run_key(EXPERIMENT, 2), 1), 0, 2)
    np.testing.assert_array_equal(run.estimator[0], jax.random.key_data(keys))  # the members go on
    assert (metrics["skipped"], metrics["skipped_in_row"], metrics["update_norm"]) == (1, 1, 0)


def test_the_count_in_a_row_starts_again_and_the_other_does_not(run):
    good, bad = ([1.0, 1.0], [1.0, 1.0]), BAD["both"]
    counts = []
    for losses, gradients in (bad, bad, good, bad, good, good, bad, bad, bad):
        state, _ = run.step(losses, gradients)
        counts.append((int(state.skipped), int(state.skipped_in_row)))
    assert counts == [(1, 1), (2, 2), (2, 0), (3, 1), (3, 0), (3, 0), (4, 1), (5, 2), (6, 3)]
    assert state.step == 9


def test_a_row_long_enough_to_stop_at_waits_to_be_seen(run):
    for _ in range(EXPERIMENT.max_non_finite):
        run.step(*BAD["both"])
    state, _ = run.step([1.0, 1.0], [1.0, 1.0])
    assert state.skipped_in_row == state.skipped == EXPERIMENT.max_non_finite


def test_smoothed_loss_starts_as_a_plain_mean(run):
    losses = np.random.default_rng(0).uniform(0, 4, 60)
    smoothed = [run.step([loss, loss], [0.0, 0.0])[0].smoothed_loss for loss in losses]
    # 1 - 1 / n reaches the memory of 0.98 at n = 50.
    means = np.cumsum(losses) / np.arange(1, 61)
    np.testing.assert_allclose(smoothed[:50], means[:50], rtol=1e-5)
    expected = means[49]
    for n in range(50, 60):
        expected = LOSS_MEMORY * expected + (1 - LOSS_MEMORY) * losses[n]
        np.testing.assert_allclose(smoothed[n], expected, rtol=1e-5)
    assert abs(smoothed[-1] - means[-1]) > 1e-3


def test_skipped_steps_have_no_part_in_the_smoothed_loss(run):
    bad = BAD["both"]
    smoothed = [
        float(run.step(*case)[0].smoothed_loss)
        for case in (bad, bad, ([4.0, 4.0], [0.0, 0.0]), bad, ([2.0, 2.0], [0.0, 0.0]))
    ]
    # Infinite until there is something to average: the best checkpoint is chosen by it.
    assert smoothed == [np.inf, np.inf, 4.0, 4.0, 3.0]


def test_keys_of_the_members(run):
    """They differ by seed, meta-step and member, in the way that DESIGN promises: fold_in of each."""
    for step in range(3):
        run.step([1.0, 1.0], [0.0, 0.0])
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 2), step)
        expected = [jax.random.key_data(jax.random.fold_in(key, member)) for member in range(2)]
        np.testing.assert_array_equal(run.estimator[0], expected)


def test_the_start_is_a_function_of_the_seed():
    one, again = init_state(EXPERIMENT), init_state(EXPERIMENT)
    assert _equal(one, again)
    assert _equal(
        one.params,
        EXPERIMENT.learner.init(jax.random.fold_in(jax.random.key(3), 0), EXPERIMENT.spec),
    )


@dataclass(frozen=True)
class Open(MetaOptimizer):
    """Gives the metrics that it was told to."""

    metrics: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def init_shared(self, params: Any, keys: Any) -> Any:
        return ()

    def init_members(self, params: Any, keys: Any, lifetimes: Any) -> Any:
        return ()

    def gradient(self, params: Any, state: Any, population: Any, lifetimes: Any) -> Any:
        return params, state, {name: jnp.ones(shape) for name, shape in self.metrics}


def _told(metrics: tuple[tuple[str, tuple[int, ...]], ...], tasks: Any = EXPERIMENT.tasks) -> dict[str, Any]:
    experiment = dataclasses.replace(EXPERIMENT, meta_optimizer=Open(metrics=metrics), tasks=tasks)
    data = tuple(() for _ in experiment.shares)
    step = jax.shard_map(
        build_meta_step(experiment, 1),
        mesh=jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("devices",)),
        in_specs=jax.sharding.PartitionSpec(),
        out_specs=jax.sharding.PartitionSpec(),
        check_vma=False,
    )
    return jax.eval_shape(step, init_state(experiment), data, data)[2]


def test_metrics_have_open_names():
    told = _told((("loss", ()), ("surprise", ()), ("reward_curve", (7,))))
    assert set(told) == {"loss", "surprise", "reward_curve", *OF_THE_UPDATE}
    assert told["reward_curve"].shape == (7,)


def test_of_a_mixture_scalars_are_also_told_for_the_whole_and_curves_are_not():
    told = _told((("loss", ()), ("reward_curve", (7,))), Mixture((NoiseTasks(), NoiseTasks()), ("a", "b")))
    assert set(told) == {"loss", "loss/a", "loss/b", "reward_curve/a", "reward_curve/b", *OF_THE_UPDATE}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ((("reward", ()),), "objectives.OnlineMean measures reward: add its `loss`"),
        ((("loss", (3,)),), r"'loss' has the shape \[3\]: give a scalar"),
        ((("loss", ()), ("image", (3, 4))), r"'image' has the shape \[3, 4\]: give a scalar, or a curve \[T\]"),
    ],
)
def test_metrics_that_cannot_be_shown_are_refused(metrics: Any, message: str):
    with pytest.raises(UserError, match=message):
        _told(metrics)
