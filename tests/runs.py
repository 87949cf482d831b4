"""Tiny runs of the quickstart for tests of the whole way: in this process, or in one of its own to be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from vsml import cli
from vsml import config as configs
from vsml.runs.checkpoints import Checkpoints
from vsml.runs.results import read_metrics
from vsml.training.meta_step import init_estimator, init_state
from vsml.training.parallel import Parallel, choose_devices

TINY = (
    "recipes/quickstart.gin",
    "optimizers/clipped_adam.gin",  # no schedule: runs of different lengths are the same program
    "LENGTH=5",
    "POPULATION=4",
    "cells.LSTM.size=4",
    "projected/tasks.HeldOut.length=10",
    "plain/tasks.HeldOut.length=10",
    "evaluators.OnlineAccuracy.lifetimes=4",
    "evaluators.OnlineAccuracy.baselines=None",
)
"""What all tests train; `STEPS` is each test's own."""
ES = ("meta_optimizers/es.gin",)
NO_EVALUATORS = ("EVALUATORS=[]",)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line on standard error; a progress bar is not part of it."""
        return self.err.strip().splitlines()[-1].rpartition("\r")[2]


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """Runs the command line in this process."""
    capfd.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return Outcome(code, captured.out, captured.err)


def train(directory: Path, *arguments: str) -> None:
    """Trains `TINY` with further arguments in this process; fails the test where that fails."""
    code = cli.main(["train", *TINY, *arguments, "--run_dir", str(directory)])
    assert code == 0, f"exit code {code}"


def start(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """Runs the command line in a process of its own, with as many virtual devices as this one."""
    here = {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "vsml", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **here, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Outcome:
    """Waits for a process of `start`."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Outcome(process.returncode, out, err)


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The entries of metrics.jsonl."""
    return read_metrics(directory / "metrics.jsonl")


def summary(directory: Path) -> dict[str, Any]:
    """The content of summary.json."""
    return json.loads((directory / "summary.json").read_text())


def without_memory(content: dict[str, Any]) -> dict[str, Any]:
    """A summary but for the memory that the last command took."""
    return {key: value for key, value in content.items() if key != "peak_memory_bytes"}


def final_state(directory: Path) -> tuple[int, Any]:
    """Step of the newest checkpoint, and the whole state in it as host arrays."""
    experiment = configs.load(str(directory / "config.gin")).build()
    parallel = Parallel(experiment.parallel, choose_devices(experiment.population, 1))
    state = init_state(experiment)
    estimator = init_estimator(experiment, state.params, experiment.load())
    checkpoints = Checkpoints(directory / "checkpoints", read_only=True)
    step = checkpoints.newest()
    assert step is not None
    like = (parallel.replicate(state._replace(params=())), parallel.spread(estimator))
    params, (rest, members), _ = checkpoints.restore(step, state.params, like)
    checkpoints.close()
    return step, jax.device_get((rest._replace(params=params), members))


def assert_equal(first: Any, second: Any) -> None:
    """Two trees of arrays are the same, bit for bit."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for path, leaf in jax.tree_util.tree_leaves_with_path(first):
        other = dict(jax.tree_util.tree_leaves_with_path(second))[path]
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes(), jax.tree_util.keystr(path)


def assert_same_run(first: Path, second: Path) -> None:
    """Two run directories hold the same steps, state and metrics, bit for bit."""
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    step, state = final_state(first)
    other_step, other_state = final_state(second)
    assert step == other_step
    assert_equal(state, other_state)


def events(directory: Path, names: Sequence[str] = ("scalars", "tensors", "images", "histograms")) -> Any:
    """What TensorBoard reads in a directory of event files, all of it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(directory), size_guidance=dict.fromkeys(names, 0)).Reload()
