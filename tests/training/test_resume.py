"""A run that is stopped in whatever way and started again ends as one that never was."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from runs import (
    ES,
    NO_EVALUATORS,
    TINY,
    Outcome,
    assert_equal,
    assert_same_run,
    call,
    final_state,
    finish,
    metrics,
    start,
    summary,
    train,
    without_memory,
)

from vsml.training.parallel import Step

pytestmark = pytest.mark.usefixtures("compiled")

EVERY_STEP = ("train.log_every=1", "train.checkpoint_every=1", *NO_EVALUATORS)
"""With a save at every step a kill lands in one more often than not."""
STEPS = 20
ONE_EVALUATOR = "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]"
FOUR_STEPS = ("STEPS=4", "train.checkpoint_every=2", ONE_EVALUATOR)
METHODS = {"bptt": (), "es": ES}


def command(directory: Path, *arguments: str) -> list[str]:
    return ["train", *TINY, *arguments, "--run_dir", str(directory)]


def until_logged(process: subprocess.Popen[str], directory: Path, steps: int) -> None:
    """Returns once a run has logged so many meta-steps, or has ended."""
    end = time.monotonic() + 100
    while process.poll() is None and len(metrics(directory)) < steps:
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.01)


def stopped(
    arguments: list[str], directory: Path, number: signal.Signals, chance: random.Random, within: int = 3
) -> tuple[int, str]:
    """Starts a run and sends it a signal at a random moment of its next few meta-steps.

    Returns:
      Its exit code, and the last line of its standard error.
    """
    process = start(*arguments)
    until_logged(process, directory, len(metrics(directory)) + chance.randint(1, within))
    time.sleep(chance.random() * 0.1)
    assert process.poll() is None, "the run was over before it could be stopped"
    process.send_signal(number)
    outcome = finish(process)
    return outcome.code, outcome.last_line if outcome.err.strip() else ""


@pytest.fixture(scope="module")
def uninterrupted(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run by each method that nobody disturbed."""
    directories = {name: tmp_path_factory.mktemp(name) / "run" for name in METHODS}
    for name, directory in directories.items():
        train(directory, *METHODS[name], f"STEPS={STEPS}", *EVERY_STEP)
    return directories


def test_a_run_asked_to_stop_and_then_killed_ends_like_one_left_alone(uninterrupted: dict[str, Path], tmp_path: Path):
    run = tmp_path / "run"
    arguments = command(run, f"STEPS={STEPS}", *EVERY_STEP)
    chance = random.Random(0)
    ended, message = stopped(arguments, run, signal.SIGTERM, chance)
    done = metrics(run)[-1]["step"]
    assert ended == 143
    assert message == (
        f"vsml: stopped by SIGTERM after {done} of {STEPS} meta-steps; all is saved in {run}: "
        "run the same command again to go on"
    )
    assert final_state(run)[0] == done
    ended, _ = stopped(arguments, run, signal.SIGKILL, chance)
    assert ended == -signal.SIGKILL
    assert metrics(run)[-1]["step"] < STEPS
    last = finish(start(*arguments))
    assert last.code == 0, last.err
    assert "resumed after" in last.err
    assert_same_run(run, uninterrupted["bptt"])


def test_a_run_killed_while_it_saves_ends_like_one_never_killed(uninterrupted: dict[str, Path], tmp_path: Path):
    run = tmp_path / "run"
    arguments = command(run, *ES, f"STEPS={STEPS}", *EVERY_STEP)
    process = start(*arguments)
    until_logged(process, run, 3)
    while process.poll() is None and not list((run / "checkpoints").glob("*tmp*")):  # there for some milliseconds
        pass
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    last = finish(start(*arguments))
    assert last.code == 0, last.err
    assert_same_run(run, uninterrupted["es"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_five_kills_at_any_moment(method: str, uninterrupted: dict[str, Path], tmp_path: Path):
    """Also before the first meta-step, while programs are compiled and while checkpoints are looked for."""
    overrides = (*METHODS[method], f"STEPS={STEPS}", *EVERY_STEP, "train.plot_every=3")
    chance = random.Random(method)
    run, kills = tmp_path / "run", 0
    began = time.monotonic()
    ended, _ = stopped(command(run, *overrides), run, signal.SIGKILL, chance)  # says how long a start takes here
    took = time.monotonic() - began
    while True:
        assert ended in (0, -signal.SIGKILL)
        kills += ended == -signal.SIGKILL
        if ended == 0:  # came to its end before the kill: the remaining ones are for another run
            assert_same_run(run, uninterrupted[method])
            run = tmp_path / f"run_after_{kills}_kills"
            took *= 0.8
        if kills == 5:
            break
        process = start(*command(run, *overrides))
        time.sleep(chance.uniform(0.3, 1.1) * took)
        process.kill()
        ended = finish(process).code
    last = finish(start(*command(run, *overrides)))
    assert last.code == 0, last.err
    assert_same_run(run, uninterrupted[method])


@pytest.fixture(scope="module")
def four_steps(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four meta-steps with one evaluator; tests work on copies."""
    directory = tmp_path_factory.mktemp("four") / "run"
    train(directory, *FOUR_STEPS)
    return directory


@pytest.fixture(scope="module")
def six_steps(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two meta-steps more, in one go."""
    directory = tmp_path_factory.mktemp("six") / "run"
    train(directory, "STEPS=6", *NO_EVALUATORS)
    return directory


@pytest.fixture
def run(four_steps: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(four_steps, tmp_path / "run"))


def again(capfd: pytest.CaptureFixture[str], run: Path, *arguments: str) -> Outcome:
    return call(capfd, "train", *TINY, *FOUR_STEPS, *arguments, "--run_dir", run)


def test_a_complete_run_shows_its_table_and_does_not_start_over(run: Path, capfd: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    outcome = again(capfd, run)
    assert outcome.code == 0
    assert outcome.err == f"{run}: this run is complete (4 meta-steps)\n"
    mean = summary(run)["evaluations"]["digits_plain"]["cumulative_accuracy"]["mean"]
    assert "digits_plain: 4 lifetimes of 10 examples" in outcome.out
    assert f"learned algorithm  {mean:.3f}" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("cells.LSTM.size=5", "train.learner.cell.size: 4 -> 5"),
        ("LENGTH=6", "train.tasks.length: 5 -> 6"),
        ("SEED=1", "train.seed: 0 -> 1"),
        ("POPULATION=8", "train.population: 4 -> 8"),
        ("optax.adam.learning_rate=0.5", "train.optimizer.transforms[1].learning_rate: 0.001 -> 0.5"),
        ("meta_optimizers/es.gin", "train.meta_optimizer: 'meta_optimizers.BPTT' -> 'meta_optimizers.ES'"),
    ],
)
def test_another_experiment_is_refused_with_what_differs(
    run: Path, capfd: pytest.CaptureFixture[str], change: str, shown: str
):
    saved = (run / "config.json").read_text()
    outcome = again(capfd, run, change)
    assert outcome.code == 2
    assert outcome.err.startswith(f"vsml: {run}: holds 4 meta-steps of another experiment (")
    assert shown in outcome.err
    assert "choose another --run_dir" in outcome.err
    assert outcome.err.count("\n") == 1
    assert (run / "config.json").read_text() == saved


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("meta_optimizers.BPTT.chunk=2", "train.meta_optimizer.chunk: None -> 2"),
        ("meta_optimizers.BPTT.segment=2", "train.meta_optimizer.segment: None -> 2"),
        ("train.parallel=shard_map", "train.parallel: 'pmap' -> 'shard_map'"),
    ],
)
def test_how_a_run_is_computed_may_change(
    run: Path, six_steps: Path, capfd: pytest.CaptureFixture[str], change: str, shown: str
):
    outcome = again(capfd, run, "STEPS=6", change)
    assert outcome.code == 0, outcome.err
    assert f"changed since this run was started: {shown}\n" in outcome.err
    assert "resumed after 4 meta-steps\n" in outcome.err
    (_, (ours, _)), (_, (straight, _)) = final_state(run), final_state(six_steps)
    for one, other in zip(jax.tree.leaves(ours.params), jax.tree.leaves(straight.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_that_was_out_of_memory_goes_on_in_smaller_chunks(tmp_path: Path, capfd, monkeypatch):
    run = tmp_path / "run"
    take, left = Step.run, iter(range(2))

    def too_little(self: Step, *trees: Any) -> Any:
        if next(left, None) is None:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 68719476736 bytes.")
        return take(self, *trees)

    arguments = ("train", *TINY, *NO_EVALUATORS, "STEPS=4", "train.checkpoint_every=1", "--run_dir", run)
    arguments += ("--devices", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Step, "run", too_little)
        outcome = call(capfd, *arguments, "meta_optimizers.BPTT.chunk=4")
    assert outcome.code == 2
    assert outcome.last_line.startswith("vsml: out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 68719476736")
    outcome = call(capfd, *arguments, "meta_optimizers.BPTT.chunk=2")
    assert outcome.code == 0, outcome.err
    assert "changed since this run was started: train.meta_optimizer.chunk: 4 -> 2\n" in outcome.err
    assert "resumed after 2 meta-steps\n" in outcome.err
    assert summary(run)["meta_steps"] == 4


def test_what_grows_along_with_the_steps_by_chance_is_another_experiment(run: Path, capfd: pytest.CaptureFixture[str]):
    outcome = again(capfd, run, "STEPS=6", "cells.LSTM.size=6")  # both from 4 to 6
    assert outcome.code == 2
    assert "train.learner.cell.size: 4 -> 6" in outcome.err


def test_fewer_steps_than_are_done_are_refused(run: Path, capfd: pytest.CaptureFixture[str]):
    outcome = again(capfd, run, "STEPS=3")
    assert outcome.code == 2
    assert outcome.err == (
        f"vsml: {run}: already holds 4 meta-steps, more than the 3 asked for: set STEPS=4 or more, or choose another "
        "--run_dir\n"
    )


def test_more_steps_and_another_cadence_are_shown_and_go_on(run: Path, capfd: pytest.CaptureFixture[str]):
    outcome = again(capfd, run, "STEPS=6", "train.log_every=2")
    assert outcome.code == 0
    assert "changed since this run was started: train.steps: 4 -> 6\n" in outcome.err
    assert "changed since this run was started: train.log_every: 10 -> 2\n" in outcome.err
    assert "resumed after 4 meta-steps\n" in outcome.err
    assert [entry["step"] for entry in metrics(run)] == [4, 6]
    assert summary(run)["meta_steps"] == 6
    assert "STEPS = 6" in (run / "config.gin").read_text()
    straight = run.with_name("straight")
    train(straight, "STEPS=6", ONE_EVALUATOR)
    assert_equal(final_state(run), final_state(straight))  # here nothing depends on the length of the whole
    assert again(capfd, run, "STEPS=6", "train.log_every=2").err == f"{run}: this run is complete (6 meta-steps)\n"


def test_a_lost_summary_is_made_again_without_training(run: Path, capfd: pytest.CaptureFixture[str]):
    before, lines = without_memory(summary(run)), (run / "metrics.jsonl").read_bytes()
    (run / "summary.json").unlink()
    outcome = again(capfd, run)
    assert outcome.code == 0
    assert without_memory(summary(run)) == before
    assert (run / "metrics.jsonl").read_bytes() == lines
    assert final_state(run)[0] == 4


def test_other_evaluators_are_run_on_a_complete_run(run: Path, capfd: pytest.CaptureFixture[str]):
    outcome = again(capfd, run, "evaluators.OnlineAccuracy.lifetimes=6")
    assert outcome.code == 0
    assert "changed since this run was started: train.evaluators[0].lifetimes: 4 -> 6" in outcome.err
    assert summary(run)["evaluations"]["digits_plain"]["lifetimes"] == 6
    assert "digits_plain: 6 lifetimes" in outcome.out
    assert json.loads((run / "config.json").read_text())["train"]["evaluators"][0]["lifetimes"] == 6


def test_a_cut_line_of_metrics_is_written_again(uninterrupted: dict[str, Path], tmp_path: Path):
    """What a machine that went down leaves: half a line, and entries later than the newest checkpoint."""
    run = Path(shutil.copytree(uninterrupted["bptt"], tmp_path / "run"))
    whole = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    lines = whole.splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: STEPS - 1]) + lines[-1][:30])
    train(run, f"STEPS={STEPS}", *EVERY_STEP)
    assert (run / "metrics.jsonl").read_text() == whole
    assert_same_run(run, uninterrupted["bptt"])


def test_a_run_goes_on_with_other_numbers_of_devices(tmp_path: Path):
    together, alone = tmp_path / "changing", tmp_path / "same"
    train(alone, *ES, *NO_EVALUATORS, "STEPS=6", "train.log_every=1", "--devices", "4")
    for devices, steps in ((1, 2), (2, 4), (4, 6)):
        arguments = (f"STEPS={steps}", "train.log_every=1", "--devices", str(devices))
        train(together, *ES, *NO_EVALUATORS, *arguments)
    (step, state), (_, expected) = final_state(together), final_state(alone)
    assert step == 6
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for new, old in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-5)
    for new, old in zip(metrics(together), metrics(alone), strict=True):
        assert new == pytest.approx(old, rel=1e-3, abs=1e-5)
