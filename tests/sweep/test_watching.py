"""What is shown of points that run in other processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vsml.sweep.watching import STARTING, progress, shown_name


def write(path: Path, text: str, at: float) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def entry(step: int, **more: float | None) -> str:
    return json.dumps({"step": step, "loss": 0.5, "accuracy": 0.25, "gradient_norm": 3.0, "skipped": 0, **more}) + "\n"


def now(run: Path, since: float = 0.0, log_from: int = 0, width: int = 60) -> str:
    return progress(run, 700, since, log_from, width)


def test_a_point_that_has_said_nothing_yet(tmp_path: Path):
    assert now(tmp_path / "none") == STARTING
    write(tmp_path / "output.log", "recipes/quickstart.gin: 700 meta-steps\n", at=50)
    assert now(tmp_path) == STARTING


def test_the_newer_file_says_what_it_does(tmp_path: Path):
    log, metrics = tmp_path / "output.log", tmp_path / "metrics.jsonl"
    write(log, "run directory\ncompiling the first meta-step\n", at=100)
    assert now(tmp_path) == "compiling the first meta-step"
    write(metrics, entry(300) + entry(310), at=101)
    assert now(tmp_path) == "step 310/700  44%  loss 0.500  accuracy 0.250"
    write(log, "evaluating digits_plain 12/32\n\na table\n", at=102)
    assert now(tmp_path) == "evaluating digits_plain 12/32"
    assert now(tmp_path, width=10) == "evaluating"


def test_what_an_earlier_start_wrote_does_not_count(tmp_path: Path):
    before = "step 300/700\nvsml: it failed\n"
    write(tmp_path / "metrics.jsonl", entry(300), at=101)
    write(tmp_path / "output.log", f"{before}resumed after 300 meta-steps\n", at=202)
    assert now(tmp_path, 200.0, len(before)) == STARTING
    write(tmp_path / "output.log", f"{before}compiling the first meta-step\n", at=203)
    assert now(tmp_path, 200.0, len(before)) == "compiling the first meta-step"


@pytest.mark.parametrize("rest", ['{"step": 31', "\0\0", "{]\n", "3\n", "{}\n"])
def test_a_line_that_is_being_written_is_left_out(tmp_path: Path, rest: str):
    (tmp_path / "metrics.jsonl").write_text(entry(1) * 1000 + entry(300, accuracy=None) + rest)
    assert now(tmp_path, time.time() - 60) == "step 300/700  42%  loss 0.500  accuracy nan"


def test_the_end_of_a_long_name_stays():
    assert shown_name("learner=VSML,seed=0", 40) == "learner=VSML,seed=0"
    assert shown_name("learner=VSML,seed=0", 10) == "...,seed=0"
