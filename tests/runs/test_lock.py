"""One trainer per run directory: who is refused, which locks are stale, and that none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import NO_EVALUATORS, TINY, call, start

from vsml.errors import UserError
from vsml.runs import lock
from vsml.runs.lock import Occupied, RunLock
from vsml.training.writers import MetricsFile

ARGUMENTS = (*TINY, *NO_EVALUATORS, "STEPS=2", "train.log_every=1")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def held_by(directory: Path, **changes: Any) -> Path:
    """Writes the lock that this process would have, but for some changes."""
    own = {"host": "here", "process": os.getpid(), "since": "2026-01-01 00:00:00 +0000", "token": "another"}
    own |= {"machine": lock._machine(), "started": lock._started(os.getpid())}
    path = directory / ".lock"
    path.write_text(json.dumps(own | changes))
    return path


def test_it_says_who_holds_it_and_is_gone_afterwards(tmp_path: Path, said: list[str]):
    held = RunLock(tmp_path, said.append)
    held.acquire()
    content = json.loads((tmp_path / ".lock").read_text())
    assert content["process"] == os.getpid()
    assert {"host", "since"} <= content.keys()
    with pytest.raises(Occupied, match=rf"process {os.getpid()} on .+ \(since .+\) trains here: wait for its end or"):
        RunLock(tmp_path, said.append).acquire()
    (tmp_path / "config.json").touch()
    held.check()
    held.close()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    held.close()
    assert said == []


def test_a_living_process_of_this_machine_is_respected_whatever_its_signs(
    tmp_path: Path, said: list[str], sleeper: subprocess.Popen[bytes]
):
    path = held_by(tmp_path, process=sleeper.pid, started=lock._started(sleeper.pid))
    os.utime(path, (0, 0))  # a stopped process gives no signs
    with pytest.raises(Occupied, match=f"process {sleeper.pid} on here"):
        RunLock(tmp_path, said.append).acquire()
    sleeper.kill()
    while lock._started(sleeper.pid):  # dead, though nobody has taken note of it yet
        time.sleep(0.01)
    held = RunLock(tmp_path, said.append)
    held.acquire()
    held.close()
    gone = f"{tmp_path}: took over the lock of process {sleeper.pid} on here (since 2026-01-01 00:00:00 +0000), "
    assert said == [gone + "which has ended"]


def test_a_process_that_got_the_same_number_later_is_another_one(tmp_path: Path, said: list[str]):
    held_by(tmp_path, started="1")
    refuse = lock.refuse_where_occupied
    refuse(tmp_path, said.append)
    assert "which has ended" in said[0]
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_half_a_lock_is_stale_once_it_is_old(tmp_path: Path, said: list[str], content: str):
    (tmp_path / ".lock").write_text(content)
    os.utime(tmp_path / ".lock", (0, 0))
    lock.refuse_where_occupied(tmp_path, said.append)
    assert "process ? on an unknown host, which has ended" in said[0]


def test_an_old_lock_of_another_machine_is_taken_over_at_once(tmp_path: Path, said: list[str]):
    os.utime(held_by(tmp_path, host="there", machine="another"), (0, 0))
    lock.refuse_where_occupied(tmp_path, said.append)
    assert len(said) == 1
    assert "took over the lock of process" in said[0]


@pytest.mark.parametrize("gives_signs", [True, False])
def test_a_young_lock_of_another_machine_is_looked_at_for_a_while(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, gives_signs: bool
):
    path = held_by(tmp_path, host="there", machine="another")
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    if gives_signs:
        look = lock._modified
        monkeypatch.setattr(lock, "_modified", lambda path: (look(path), os.utime(path))[0])
        with pytest.raises(Occupied, match="on there"):
            lock.refuse_where_occupied(tmp_path, said.append)
    else:
        lock.refuse_where_occupied(tmp_path, said.append)
        assert "took over" in said.pop()
    assert path.exists() == gives_signs
    assert "waiting for a sign of process" in said[0]


def test_whoever_holds_it_gives_signs_and_notices_a_takeover(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lock, "SIGN_SECONDS", 0.01)
    (tmp_path / "config.json").touch()
    held = RunLock(tmp_path, said.append)
    held.acquire()
    path = tmp_path / ".lock"
    os.utime(path, (0, 0))
    end = time.monotonic() + 10
    while path.stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    path.unlink()
    held.check()
    assert path.exists(), "a lock that somebody has removed is there again"
    held_by(tmp_path, host="there")
    with pytest.raises(Occupied, match=r"process \d+ on there .+ has taken this run over, so this process has stopped"):
        held.check()
    held.close()
    assert path.exists(), "it belongs to the other one"
    path.unlink()


def test_a_directory_that_has_gone_is_said_to_have_gone(tmp_path: Path, said: list[str]):
    run = tmp_path / "run"
    run.mkdir()
    held = RunLock(run, said.append)
    held.acquire()
    with pytest.raises(UserError, match="the run directory was removed while the run was under way, and its checkp"):
        held.check()
    held.close()


def while_logging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Does something at the first logged meta-step."""
    write = MetricsFile.write

    def and_act(self: MetricsFile, done: int, scalars: Any) -> None:
        write(self, done, scalars)
        if done == 1:
            act()

    monkeypatch.setattr(MetricsFile, "write", and_act)


@pytest.mark.usefixtures("compiled")
def test_a_second_trainer_is_refused_in_one_line_and_reading_is_not(tmp_path: Path, capfd, monkeypatch):
    run = tmp_path / "run"
    second, reads = [], []

    def start_another() -> None:
        monkeypatch.undo()
        before = (run / "config.json").read_bytes()
        second.append(call(capfd, "train", *ARGUMENTS, "STEPS=3", "--run_dir", run))
        assert (run / "config.json").read_bytes() == before
        reads.append(call(capfd, "report", run).code)
        reads.append(call(capfd, "compare", run, run).code)

    while_logging(monkeypatch, start_another)
    assert call(capfd, "train", *ARGUMENTS, "--run_dir", run).code == 0
    (outcome,) = second
    assert outcome.code == 2
    assert outcome.err.startswith(f"vsml: {run}: process {os.getpid()} on ")
    assert outcome.err.count("\n") == 1
    assert reads == [0, 0]
    assert not (run / ".lock").exists()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_it_is_released_at_every_end(number: signal.Signals | None, tmp_path: Path, capfd, monkeypatch):
    def end() -> None:
        assert (tmp_path / "run" / ".lock").exists()
        if number is None:
            raise UserError("an error")
        os.kill(os.getpid(), number)

    while_logging(monkeypatch, end)
    outcome = call(capfd, "train", *ARGUMENTS, "--run_dir", tmp_path / "run")
    assert outcome.code == (2 if number is None else 128 + number)
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.usefixtures("compiled")
def test_a_killed_process_leaves_it_and_the_next_one_takes_it_over(tmp_path: Path, capfd):
    run = tmp_path / "run"
    process = start("train", *ARGUMENTS, "STEPS=100000", "--run_dir", run)
    while process.poll() is None and not (run / ".lock").exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert (run / ".lock").exists()
    outcome = call(capfd, "train", *ARGUMENTS, "--run_dir", run)
    assert outcome.code == 0, outcome.err
    assert f"took over the lock of process {process.pid} on " in outcome.err
