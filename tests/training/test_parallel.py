"""One, two and four devices, pmap and shard_map: the same numbers. The devices here are virtual ones of a CPU."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from departures import assert_stays_on_devices
from noise_tasks import NoiseTasks
from runs import assert_equal

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.learners import BodiesSynapses
from vsml.learners.vsml import VSML
from vsml.meta_optimizers import BPTT, ES, MetaOptimizer
from vsml.objectives import OnlineMean, Remember
from vsml.tasks import Remember as RememberTasks
from vsml.training.lifetimes import TaskLifetimes
from vsml.training.meta_step import build_meta_step, init_state, member_keys, run_key
from vsml.training.parallel import Parallel, choose_devices, device_index, mean_over_devices

KINDS = ("pmap", "shard_map")
STEPS, POPULATION = 20, 8
RATES = {"bptt": 2.0, "es": 0.5}
LEAST = {"bptt": 1e-3, "es": 1e-3, "remember": 1e-4}  # what every parameter moves; with larger steps memory is chaotic


def _experiment(meta_optimizer: MetaOptimizer, rate: float) -> Experiment:
    """SGD, whose steps grow with the gradient: Adam would hide a gradient summed over devices instead of averaged."""
    return Experiment(
        learner=VSML(
            LSTM(size=4, gate_offset=1.0),
            message_size=3,
            micro_ticks=1,
            reduction="sqrt",
            recirculate=True,  # so that backward messages matter to a single layer
            random_share=0.0,  # random draws are slow to compile; those of the tasks show the keys
        ),
        tasks=NoiseTasks(length=4),
        objective=OnlineMean(),
        meta_optimizer=meta_optimizer,
        optimizer=optax.sgd(rate),
        steps=STEPS,
        population=POPULATION,
    )


EXPERIMENTS = {
    "bptt": _experiment(BPTT(), RATES["bptt"]),
    "es": _experiment(ES(sigma=0.2), RATES["es"]),
    "remember": replace(
        _experiment(BPTT(), 0.5),
        learner=BodiesSynapses(hidden=(), visible=True, gate=1.0),
        tasks=RememberTasks(size=4, snippets=2, batch=2),
        objective=Remember(),
    ),
}


@functools.cache
def _start(name: str) -> Any:
    state = jax.device_get(jax.jit(lambda: init_state(EXPERIMENTS[name]))())
    # Biases away from 0, so that all meta-parameters matter.
    return state._replace(params=jax.tree.map(lambda leaf: leaf + 0.3, state.params))


@functools.cache
def _trained(name: str, kind: Any, num_devices: int) -> tuple[Any, Any]:
    """State and loss after every one of 20 meta-steps, both on the host."""
    experiment = EXPERIMENTS[name]
    parallel = Parallel(kind, jax.devices()[:num_devices])
    estimator = ((),)  # BPTT and ES carry nothing from one meta-step to the next
    step, losses = parallel.compile(build_meta_step(experiment, num_devices)), []
    running = step.start(parallel.replicate(_start(name)), estimator, ((),))
    for _ in range(STEPS):
        with jax.transfer_guard_host_to_device("disallow" if losses else "allow"):  # while it is traced, constants move
            running.step()
        losses.append(running.metrics()["loss"])
    assert_stays_on_devices(step.program)
    return jax.device_get(running.state), np.array(losses)


def _assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "kind", "num_devices"),
    [
        ("bptt", "pmap", 2),
        ("bptt", "pmap", 4),
        ("bptt", "shard_map", 1),
        ("bptt", "shard_map", 4),
        ("es", "pmap", 4),
        ("es", "shard_map", 2),
        ("remember", "shard_map", 2),
        ("remember", "pmap", 4),
    ],
)
def test_devices_and_kind_change_nothing(name, kind, num_devices):
    expected, expected_losses = _trained(name, "pmap", 1)
    state, losses = _trained(name, kind, num_devices)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5, atol=1e-5)
    _assert_close(state, expected)
    assert state.step == STEPS
    assert state.skipped == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_steps_are_large_enough_to_see_a_wrong_mean(name):
    """Were the gradient summed over 4 devices or over the 8 members, parameters would differ by more than 1e-5."""
    moved = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), _trained(name, "pmap", 1)[0].params, _start(name).params)
    if name == "remember":
        assert moved["synapse"].pop("start") == 0  # what a stream begins with is not reached by short-term backprop
    assert min(jax.tree.leaves(moved)) > LEAST[name]
    losses = _trained(name, "pmap", 1)[1]
    assert np.std(losses) > 1e-3


def test_equals_a_plain_loop_over_members():
    """Key of a meta-step, keys of the members, mean gradient and plain SGD, written out."""
    experiment = EXPERIMENTS["bptt"]
    (share,) = experiment.shares
    lifetimes = TaskLifetimes(experiment.learner, share.tasks, experiment.objective, ())

    @jax.jit
    def gradient(params, step, member):
        stream = jax.random.fold_in(jax.random.key(experiment.seed), 2)
        key = jax.random.fold_in(jax.random.fold_in(stream, step), member)
        return jax.value_and_grad(lambda p: lifetimes.loss(p, key)[0])(params)

    params, losses = _start("bptt").params, []
    for step in range(STEPS):
        each = [gradient(params, step, member) for member in range(POPULATION)]
        losses.append(np.mean([loss for loss, _ in each]))
        params = jax.tree.map(lambda p, *gs: p - RATES["bptt"] * sum(gs) / POPULATION, params, *(g for _, g in each))
    state, actual_losses = _trained("bptt", "pmap", 4)
    np.testing.assert_allclose(actual_losses, losses, rtol=1e-5, atol=1e-5)
    _assert_close(state.params, params)


# ------------------------------------------------------------------------------------------------- trees and keys


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_what_comes_out_is_global_and_as_it_went_in(kind, num_devices):
    parallel = Parallel(kind, jax.devices()[:num_devices])
    whole = parallel.replicate(
        {"scalar": jnp.float32(3.0), "count": jnp.int32(7), "array": jnp.arange(6.0).reshape(2, 3)}
    )
    members = parallel.spread({"one": jnp.arange(8), "two": jnp.arange(16.0).reshape(8, 2)})
    expected = jax.device_get((whole, members))
    before = jax.tree.map(jnp.copy, (whole, members))
    running = parallel.compile(lambda state, members, data: (state, members, state)).start(whole, members, ())
    for _ in range(2):  # not stepped yet, and stepped once
        out = running.state, running.members
        for leaf, form in zip(jax.tree.leaves(out), jax.tree.leaves(before), strict=True):
            assert leaf.sharding.is_equivalent_to(form.sharding, leaf.ndim)
            assert leaf.dtype == form.dtype
        assert_equal(jax.device_get(out), expected)
        running.step()
    assert_equal(running.metrics(), expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_outlives_the_next_step(kind):
    parallel = Parallel(kind, jax.devices()[:2])
    step = parallel.compile(lambda state, members, data: (state + 1, members + data, ()))
    state, members = parallel.replicate(jnp.zeros(3)), parallel.spread(jnp.zeros(4))
    running = step.start(state, members, parallel.replicate(jnp.ones(())))
    running.step()
    kept = running.snapshot()
    running.step()
    assert_equal(jax.device_get(kept), (np.ones(3, np.float32), np.ones(4, np.float32)))
    assert_equal(jax.device_get(running.members), np.full(4, 2, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_what_a_device_sees(kind, num_devices):
    """Its block of members, whole replicated trees, its own index; means are over devices."""
    parallel = Parallel(kind, jax.devices()[:num_devices])

    def function(state, members, data):
        index = device_index()
        return state + mean_over_devices(members.sum(axis=0)), members + 100 * index + data, mean_over_devices(index)

    state = parallel.replicate(jnp.array([10.0, 20.0]))
    members = parallel.spread(jnp.arange(16.0).reshape(8, 2))
    running = parallel.compile(function).start(state, members, parallel.replicate(jnp.array([[0.25, 0.5]])))
    running.step()

    blocks = np.arange(16.0).reshape(8, 2)
    np.testing.assert_allclose(running.state, np.array([10, 20]) + blocks.sum(axis=0) / num_devices)
    owner = np.repeat(np.arange(num_devices), 8 // num_devices)[:, None]
    np.testing.assert_allclose(running.members, blocks + 100 * owner + np.array([[0.25, 0.5]]))
    np.testing.assert_allclose(running.metrics(), (num_devices - 1) / 2)


def test_member_keys_depend_on_the_index_alone():
    key = run_key(EXPERIMENTS["es"], 2)
    everyone = jax.random.key_data(member_keys(key, 0, 8))
    assert len(np.unique(everyone, axis=0)) == 8
    for members in (1, 2, 4):
        parts = [jax.random.key_data(member_keys(key, first, members)) for first in range(0, 8, members)]
        np.testing.assert_array_equal(np.concatenate(parts), everyone)
    np.testing.assert_array_equal(everyone[5], jax.random.key_data(jax.random.fold_in(key, 5)))


# -------------------------------------------------------------------------------------------------- which devices


@pytest.mark.parametrize(("population", "expected"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (7, 1), (8, 4), (10, 2)])
def test_a_cpu_takes_the_largest_number_that_divides(population, expected):
    assert choose_devices(population, None) == jax.devices()[:expected]


@pytest.mark.parametrize("requested", [1, 2, 4])
def test_as_many_as_requested(requested):
    assert choose_devices(8, requested) == jax.devices()[:requested]


@pytest.mark.parametrize(
    ("population", "requested", "fit"), [(6, 4, "4 or 8"), (3, 4, "4"), (9, 2, "8 or 10"), (1, 3, "3")]
)
def test_a_population_that_does_not_divide_is_refused_with_the_numbers(population, requested, fit):
    message = rf"population of {population} cannot be spread evenly over {requested} devices: set POPULATION={fit},"
    with pytest.raises(UserError, match=message):
        choose_devices(population, requested)


@pytest.mark.parametrize("requested", [0, -1, 5])
def test_devices_that_are_not_there_are_refused(requested):
    with pytest.raises(UserError, match=rf"--devices {requested}: this machine has 4 cpu device\(s\); ask for 1\.\.4"):
        choose_devices(8, requested)
