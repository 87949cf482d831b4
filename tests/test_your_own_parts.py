"""The parts that the documentation shows work as they stand there, from outside the package."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
import pytest
from runs import NO_EVALUATORS, TINY, call, events, metrics, start, summary

from vsml.cells import Bilinear
from vsml.config import load
from vsml.evaluation import Online
from vsml.learners import VSML, GradientDescent, Learner, MetaRNN
from vsml.objectives import OnlineMean
from vsml.runs.results import Run
from vsml.runs.saved import newest_step
from vsml.tasks import TaskDistribution
from vsml.training.lifetimes import TaskLifetimes

PAGE = Path(__file__).parents[1] / "docs" / "your_own_parts.md"
LINES = 60
"""What the documentation may take to show a part."""
TINY_TASKS = ("plain/tasks.HeldOut.length=10", "evaluators.Speed.lifetimes=4", "train.evaluate_every=2")
SWEEP = """\
include "recipes/quickstart.gin"
include "speed.gin"
axes.cells.LSTM.size = [4, 5]
"""


PATHS = os.pathsep.join((str(Path(__file__).parents[1]), "."))


def wait_for(condition: Callable[[], bool], process: Any, seconds: float = 240) -> None:
    """Waits until something holds of a process that runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


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
    assert names >= {f"my_{part}.py" for part in ("cells", "regression", "bandit", "objectives", "evaluators")}
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
    assert lines[1:4] == [
        "steps to",
        "halve std fall (nats) std",
        "speed: 4 lifetimes of 10 examples, digits, split test, held out",
    ]
    found = summary(run)["evaluations"]["speed"]
    assert list(found["scores"]) == ["fall", "steps_to_halve"]
    assert 0 <= found["steps_to_halve"]["mean"] <= 10
    assert [entry["step"] for entry in Run(run, run.name).interim] == [2]

    shown = events(run)
    scalars = {tag for tag in shown.Tags()["scalars"] if "speed" in tag}
    assert scalars == {"headline/steps_to_halve/speed", "meta_test/fall/speed"}
    assert [event.step for event in shown.Scalars("meta_test/fall/speed")] == [2, 4]
    assert len([tag for tag in shown.Tags()["images"] if tag.endswith("/speed")]) == 1

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


WORLD = ("bandit.gin", "quiet.gin", "leaky.gin")
"""A task with a world, an objective on messages and a cell, all at once."""
VALUES = ("sinusoids.gin", "learners/meta_rnn.gin")


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("parts", "headline"), [(WORLD, "cumulative_reward"), (VALUES, "final_squared_error")])
def test_other_parts_go_all_the_way(files: Path, capfd: pytest.CaptureFixture[str], parts, headline):
    """Trained, killed, resumed, evaluated, reported and swept over."""
    tiny = ["recipes/quickstart.gin", "optimizers/clipped_adam.gin", *parts, "LENGTH=6", "POPULATION=4"]
    run, small = files / "run", ("unseen/evaluators.Online.lifetimes=4", "train.checkpoint_every=1")
    killed = start("train", *tiny, *small, "STEPS=100000", "--run_dir", run, cwd=files, PYTHONPATH=PATHS)
    wait_for(lambda: (newest_step(run / "checkpoints") or 0) >= 2, killed)
    killed.kill()
    killed.communicate()

    done = newest_step(run / "checkpoints")
    assert done is not None
    outcome = call(capfd, "train", *tiny, *small, f"STEPS={done + 3}", "train.log_every=1", "--run_dir", run)
    assert outcome.code == 0, outcome.err
    assert f"resumed after {done} meta-steps" in outcome.err
    assert [entry["step"] for entry in metrics(run)][-3:] == [done + 1, done + 2, done + 3]
    assert all(entry["update_norm"] > 0 for entry in metrics(run)[-3:])
    name = {"cumulative_reward": "bandits", "final_squared_error": "sinusoids"}[headline]
    found = summary(run)["evaluations"][name]
    assert found["headline"] == headline

    outcome = call(capfd, "eval", run, "unseen/evaluators.Online.lifetimes=3")
    assert outcome.code == 0, outcome.err
    assert f"{name}: 3 lifetimes" in outcome.out
    shown = events(run).Tags()
    assert f"headline/{headline}/{name}" in shown["scalars"]
    own = {"message_size", "prediction_loss"} if parts == WORLD else {"squared_error"}
    assert own <= set(metrics(run)[-1])
    assert {f"headline/{metric}/meta-training" for metric in own} <= set(shown["scalars"])
    assert any(tag.endswith("/meta-training") for tag in shown["images"])
    assert call(capfd, "report", run).code == 0
    assert headline.replace("_", " ") in (run / "report" / "report.md").read_text()

    includes = "".join(f'include "{part}"\n' for part in parts)
    (files / "own.gin").write_text(f'include "recipes/quickstart.gin"\n{includes}axes.SEED = [1]\n')
    swept = ["optimizers/clipped_adam.gin", "LENGTH=6", "POPULATION=4", *small, "STEPS=2"]
    assert call(capfd, "sweep", "own.gin", *swept, "--index", "0").code == 0
    outcome = call(capfd, "sweep", "own.gin", *swept)
    assert "1 of 1 points are finished already" in outcome.err
    assert call(capfd, "report", files / "runs" / "own").code == 0
    assert headline.replace("_", " ") in (files / "runs" / "own" / "report" / "report.md").read_text()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _meta_train(learner: Learner, tasks: TaskDistribution) -> Any:
    """Losses of 150 meta-steps by backprop, each of eight lifetimes."""
    lifetimes = TaskLifetimes(learner, tasks, OnlineMean(), data=())
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    params = learner.init(jax.random.key(0), tasks.spec)

    def loss(params: Any, key: Any) -> Any:
        keys = jax.random.split(key, 8)
        return jax.vmap(lambda key: lifetimes.loss(params, key, tasks.spec.length)[0])(keys).mean()

    def meta_step(carry: Any, key: Any) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(jax.random.key(1), 150)
    return jax.lax.scan(meta_step, (params, optimizer.init(params)), keys)[1]


@pytest.mark.parametrize("name", ["VSML", "Meta RNN"])
def test_regression_is_meta_learned(files: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.syspath_prepend(files)
    learner: Learner = MetaRNN(hidden_size=32, micro_ticks=1)
    if name == "VSML":  # begun from backprop, which leaves no plateau to cross
        cell = Bilinear(size=4, rank=12, start="backprop", learning_rate=0.1, bias_learning_rate=1e-3)
        learner = VSML(
            cell, message_size=2, micro_ticks=1, reduction="sum", feedback="backward_pass", clear_feedback=True
        )
    losses = _meta_train(learner, importlib.import_module("my_regression").Sinusoids())
    assert losses[-20:].mean() < 0.75 * losses[:10].mean()


def test_gradient_descent_learns_a_sinusoid(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(files)
    tasks = importlib.import_module("my_regression").Sinusoids(length=100)
    evaluation = Online("sinusoids", tasks, lifetimes=16).run(GradientDescent(optax.sgd(0.3)), {})
    error = evaluation.curves["squared_error"].mean(axis=0)
    assert error[-20:].mean() < 0.4 * error[:10].mean()


def test_an_evaluator_that_does_not_fit_the_learner_is_one_line(files: Path, capfd: pytest.CaptureFixture[str]):
    """A learner that reads rewards cannot be tested on digits, which shows before anything is trained."""
    arguments = ["recipes/quickstart.gin", "bandit.gin", "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]", "LENGTH=6"]
    arguments += ["plain/evaluators.OnlineAccuracy.tasks=@digits/tasks.Classification"]
    arguments += ["digits/tasks.Classification.source=@sources.Digits"]
    for more in ((), ("--dry_run",)):
        outcome = call(capfd, "train", *arguments, *more, "--run_dir", files / "run")
        assert outcome.code == 2
        assert "evaluator digits_plain" in outcome.last_line
        assert "learns from the reward, but these tasks give error and target" in outcome.last_line
    assert not (files / "run").exists()
