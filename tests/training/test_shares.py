"""A population that lives on distributions of several shapes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from noise_tasks import NoiseTasks
from runs import NO_EVALUATORS, TINY, call, events, final_state, metrics

from vsml.cells import LSTM
from vsml.experiment import Experiment
from vsml.learners.vsml import VSML
from vsml.meta_optimizers import BPTT
from vsml.objectives import OnlineMean
from vsml.tasks import Mixture
from vsml.training.lifetimes import TaskLifetimes
from vsml.training.meta_step import build_meta_step, init_state
from vsml.training.parallel import Parallel

RATE, STEPS = 2.0, 2
TASKS = (NoiseTasks(num_inputs=3, num_classes=2, length=4), NoiseTasks(num_inputs=5, num_classes=3, length=6))
EXPERIMENT = Experiment(
    learner=VSML(LSTM(size=4, gate_offset=1.0), message_size=3, micro_ticks=1, reduction="sqrt", random_share=0.0),
    tasks=Mixture(TASKS, ("small", "large"), (1.0, 2.0)),
    objective=OnlineMean(),
    meta_optimizer=BPTT(),
    optimizer=optax.sgd(RATE),
    steps=STEPS,
    population=6,
)


def _trained(num_devices: int) -> tuple[Any, dict[str, Any]]:
    parallel = Parallel("shard_map", jax.devices()[:num_devices])
    step = parallel.compile(build_meta_step(EXPERIMENT, num_devices))
    running = step.start(parallel.replicate(init_state(EXPERIMENT)), ((), ()), ((), ()))
    for _ in range(STEPS):
        running.step()
    return jax.device_get(running.state.params), running.metrics()


def test_equals_a_plain_loop_over_members():
    """Members 0 and 1 live on small tasks, 2 to 5 on large ones; every member counts alike."""
    gradients = [
        jax.jit(
            jax.value_and_grad(TaskLifetimes(EXPERIMENT.learner, tasks, EXPERIMENT.objective, ()).loss, has_aux=True)
        )
        for tasks in TASKS
    ]
    params, losses = jax.device_get(init_state(EXPERIMENT).params), []
    for step in range(STEPS):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 2), step)
        each = [gradients[member > 1](params, jax.random.fold_in(key, member)) for member in range(6)]
        losses = [loss for (loss, _), _ in each]
        params = jax.tree.map(lambda p, *gs: p - RATE * sum(gs) / 6, params, *(g for _, g in each))
    for num_devices in (1, 2):
        actual, told = _trained(num_devices)
        for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(told["loss"], np.mean(losses), rtol=1e-5)
        np.testing.assert_allclose(told["loss/small"], np.mean(losses[:2]), rtol=1e-5)
        np.testing.assert_allclose(told["loss/large"], np.mean(losses[2:]), rtol=1e-5)
        assert told["accuracy_curve/small"].shape == (4,)
        assert told["accuracy_curve/large"].shape == (6,)


MIXTURE = ("tasks/mixture.gin", "mnist/tasks.Classification.source=@sources.Random", "sources.Random.num_examples=30")
"""With noise in the place of MNIST, of its shape."""


def _arguments() -> list[str]:
    return [word for word in TINY if "tasks.Classification" not in word and "eval" not in word]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("estimator", ["bptt", "pes"])
def test_three_shapes_in_one_run(tmp_path: Path, capfd: pytest.CaptureFixture[str], estimator: str):
    arguments = [*_arguments(), *MIXTURE, *NO_EVALUATORS, f"meta_optimizers/{estimator}.gin", "POPULATION=6"]
    outcome = call(capfd, "train", *arguments, "STEPS=2", "--run_dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "2 x 5 examples of digits + 2 x 5 examples of mnist + 2 x 5 examples of iris" in outcome.err
    (entry,) = metrics(tmp_path)
    names = ("digits", "mnist", "iris")
    assert np.isclose(entry["loss"], np.mean([entry[f"loss/{name}"] for name in names]))
    assert np.isclose(entry["accuracy"], np.mean([entry[f"accuracy/{name}"] for name in names]))
    assert {f"meta_train/loss/{name}" for name in names} <= set(events(tmp_path).Tags()["scalars"])
    step, _ = final_state(tmp_path)
    assert step == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("POPULATION=2",), "a population of 2 cannot live on 3 task distributions: set POPULATION=3 or more"),
        (("learners/meta_rnn.gin",), "learners.MetaRNN has other meta-parameters for tasks of mnist than for those of"),
        (("POPULATION=7", "--devices", "2"), "shares of 3, 2, 2 members cannot each be spread evenly over 2 devices"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], words: Any, message: str):
    arguments = [word for word in _arguments() if "cells" not in word or "meta_rnn" not in words[0]]
    outcome = call(capfd, "train", *arguments, *MIXTURE, *NO_EVALUATORS, *words, "STEPS=1", "--run_dir", tmp_path)
    assert outcome.code == 2
    assert message in outcome.last_line
