"""The parts that the documentation shows work as they stand there, from outside the package."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from runs import NO_EVALUATORS, TINY, call, events, metrics, summary

from vsml.config import load
from vsml.training.writers import read_metrics

PAGE = Path(__file__).parents[1] / "docs" / "your_own_parts.md"
LINES = 30
"""What the documentation may take to show a part."""
TINY_TASKS = ("plain/tasks.Classification.length=10", "evaluators.Speed.lifetimes=4", "train.evaluate_every=2")
SWEEP = """\
include "recipes/quickstart.gin"
include "speed.gin"
axes.cells.LSTM.size = [4, 5]
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, in a working directory of their own."""
    named = r"`(\w+\.(?:py|gin))`[^`]*?:\n\n```python\n(.*?)```"
    for name, text in re.findall(named, PAGE.read_text(), flags=re.DOTALL):
        (tmp_path / name).write_text(text)
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_they_are_short(files: Path):
    names = {path.name for path in files.iterdir()}
    assert names >= {"my_cells.py", "leaky.gin", "my_evaluators.py", "speed.gin"}
    for name in names:
        assert len((files / name).read_text().splitlines()) <= LINES, name


@pytest.mark.usefixtures("compiled")
def test_a_cell_trains(files: Path, capfd: pytest.CaptureFixture[str]):
    tiny = [word for word in (*TINY, *NO_EVALUATORS) if not word.startswith(("cells.", "projected/", "plain/", "eval"))]
    outcome = call(capfd, "train", *tiny, "leaky.gin", "STEPS=3", "cells.Leaky.leak=0.3", "--run_dir", files / "run")
    assert outcome.code == 0, outcome.err
    assert all(entry["update_norm"] > 0 for entry in metrics(files / "run"))
    cell = load(str(files / "run" / "config.gin")).build().learner.cell  # pyright: ignore[reportAttributeAccessIssue]
    assert (type(cell).__module__, cell.size, cell.leak) == ("my_cells", 24, 0.3)


@pytest.mark.usefixtures("compiled")
def test_an_evaluator_works_from_training_to_report(files: Path, capfd: pytest.CaptureFixture[str]):
    """Two scores of its own, no accuracy: trained with, shown, evaluated again, reported, compared and swept over."""
    tiny = [word for word in TINY if not word.startswith(("projected/", "plain/", "evaluators."))]
    run = files / "run"
    outcome = call(capfd, "train", *tiny, "speed.gin", *TINY_TASKS, "STEPS=4", "--run_dir", run)
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[1:4] == ["steps to", "halve std fall (nats) std", "speed: 4 lifetimes of 10 examples"]
    found = summary(run)["evaluations"]["speed"]
    assert list(found["scores"]) == ["fall", "steps_to_halve"]
    assert 0 <= found["steps_to_halve"]["mean"] <= 10
    assert [entry["step"] for entry in read_metrics(run / "evaluations.jsonl")] == [2]

    scalars = set(events(run / "eval").Tags()["scalars"])
    assert scalars == {"meta_test/speed/steps_to_halve", "meta_test/speed/fall"}
    assert [event.step for event in events(run / "eval").Scalars("meta_test/speed/fall")] == [2, 4]
    assert len(events(run).Scalars("meta_test/speed/steps_to_halve")) == 1, "beside the hyperparameters"
    assert len(events(run / "eval").Images("meta_test/speed/learning_curve")) == 1

    outcome = call(capfd, "eval", run, "evaluators.Speed.lifetimes=3")
    assert outcome.code == 0, outcome.err
    assert "speed: 3 lifetimes of 10 examples" in outcome.out

    assert call(capfd, "report", run).code == 0
    page = (run / "report" / "report.md").read_text()
    assert "| run | seeds | steps to halve | p | fall (nats) | p |" in page
    assert "(held_out_speed.svg)" in page
    assert "(curve_speed.svg)" in page

    (files / "my_sweep.gin").write_text(SWEEP)
    swept = [word for word in tiny[1:] if not word.startswith("cells.")]
    for index in ("0", "1"):
        outcome = call(capfd, "sweep", "my_sweep.gin", *swept, *TINY_TASKS, "STEPS=4", "--index", index)
        assert outcome.code == 0, outcome.err
    outcome = call(capfd, "sweep", "my_sweep.gin", *swept, *TINY_TASKS, "STEPS=4")
    assert "2 of 2 points are finished already" in outcome.err
    points = files / "runs" / "my_sweep"
    assert call(capfd, "report", points).code == 0
    assert "steps to halve" in (points / "report" / "report.md").read_text()
    first, second = points / "size=4", points / "size=5"
    assert json.loads((first / "summary.json").read_text())["evaluations"] == summary(run)["evaluations"]
    outcome = call(capfd, "compare", first, second)
    assert "speed: steps to halve" in outcome.out
