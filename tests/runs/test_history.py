"""The history of a run: what changed at which step, with which code and on what; and that the data are the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import NO_EVALUATORS, TINY, call, train

from vsml import config as configs
from vsml.runs import directory, history
from vsml.runs.directory import RunDirectory
from vsml.runs.results import Run

COSINE = ("optimizers/clipped_adam_cosine.gin", *NO_EVALUATORS)
DECAY = "train.optimizer.transforms[1].learning_rate.decay_steps"
DATA = {"": "a digest"}


def config(*overrides: str) -> configs.Config:
    return configs.load(TINY[0], [*TINY[1:], *COSINE, *overrides])


def noted(path: Path, step: int, *overrides: str, data: dict[str, str] = DATA, devices: int = 2) -> list[Any]:
    """The entries after a start at a step, as the trainer makes one."""
    run, now = RunDirectory(path), config(*overrides)
    changed = history.changes(run.saved_config(), now) if step else []
    history.note(run, step, changed, data, devices)
    run.write_config(now, history.swaps(Run(path, "run").history))
    return Run(path, "run").history


def test_a_start_that_changes_nothing_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history.time, "strftime", lambda *_: "2026-11-21 12:00:00 +0000")  # a second may pass
    first = noted(tmp_path, 0, "STEPS=6")
    assert len(first) == 1
    assert (first[0]["step"], first[0]["changes"], first[0]["data"]) == (0, [], DATA)
    assert first[0]["environment"]["packages"]["jax"]
    assert noted(tmp_path, 0, "STEPS=6") == noted(tmp_path, 4, "STEPS=6") == first
    assert [entry["step"] for entry in noted(tmp_path, 4, "STEPS=6", devices=1)] == [0, 4]
    assert "6 meta-steps" not in (tmp_path / "config.gin").read_text()


def test_a_schedule_that_is_exchanged_is_told_apart_from_one_in_one_go(tmp_path: Path):
    noted(tmp_path, 0, "STEPS=6")
    first, second = noted(tmp_path, 6, "STEPS=7", "train.log_every=3")
    assert second["changes"] == [
        {"key": DECAY, "old": 6, "new": 7, "schedule": True},
        {"key": "train.steps", "old": 6, "new": 7, "schedule": False},
        {"key": "train.log_every", "old": 10, "new": 3, "schedule": False},
    ]
    line = f"after 6 meta-steps {DECAY}: 6 -> 7"
    assert history.swaps([first, second]) == [line]
    assert (tmp_path / "config.gin").read_text().startswith(f"# {line}\n")
    assert configs.load(str(tmp_path / "config.gin")).text == config("STEPS=7", "train.log_every=3").text
    noted(tmp_path, 7, "STEPS=7")
    assert len(Run(tmp_path, "run").history) == 3
    assert history.swaps(Run(tmp_path, "run").history) == [line]


def test_more_steps_of_a_constant_learning_rate_are_the_run_in_one_go(tmp_path: Path):
    constant = "optimizers/clipped_adam.gin"
    noted(tmp_path, 0, constant, "STEPS=6")
    entries = noted(tmp_path, 6, constant, "STEPS=7")
    assert [entry["step"] for entry in entries] == [0, 6]
    assert history.swaps(entries) == []


def test_what_is_trained_again_from_an_earlier_checkpoint_counts_from_there(tmp_path: Path):
    noted(tmp_path, 0, "STEPS=6")
    noted(tmp_path, 6, "STEPS=7")
    assert [entry["step"] for entry in noted(tmp_path, 3, "STEPS=7")] == [0, 3]
    assert len(noted(tmp_path, 0, "STEPS=7")) == 1, "begun from the start"


@pytest.mark.parametrize(
    ("before", "after", "start", "said"),
    [
        (
            "STEPS=60",
            "STEPS=70",
            60,
            "the schedule of 60 meta-steps (transforms[1].learning_rate.decay_steps) had ended",
        ),
        (
            "STEPS=60",
            "STEPS=70",
            30,
            "was at 30 and is now one of 70: a run of 70 meta-steps from the start would",
        ),
        ("STEPS=60", "STEPS=70", 60, "to restart it, begin another run with train.start_from and STEPS=10"),
        ("STEPS=60", "STEPS=60", 60, ""),
    ],
)
def test_a_schedule_that_is_extended_says_so(before: str, after: str, start: int, said: str):
    shown = history.about_schedule(config(before).json, config(after), start)
    assert said in shown
    assert bool(said) == bool(shown)


def test_a_schedule_of_a_length_of_its_own_ends_and_says_so():
    own = "optax.cosine_decay_schedule.decay_steps=60"
    shown = history.about_schedule(config(own, "STEPS=60").json, config(own, "STEPS=70"), 60)
    assert shown.startswith("the schedule (transforms[1].learning_rate.decay_steps = 60) has ended, and its last value")
    constant = "optimizers/clipped_adam.gin"
    assert history.about_schedule(config(constant, "STEPS=60").json, config(constant, "STEPS=70"), 60) == ""


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_the_commit_of_the_working_directory_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    uncached = directory.commits.__wrapped__
    assert "working directory" not in uncached()
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    Path("mine.gin").write_text("STEPS = 1\n")
    for words in (("init", "-q"), ("add", "mine.gin"), ("commit", "-qm", "One")):
        subprocess.run([*git, *words], check=True)
    clean = uncached()["working directory"]
    assert len(clean) == 12
    Path("mine.gin").write_text("STEPS = 2\n")
    assert uncached()["working directory"] == f"{clean}-dirty"
    monkeypatch.setenv("PATH", "")
    assert uncached() == {}


# Whole runs.


@pytest.fixture(scope="module")
def extended(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six meta-steps, then one more; tests only look at it."""
    run = tmp_path_factory.mktemp("extended") / "run"
    for steps in (6, 7):
        train(run, *COSINE, f"STEPS={steps}")
    return run


def test_compare_and_report_tell_an_extended_run_from_a_fresh_one(extended: Path, tmp_path: Path, capfd):
    fresh = tmp_path / "fresh"
    assert call(capfd, "train", extended / "config.gin", "--run_dir", fresh).code == 0
    lines = call(capfd, "compare", extended, fresh).out.splitlines()
    assert lines[0] == "config: no difference"
    assert f"  after 6 meta-steps {DECAY}: 6 -> 7" in lines
    assert any("a run of its config from the start gives other numbers" in line for line in lines)
    assert not any("from the start" in line for line in call(capfd, "compare", fresh, fresh).out.splitlines())
    assert call(capfd, "report", extended).code == 0
    text = (extended / "report" / "report.md").read_text().replace("\\", "")
    assert "## History" in text
    assert "6 -> 7" in text
    assert "jax " in text


def test_a_run_without_history_is_read_and_gets_one(extended: Path, tmp_path: Path, capfd):
    old = Path(shutil.copytree(extended, tmp_path / "old"))
    (old / "history.jsonl").unlink()
    for meta in old.glob("checkpoints/*/meta/metadata"):
        content = json.loads(meta.read_text())
        del content["data"]
        meta.write_text(json.dumps(content))
    assert "not recorded" in call(capfd, "compare", old, extended).out
    assert call(capfd, "report", old).code == 0
    train(old, *COSINE, "STEPS=8")
    assert [entry["step"] for entry in Run(old, "old").history] == [7]


def test_data_rewritten_between_stop_and_resume_are_refused(compiled: Path, tmp_path: Path, capfd, monkeypatch):
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (60, 4, 4), np.uint8), "labels": np.arange(60) % 10}
    for file in ("before", "after"):
        np.savez(tmp_path / f"{file}.npz", **arrays)
        arrays["images"][7, 1, 2] ^= 1

    def command(file: str, *arguments: str) -> tuple[str | Path, ...]:
        # Under one name for the config, under another for what this process has read already.
        shutil.copy(tmp_path / f"{file}.npz", tmp_path / "data.npz")
        from vsml.tasks import base

        base._load_once.cache_clear()
        source = ("tasks.Classification.source=@sources.NpzFiles", "sources.NpzFiles.images=data.npz")
        fields = ("sources.NpzFiles.images_key=images", "sources.NpzFiles.labels_key=labels")
        return ("train", *TINY, *NO_EVALUATORS, *source, *fields, *arguments, "--run_dir", tmp_path / "run")

    assert call(capfd, *command("before", "STEPS=2")).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    outcome = call(capfd, *command("after", "STEPS=3"))
    assert outcome.code == 2
    assert outcome.last_line.startswith(f"vsml: {tmp_path / 'run'}: the data are not those of its first 2 meta-steps")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert call(capfd, *command("before", "STEPS=3")).code == 0
