"""What holds for every estimator: the same numbers on any devices, in any chunks, and after a resume."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from departures import assert_stays_on_devices
from leaky import Leaky
from noise_tasks import NoiseTasks
from runs import TINY, assert_equal

from vsml import config as configs
from vsml.experiment import Experiment
from vsml.meta_optimizers import BPTT, ES, PES, Evosax, MetaOptimizer, TruncatedBPTT, TruncatedES
from vsml.objectives import OnlineMean
from vsml.runs.checkpoints import Checkpoints
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.parallel import Parallel

STEPS, POPULATION = 12, 4
WITH_EVOSAX = importlib.util.find_spec("evosax") is not None
# A last window that is cut short; estimators with no choice of their own are tested in test_parallel.py.
ESTIMATORS: dict[str, MetaOptimizer] = {
    "es_centred_rank": ES(sigma=optax.linear_schedule(0.3, 0.2, 5), shaping="centred_rank"),
    "truncated_bptt": TruncatedBPTT(window=4, min_length=3),
    "truncated_es": TruncatedES(window=4, sigma=0.3),
    "pes": PES(window=4, sigma=0.3, min_length=3),
    **({"evosax": Evosax(sigma=0.3, lifetimes=2)} if WITH_EVOSAX else {}),
}


@pytest.fixture(autouse=True)
def _evosax_promotes_ranks(request: Any) -> Iterator[None]:
    allow = "name" in request.fixturenames and request.getfixturevalue("name") == "evosax"
    with jax.numpy_rank_promotion("allow") if allow else nullcontext():
        yield


pytestmark = [
    pytest.mark.usefixtures("compiled"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what evosax imports
]


def _experiment(estimator: MetaOptimizer) -> Experiment:
    """SGD, whose steps grow with the gradient: Adam would hide a gradient summed over devices instead of averaged."""
    rate = 1.0 if isinstance(estimator, Evosax) else 0.1
    tasks = NoiseTasks(length=10)
    return Experiment(Leaky(), tasks, OnlineMean(), estimator, optax.sgd(rate), STEPS, POPULATION)


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


class Run:
    """Meta-steps of one experiment on some devices."""

    def __init__(self, estimator: MetaOptimizer, kind: Any, num_devices: int):
        self.parallel = Parallel(kind, jax.devices()[:num_devices])
        experiment = _experiment(estimator)
        self.step = self.parallel.compile(build_meta_step(experiment, num_devices))
        state = jax.jit(lambda: init_state(experiment))()
        members = jax.jit(lambda params: init_estimator(experiment, params, ((),)))(state.params)
        self.start = self.parallel.replicate(state), self.parallel.spread(members)

    def go(self, whole: Any, steps: int) -> tuple[Any, list[float]]:
        """State and members afterwards, and the loss of every step; what comes in stays usable."""
        state, members = _copied(whole)
        running = self.step.start(state, members, ((),))
        losses = []
        for _ in range(steps):
            with jax.transfer_guard_host_to_device("disallow" if losses else "allow"):  # tracing moves constants
                running.step()
            losses.append(float(running.metrics()["loss"]))
        return (running.state, running.members), losses


@functools.cache
def _run(name: str) -> tuple[Run, Any, list[float]]:
    """On four devices."""
    run = Run(ESTIMATORS[name], "pmap", 4)
    return run, *run.go(run.start, STEPS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_devices_and_chunks_change_nothing(name):
    _, expected, expected_losses = _run(name)
    together = Run(replace(ESTIMATORS[name], chunk=3), "shard_map", 1)
    after, losses = together.go(together.start, STEPS)
    whole, before, expected = jax.device_get((after, together.start, expected))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole[0].params, before[0].params)
    assert min(jax.tree.leaves(moved)) > 1e-3  # enough to see a sum in the place of a mean
    assert np.isfinite(losses).all()
    assert_stays_on_devices(together.step.program)


def _without_params(whole: Any) -> Any:
    return whole[0]._replace(params=()), whole[1]


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name in ("truncated_bptt", "pes", "evosax")])
def test_a_checkpoint_holds_all_that_an_estimator_carries(name, tmp_path: Path):
    run, expected, losses = _run(name)
    half, first = run.go(run.start, 5)
    with closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoints.save(5, half[0].params, _without_params(half), {}, 0.0)
        checkpoints.wait()
        params, (state, members), _ = checkpoints.restore(5, half[0].params, _without_params(run.start))
    state = state._replace(params=run.parallel.replicate(params))
    resumed, second = run.go((state, members), STEPS - 5)
    assert [*first, *second] == losses
    assert_equal(jax.device_get(resumed), jax.device_get(expected))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["meta_optimizers/pes.gin", "meta_optimizers.PES.window=2"], PES(window=2)),
        (["meta_optimizers/truncated_es.gin", "meta_optimizers.TruncatedES.min_length=2"], TruncatedES(min_length=2)),
        (["meta_optimizers/truncated_bptt.gin", "meta_optimizers.TruncatedBPTT.clip=1.0"], TruncatedBPTT(clip=1.0)),
        (["meta_optimizers/bptt.gin"], BPTT(clip=1.0)),
        (["meta_optimizers/es.gin", "meta_optimizers.ES.shaping=centred_rank"], ES(shaping="centred_rank")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_gin_files_select_them(overrides, expected):
    assert configs.load(TINY[0], [*TINY[1:], "STEPS=2", *overrides]).build().meta_optimizer == expected


def test_sigma_can_be_a_schedule_in_gin():
    schedule = ["meta_optimizers.PES.sigma=@optax.linear_schedule", "optax.linear_schedule.init_value=0.4"]
    numbers = ["optax.linear_schedule.end_value=0.2", "optax.linear_schedule.transition_steps=2"]
    overrides = ["meta_optimizers/pes.gin", *schedule, *numbers]
    estimator = configs.load(TINY[0], [*TINY[1:], "STEPS=2", *overrides]).build().meta_optimizer
    assert isinstance(estimator, PES)
    sigma: Any = estimator.sigma
    np.testing.assert_allclose([sigma(step) for step in range(4)], [0.4, 0.3, 0.2, 0.2], rtol=1e-6)


@pytest.mark.skipif(not WITH_EVOSAX, reason="evosax, an extra, is not installed")
def test_the_gin_file_of_evosax_sets_its_optimizer():
    experiment = configs.load(TINY[0], [*TINY[1:], "STEPS=2", "meta_optimizers/evosax.gin"]).build()
    assert experiment.meta_optimizer == Evosax()
    updates: Any = experiment.optimizer.update(jnp.array([2.0]), experiment.optimizer.init(jnp.array([0.0])))[0]
    np.testing.assert_allclose(updates, [-2.0])
