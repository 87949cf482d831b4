"""What the benchmark compares is the same computation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import run  # pyright: ignore[reportMissingImports]

    return run


@pytest.mark.parametrize("estimator", ["ES", "BPTT"])
def test_the_plain_twin_takes_the_same_meta_steps(bench, estimator: str):
    # Not Adam, which divides rounding by the size of the gradient.
    descent = ("OPTIMIZER=@optax.sgd()", "optax.sgd.learning_rate=0.1")
    real = bench.experiment(estimator, "64", "LENGTH=4", "POPULATION=2", "cells.LSTM.size=5", *descent)
    steps = [bench.Step(of, 1) for of in (real, bench.plain_twin(real))]
    losses = [[step.loss, step.run(), step.run()] for step in steps]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    params = [jax.device_get(step.params) for step in steps]
    # ES divides rounding by sigma.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *params)


def test_it_prints_tables_and_writes_json(tmp_path: Path):
    file = tmp_path / "bench.json"
    command = [sys.executable, "benchmarks/run.py", "--only", "ceilings", "--runs", "1", "--json", str(file)]
    outcome = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert "| forward bound, M ticks/s |" in outcome.stdout
    assert json.loads(file.read_text())["ceilings"]["tanh_per_second_g"] > 0
