"""What other tests check of programs that compile quickly, once more with the compiler options that users run with."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from plain import plain_lifetime
from runs import NO_EVALUATORS, assert_same_run, metrics, train
from stepping import live

from vsml.cells import GRU, LSTM
from vsml.hardware import compiler_options
from vsml.learners import VSML
from vsml.tasks import TaskSpec

pytestmark = pytest.mark.usefixtures("optimised", "compiled")


@pytest.mark.parametrize("differentiates", [False, True])
def test_the_plain_twin(differentiates: bool):
    """A network of 5,000 sub-RNNs, whose blocks are more than one."""
    cell = LSTM(size=3, gate_offset=1.0) if differentiates else GRU(size=3)
    learner = VSML(cell, hidden=(50,), message_size=3, reduction="sqrt", feedback="backward_pass", feed_label=True)
    spec, rng = TaskSpec((90,), 10, length=2), np.random.default_rng(0)
    # Draws of this generator compile in a tenth of the time that the default one's take.
    params = learner.init(jax.random.key(0, impl="rbg"), spec)
    state = learner.initial_state(params, jax.random.key(1, impl="rbg"), spec)
    x = rng.standard_normal((2, 1, 90)).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, (2, 1))]
    program = jax.jit(lambda *lifetime: live(learner, *lifetime).outputs).lower(params, state, x, y)
    outputs = program.compile(compiler_options=compiler_options(differentiates))(params, state, x, y)
    expected, _ = plain_lifetime(learner, params, state, x, y)
    np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "estimator",
    [pytest.param((), id="bptt"), pytest.param(("meta_optimizers/es.gin",), id="es", marks=pytest.mark.slow)],
)
def test_resuming_and_numbers_of_devices(tmp_path: Path, estimator: tuple[str, ...]):
    arguments = (*estimator, *NO_EVALUATORS, "train.log_every=1", "train.checkpoint_every=1")
    whole, resumed, wide = tmp_path / "whole", tmp_path / "resumed", tmp_path / "wide"
    train(whole, *arguments, "STEPS=4", "--devices", "2")
    for steps in (2, 4):
        train(resumed, *arguments, f"STEPS={steps}", "--devices", "2")
    assert_same_run(whole, resumed)
    train(wide, *arguments, "STEPS=4", "--devices", "4")
    for new, old in zip(metrics(wide), metrics(whole), strict=True):
        assert [new[name] for name in ("loss", "gradient_norm")] == pytest.approx(
            [old[name] for name in ("loss", "gradient_norm")], rel=1e-4
        )
