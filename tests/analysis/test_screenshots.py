"""TensorBoard and the report as a browser draws them; `docs/screenshots.py` says what it looks for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from runs_on_disk import write_run

from vsml.evaluation import Evaluation, Measure
from vsml.training.writers import TensorBoard, compared_by

SCRIPT = Path(__file__).parents[2] / "docs" / "screenshots.py"
MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
MISSING += [] if find_spec("selenium") else ["selenium"]


def write_board(run: Path) -> None:
    curves = {"correct": np.random.default_rng(0).uniform(size=(4, 40))}
    measures = {"accuracy": Measure(limits=(0.0, 1.0), chance=0.1)}
    with closing(TensorBoard(run, 0)) as board:
        for step in range(10, 31, 10):
            found = Evaluation(
                "digits", {"accuracy": np.linspace(0.1, step / 40, 4)}, "accuracy", {}, curves, {}, measures
            )
            board.scalars(step, {"loss": 2.3 - step / 20, "accuracy": step / 60, "gradient_norm": 1.0})
            board.plots(step, {"accuracy_curve": np.linspace(0.1, step / 40, 40)}, {"w": np.linspace(-1, 1, 50)})
            board.evaluation(step, found)
        compared = compared_by([{"step": 30, "loss": 1.0, "accuracy": 0.5}], {"digits": found.summary})
        board.config("SEED = 0", {"SEED": 0, "STEPS": 30, "CELL": "@cells.LSTM()"}, compared)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")
def test_tensorboard_and_the_report_are_drawn(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    write_board(tmp_path / "run")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), "--out", str(tmp_path / "shots")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tabs = {"timeseries", "scalars", "images", "text", "histograms", "distributions", "hparams"}
    shots = {path.stem: matplotlib.image.imread(path) for path in (tmp_path / "shots").glob("*.png")}
    assert set(shots) == tabs | {"report", "report_phone", "report_dark"}
    assert shots["report_phone"].shape[1] == 390
    assert shots["report_dark"][..., :3].mean() < 0.3 < 0.7 < shots["report"][..., :3].mean()
    assert all(shot.std() > 0.02 for shot in shots.values())
