"""The part that the documentation shows trains as it stands there, from outside the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from runs import NO_EVALUATORS, TINY, call, metrics

from vsml.config import load

PAGE = Path(__file__).parents[1] / "docs" / "your_own_parts.md"
LINES = 30
"""What the documentation may take to show a cell."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two files of the page, in a working directory of their own."""
    module, gin_file = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "my_cells.py").write_text(module)
    (tmp_path / "leaky.gin").write_text(gin_file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_cells", raising=False)
    return tmp_path


def test_it_is_short(files: Path):
    for name in ("my_cells.py", "leaky.gin"):
        assert len((files / name).read_text().splitlines()) <= LINES, name


@pytest.mark.usefixtures("compiled")
def test_it_trains(files: Path, capfd: pytest.CaptureFixture[str]):
    tiny = [word for word in (*TINY, *NO_EVALUATORS) if not word.startswith(("cells.", "projected/", "plain/", "eval"))]
    outcome = call(capfd, "train", *tiny, "leaky.gin", "STEPS=3", "cells.Leaky.leak=0.3", "--run_dir", files / "run")
    assert outcome.code == 0, outcome.err
    assert all(entry["update_norm"] > 0 for entry in metrics(files / "run"))
    cell = load(str(files / "run" / "config.gin")).build().learner.cell  # pyright: ignore[reportAttributeAccessIssue]
    assert (type(cell).__module__, cell.size, cell.leak) == ("my_cells", 24, 0.3)
