"""Several processes of one run on the loopback interface: the numbers of one process, and a common end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from runs import TINY, Outcome, call, final_state, finish, metrics, start, summary, train

from vsml import config as configs
from vsml.errors import UserError
from vsml.runs.results import Run
from vsml.training import distributed
from vsml.training.distributed import Cluster
from vsml.training.meta_step import init_state

ROOT = Path(__file__).parents[2]
SGD = ("OPTIMIZER=@optax.sgd()", "optax.sgd.learning_rate=2.0")  # Adam would hide a gradient of another size
STEPS = ("STEPS=20", "train.log_every=1", "train.checkpoint_every=10", "train.plot_every=100000")
ONE_EVALUATOR = "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]"
WITHOUT_END = ("STEPS=100000", *STEPS[1:])

PATIENCE = 300
"""Seconds for a busy machine."""


def launch(directory: Path, *arguments: str) -> Outcome:
    """Two processes of one device by launch/local.py."""
    command = [sys.executable, str(ROOT / "launch" / "local.py"), *TINY, *SGD, *arguments]
    process = subprocess.Popen(
        [*command, "--run_dir", str(directory), "--processes", "2"],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return finish(process, PATIENCE)


def pair(directory: Path, of_the_second: Sequence[str] = ()) -> list[subprocess.Popen[str]]:
    """Two processes of one device, of a run without end; the second one may be asked for something else."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ("--coordinator", f"127.0.0.1:{port}", "--num_processes", "2", "--process_index")
    overrides = (*TINY, *SGD, ONE_EVALUATOR, *WITHOUT_END, "train.parallel=shard_map")
    arguments = ("--run_dir", str(directory), "--distributed", *where)
    return [
        start("train", *overrides, *own, *arguments, str(index), JAX_NUM_CPU_DEVICES="1")
        for index, own in enumerate([(), of_the_second])
    ]


def until_logged(directory: Path, processes: list[subprocess.Popen[str]], steps: int) -> None:
    """Returns once a run has logged so many meta-steps."""
    end = time.monotonic() + PATIENCE
    while len(metrics(directory)) < steps:
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            pytest.fail("the run does not get on: " + "".join(finish(process).err for process in processes))
        time.sleep(0.01)


def assert_close(first: Path, second: Path) -> None:
    """Two runs hold the same steps, and state and metrics up to 1e-5."""
    (step, state), (other_step, other) = final_state(first), final_state(second)
    assert step == other_step
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
    for one, two in zip(metrics(first), metrics(second), strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)


def assert_same_evaluation(first: Path, second: Path) -> None:
    ours, theirs = (summary(path)["evaluations"]["digits_plain"] for path in (first, second))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.fixture(scope="module")
def alone(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty meta-steps of one process with two devices; tests work on copies."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    train(directory, *SGD, *STEPS, ONE_EVALUATOR, "train.parallel=shard_map", "--devices", "2")
    return directory


def test_the_steps_are_large_enough_to_see_a_wrong_mean(alone: Path):
    start = jax.device_get(init_state(configs.load(str(alone / "config.gin")).build()).params)
    pairs = zip(*map(jax.tree.leaves, (start, final_state(alone)[1][0].params)), strict=True)
    assert max(np.max(np.abs(before - after)) for before, after in pairs) > 1e-2


def test_two_processes_give_the_numbers_of_two_devices_and_one_goes_on_from_theirs(alone: Path, tmp_path: Path):
    run = tmp_path / "run"
    outcome = launch(run, *STEPS, ONE_EVALUATOR, "train.evaluate_every=7")
    assert outcome.code == 0, outcome.err
    assert "on 2 cpu device(s) of 2 processes by pmap" in outcome.err
    assert outcome.out.count("digits_plain: 4 lifetimes") == 1
    assert_close(run, alone)
    assert_same_evaluation(run, alone)
    assert [entry["step"] for entry in Run(run, run.name).interim] == [7, 14]

    shutil.rmtree(run / "checkpoints" / "20")
    train(run, *SGD, *STEPS, ONE_EVALUATOR, "--devices", "2")
    assert_close(run, alone)
    assert_same_evaluation(run, alone)


def test_two_go_on_from_one_and_end_together(alone: Path, tmp_path: Path):
    run = Path(shutil.copytree(alone, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints" / "20")
    processes = pair(run)
    until_logged(run, processes, 21)  # the copy holds 20, of which resuming drops 10
    processes[1].send_signal(signal.SIGTERM)  # not to process 0
    first, second = map(finish, processes)
    logged = metrics(run)
    assert (first.code, second.code) == (143, 143), first.err + second.err
    assert "resumed after 10 meta-steps" in first.err
    assert first.last_line == (
        f"vsml: stopped by SIGTERM after {len(logged)} of 100000 meta-steps; all is saved in {run}: "
        "run the same command again to go on"
    )
    assert "vsml:" not in second.err
    for ours, theirs in zip(logged, metrics(alone), strict=False):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert final_state(run)[0] >= len(logged)

    processes = pair(run)
    until_logged(run, processes, len(logged) + 2)
    processes[1].kill()
    killed = time.monotonic()
    outcome = finish(processes[0])
    assert time.monotonic() - killed < 20
    finish(processes[1])
    assert outcome.code == 3, outcome.err
    assert outcome.last_line.startswith("vsml: process 0 of 2 has lost another process (")
    assert outcome.last_line.endswith("the newest checkpoint is intact: run the same command again to go on from it")
    assert "Traceback" not in outcome.err
    assert final_state(run)[0] >= len(logged)


def test_both_begin_with_the_meta_parameters_of_another_run(alone: Path, tmp_path: Path):
    arguments = ("STEPS=2", "train.log_every=1", "EVALUATORS=[]", f"train.start_from='{alone}@10'")
    outcome = launch(tmp_path / "two", *arguments)
    assert outcome.code == 0, outcome.err
    train(tmp_path / "one", *SGD, *arguments, "--devices", "2")
    assert_close(tmp_path / "two", tmp_path / "one")
    assert summary(tmp_path / "two")["started_from"] == summary(tmp_path / "one")["started_from"]


def test_processes_that_have_read_other_meta_parameters_are_refused(monkeypatch):
    """As where the newest checkpoint of a run that is under way is not the same one second later."""
    monkeypatch.setattr(distributed._Processes, "count", 2)
    others: dict[str, Any] = {"what a holds": "12ab", "length": 5, "extra": [1]}
    texts = iter([[], [], ["13", str(len(json.dumps(others)))], []])

    def tell_all(text: str, longest: int = 99) -> list[str]:
        return next(texts) or [text, text if same else json.dumps(others)[:longest]]

    monkeypatch.setattr(distributed, "_tell_all", tell_all)
    same = True
    distributed.check_alike({"what a holds": "12ab"}, "name another")
    same = False
    with pytest.raises(UserError) as refused:
        distributed.check_alike({"what a holds": "12ab", "length": 6, "name": "x" * 99}, "name another")
    assert refused.value.alike
    assert str(refused.value) == (
        "not the same in all processes of this run: length (6 in process 0, 5 in process 1), name ('"
        + "x" * 27
        + " ... "
        + "x" * 26
        + "' in process 0, nothing in process 1), extra (nothing in process 0, [1] in process 1): name another"
    )


def test_processes_that_were_asked_for_other_runs_say_how_they_differ(tmp_path: Path):
    run = tmp_path / "run"
    processes = pair(run, ["SEED=1", "LENGTH=7"])
    first, second = map(finish, processes)
    assert (first.code, second.code) == (2, 2), first.err + second.err
    line = first.last_line
    assert line.startswith("vsml: not the same in all processes of this run: train.tasks.length (5 in process 0, 7 in ")
    assert "train.seed (0 in process 0, 1 in process 1)" in line
    assert line.endswith(": give all of them the same command")
    assert "vsml:" not in second.err
    assert not run.exists()


def test_a_mistake_is_said_once(tmp_path: Path):
    outcome = launch(tmp_path / "run", "POPULATION=3")
    assert outcome.code == 2
    line, *more = [line for line in outcome.err.splitlines() if not line.startswith("[Gloo]")]
    assert line.startswith("vsml: a population of 3 cannot be spread evenly over 2 devices: set POPULATION=2 or 4")
    assert more == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("127.0.0.1:1234", 2, None), "--coordinator, --num_processes and --process_index go together"),
        ((None, None, 0), "--coordinator, --num_processes and --process_index go together"),
        (("127.0.0.1", 2, 0), "--coordinator 127.0.0.1: give the HOST:PORT on which process 0 is to listen"),
        (("127.0.0.1:1234", 2, 2), "--process_index 2 of 2 processes: give 0 to 1, each to one process"),
        (("127.0.0.1:1234", 2, -1), "--process_index -1 of 2 processes: give 0 to 1"),
    ],
)
def test_where_processes_meet_is_checked(where: tuple[Any, Any, Any], message: str):
    with pytest.raises(UserError, match=message):
        Cluster(*where)


def test_no_address_to_meet_at(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr("vsml.training.distributed._keep_standard_output_for_results", lambda: None)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    outcome = call(capfd, "train", *TINY, "--distributed", "--run_dir", str(tmp_path / "run"))
    assert outcome.code == 2
    assert outcome.err.startswith("vsml: --distributed: neither Slurm nor a TPU pod nor MPI says which processes there")
    assert outcome.err.endswith("give --coordinator HOST:PORT --num_processes N --process_index I\n")
