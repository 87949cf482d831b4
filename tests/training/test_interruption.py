"""Ctrl-C and SIGTERM: noted, acted on between two meta-steps, and never a second time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import ES, NO_EVALUATORS, TINY, assert_same_run, call, final_state, metrics, summary, train

from vsml.training.interruption import Interrupted, catch_interruption, name_of
from vsml.training.writers import MetricsFile

ARGUMENTS = (*ES, *NO_EVALUATORS, "STEPS=4", "train.log_every=1")
SIGNALS = {signal.SIGINT: ("Ctrl-C", 130), signal.SIGTERM: ("SIGTERM", 143)}


@pytest.fixture(autouse=True)
def handlers():
    """Handlers that neither end the test nor go unnoticed."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    reached: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: reached.append(number))
    yield reached
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_acts(number: signal.Signals, handlers: list[int]):
    with catch_interruption() as interruption:
        assert interruption.signal_number is None
        signal.raise_signal(number)
        assert interruption.signal_number == number
        assert name_of(number) == SIGNALS[number][0]
        assert handlers == []
        signal.raise_signal(number)
        assert handlers == [number]


def test_handlers_are_put_back(handlers: list[int]):
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="inside"), catch_interruption():
        raise ValueError("inside")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_the_exit_code_is_that_of_a_process_killed_by_the_signal():
    assert Interrupted("", signal.SIGTERM).exit_code == 143


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """Does something while a meta-step is logged."""
    write = MetricsFile.write

    def and_act(self: MetricsFile, done: int, scalars: Any) -> None:
        write(self, done, scalars)
        if done == step:
            act()

    monkeypatch.setattr(MetricsFile, "write", and_act)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_run_has_saved_its_last_step_and_goes_on(number, tmp_path: Path, capfd, monkeypatch, handlers):
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: os.kill(os.getpid(), number))
        outcome = call(capfd, "train", *TINY, *ARGUMENTS, "--run_dir", tmp_path / "run")
    name, code = SIGNALS[number]
    assert outcome.code == code
    assert handlers == []
    message = f"vsml: stopped by {name} after 3 of 4 meta-steps; all is saved in {tmp_path / 'run'}: "
    assert outcome.last_line == message + "run the same command again to go on"
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert final_state(tmp_path / "run")[0] == 3  # the step under way when the signal came is noticed at its end
    assert not (tmp_path / "run" / "summary.json").exists()
    for directory in (tmp_path / "run", tmp_path / "straight"):
        train(directory, *ARGUMENTS)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


@pytest.mark.usefixtures("compiled")
def test_a_signal_in_the_last_step_is_not_forgotten(tmp_path: Path, capfd, monkeypatch):
    arguments = ("train", *TINY, *ARGUMENTS, "--run_dir", tmp_path / "run")
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    outcome = call(capfd, *arguments)
    assert outcome.code == 143
    assert "stopped by SIGTERM after 4 of 4 meta-steps" in outcome.last_line
    monkeypatch.undo()
    outcome = call(capfd, *arguments)
    assert outcome.code == 0
    assert "resumed after 4 meta-steps\n" in outcome.err
    assert summary(tmp_path / "run")["meta_steps"] == 4


@pytest.mark.usefixtures("compiled")
def test_a_signal_while_a_checkpoint_is_due_saves_once_and_all(tmp_path: Path, capfd, monkeypatch):
    """The flag may be set at any moment; a run never says that all is saved when it is not."""
    from vsml.runs.checkpoints import Checkpoints

    saved: list[int] = []
    save = Checkpoints.save

    def and_stop(self: Checkpoints, step: int, *rest: Any) -> None:
        saved.append(step)
        save(self, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", and_stop)
    arguments = (*TINY, *ARGUMENTS, "train.checkpoint_every=2")
    outcome = call(capfd, "train", *arguments, "--run_dir", tmp_path / "run")
    assert outcome.code == 143
    assert saved == [2, 3]
    assert "after 3 of 4 meta-steps" in outcome.last_line
    assert final_state(tmp_path / "run")[0] == metrics(tmp_path / "run")[-1]["step"] == 3


@pytest.mark.usefixtures("compiled")
def test_ctrl_c_outside_of_the_loop_is_one_line(tmp_path: Path, capfd, monkeypatch):
    """While it evaluates, say: what was trained is saved, and the same command goes on from there."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    arguments = ("train", *TINY, *ARGUMENTS, "--run_dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("vsml.training.trainer.finish", stop)
        outcome = call(capfd, *arguments)
    assert outcome.code == 130
    assert outcome.last_line == "vsml: interrupted; what was saved is intact"
    assert final_state(tmp_path / "run")[0] == 4
    train(tmp_path / "run", *ARGUMENTS)
    assert summary(tmp_path / "run")["meta_steps"] == 4
