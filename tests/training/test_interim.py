"""Evaluations during meta-training: they change nothing of a run, and a stopped run has them all in the end."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runs import ES, TINY, assert_same_run, call, events, metrics, summary, train, without_memory

from vsml.analysis.report import report
from vsml.evaluation import OnlineAccuracy
from vsml.runs.results import Run
from vsml.training.interim import InterimEvaluations
from vsml.training.writers import TensorBoard

pytestmark = pytest.mark.usefixtures("compiled")

PLAIN = ("EVALUATORS=[@plain/evaluators.OnlineAccuracy()]", "evaluators.OnlineAccuracy.interim_lifetimes=2")
ARGUMENTS = (*ES, *PLAIN, "STEPS=6", "train.log_every=1", "train.checkpoint_every=1")
EVERY = "train.evaluate_every=2"


def interim(run: Path) -> list[dict[str, Any]]:
    return Run(run, run.name).interim


@pytest.fixture(scope="module")
def straight(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with evaluations after two and four of six meta-steps; tests work on copies."""
    directory = tmp_path_factory.mktemp("interim") / "run"
    train(directory, *ARGUMENTS, EVERY)
    return directory


def assert_same(run: Path, straight: Path) -> None:
    assert_same_run(run, straight)
    assert (run / "evaluations.jsonl").read_bytes() == (straight / "evaluations.jsonl").read_bytes()
    assert [event.step for event in events(run).Scalars("meta_test/loss/digits_plain")] == [2, 4, 6]


def test_they_change_nothing_of_the_run(straight: Path, tmp_path: Path):
    without = tmp_path / "without"
    train(without, *ARGUMENTS, "train.evaluate_every=None")
    assert_same_run(straight, without)
    assert not (without / "evaluations.jsonl").exists()
    ours, theirs = (without_memory(summary(run)) for run in (straight, without))
    assert ours["evaluations"] == theirs["evaluations"]


def test_they_are_written_down_and_shown(straight: Path):
    assert [entry["step"] for entry in interim(straight)] == [2, 4]
    for entry in interim(straight):
        found = entry["evaluations"]["digits_plain"]
        assert (found["lifetimes"], found["headline"], found["baselines"]) == (2, "cumulative_accuracy", {})
        tag = "headline/cumulative_accuracy/digits_plain"
        shown = {event.step: event.value for event in events(straight).Scalars(tag)}
        assert shown[entry["step"]] == pytest.approx(found["cumulative_accuracy"]["mean"])
    assert set(shown) == {2, 4, 6}
    assert len(events(straight).Images("learning_curves/correct/digits_plain")) == 1


def test_the_report_draws_them(straight: Path, tmp_path: Path):
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    report(run)
    assert (run / "report" / "held_out_digits_plain.svg").exists()


@pytest.mark.parametrize("end", [3, 4])
def test_a_run_that_goes_on_has_them_all_once(straight: Path, tmp_path: Path, end: int):
    """Also what was not due at its end, but is on the way."""
    run = tmp_path / "run"
    train(run, *ARGUMENTS, EVERY, f"STEPS={end}")
    train(run, *ARGUMENTS, EVERY)
    assert_same(run, straight)


def test_what_came_after_the_checkpoint_is_made_again(straight: Path, tmp_path: Path):
    run = tmp_path / "run"
    train(run, *ARGUMENTS, EVERY, "train.checkpoint_every=3")
    shutil.rmtree(run / "checkpoints" / "6")
    lines = (run / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (run / "evaluations.jsonl").write_text(lines[0] + lines[1].replace("4", "5") + lines[1][:40])
    train(run, *ARGUMENTS, EVERY)
    assert_same(run, straight)


def test_a_signal_while_evaluating_stops_the_run_as_at_other_times(straight: Path, tmp_path: Path, capfd, monkeypatch):
    run = OnlineAccuracy.run

    def and_stop(self: OnlineAccuracy, *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return run(self, *arguments)

    arguments = ("train", *TINY, *ARGUMENTS, EVERY, "--run_dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(OnlineAccuracy, "run", and_stop)
        outcome = call(capfd, *arguments)
    assert outcome.code == 128 + signal.SIGTERM
    assert "after 3 of 6 meta-steps; all is saved in" in outcome.last_line
    assert call(capfd, *arguments).code == 0
    assert (tmp_path / "run" / "evaluations.jsonl").read_bytes() == (straight / "evaluations.jsonl").read_bytes()
    assert_same_run(tmp_path / "run", straight)


def test_ctrl_c_once_more_acts_at_once_and_nothing_is_lost(straight: Path, tmp_path: Path, capfd, monkeypatch):
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    arguments = ("train", *TINY, *ARGUMENTS, EVERY, "--run_dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(OnlineAccuracy, "run", stop)
        outcome = call(capfd, *arguments)
    assert outcome.code == 130
    assert outcome.last_line == "vsml: interrupted; what was saved is intact"
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 2]
    assert call(capfd, *arguments).code == 0
    assert (tmp_path / "run" / "evaluations.jsonl").read_bytes() == (straight / "evaluations.jsonl").read_bytes()


@dataclass(frozen=True)
class Never:
    """An evaluator that is not to run during meta-training."""

    def interim(self) -> None:
        return None


@dataclass(frozen=True)
class Experiment:
    """As much of one as is looked at."""

    evaluators: tuple[Any, ...]
    evaluate_every: int | None
    learner_in_use: Any = None
    steps: int = 10


@pytest.mark.parametrize("experiment", [Experiment((Never(),), 3), Experiment((), 3), Experiment((Never(),), None)])
def test_nothing_is_due_where_there_is_nothing_to_run(tmp_path: Path, experiment: Any):
    found = InterimEvaluations(experiment, tmp_path / "evaluations.jsonl", TensorBoard(tmp_path, 0), 0)
    assert not any(map(found.due, range(11)))
    found.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.evaluate_every=0", "train.evaluate_every is 0: set it to 1 or more, or to None for never"),
        ("plain/evaluators.OnlineAccuracy.name=a/b", "an evaluator's name is 'a/b', but it names a file"),
    ],
)
def test_refuses(tmp_path: Path, capfd, change: str, message: str):
    outcome = call(capfd, "train", *TINY, *PLAIN, "STEPS=1", change, "--run_dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.last_line


def test_they_count_as_no_time_of_meta_training(tmp_path: Path, capfd, monkeypatch):
    run, clock, passed = OnlineAccuracy.run, time.monotonic, 0.0

    def slow(self: OnlineAccuracy, *arguments: Any) -> Any:
        nonlocal passed
        passed += 10_000.0
        return run(self, *arguments)

    monkeypatch.setattr(OnlineAccuracy, "run", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed)
    assert call(capfd, "train", *TINY, *ARGUMENTS, EVERY, "--run_dir", tmp_path / "run").code == 0
    assert passed == 30_000.0  # two on the way, one in the end
    assert summary(tmp_path / "run")["seconds"] < 10_000.0
