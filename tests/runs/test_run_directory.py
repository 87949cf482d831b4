"""What a run leaves behind: exactly the documented files, and enough in them to do it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from runs import NO_EVALUATORS, TINY, assert_equal, call, final_state, metrics, summary, train

from vsml import __version__
from vsml import config as configs
from vsml.cli import show
from vsml.errors import UserError
from vsml.runs.directory import RunDirectory, differences
from vsml.runs.files import without_non_finite, write_whole
from vsml.runs.results import Run, read_metrics, read_results
from vsml.training.meta_step import init_state

ARGUMENTS = ("STEPS=4", "train.log_every=2", "train.plot_every=2", "train.checkpoint_every=1")
SCORE = {"mean", "std", "interval95"}
DESCENT = {"hidden", "learning_rate", "at_grid_edge"}
RIVALS = {
    "best_sgd": DESCENT,
    "best_adam": DESCENT,
    "nearest_class_mean": set(),
    "nearest_neighbour": set(),
    "best_rls": {"features", "ridge", "at_grid_edge"},
}
"""By their keys in `summary.json`, with what is told of them."""


@pytest.fixture(scope="module")
def run(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with both evaluators of the quickstart and the smallest of baselines; tests only look at it."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train(
        directory,
        *ARGUMENTS,
        "evaluators.OnlineAccuracy.baselines=@evaluators.Baselines",
        "evaluators.Baselines.hidden=[0]",
        "evaluators.Baselines.sgd_learning_rates=[0.01,0.1]",
        "evaluators.Baselines.adam_learning_rates=[0.001,0.01]",
    )
    return directory


def test_it_holds_what_is_documented_and_nothing_else(run: Path):
    assert len([path for path in run.glob("events.out.tfevents.*") if path.stat().st_size]) == 1
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {
        "config.gin",
        "operative_config.gin",
        "config.json",
        "environment.json",
        "summary.json",
        "metrics.jsonl",
        "evaluations.jsonl",
        "history.jsonl",
        "checkpoints",
        "evaluations",
    }
    assert {path.name for path in (run / "evaluations").iterdir()} == {"digits_projected.npz", "digits_plain.npz"}
    kept = {int(path.name) for path in (run / "checkpoints").iterdir()}
    assert {3, 4} <= kept
    assert len(kept) <= 3  # the newest two, and the best


def test_the_summary_keeps_its_contract(run: Path):
    content = summary(run)
    assert list(content) == [
        "recipe",
        "seed",
        "meta_steps",
        "seconds",
        "devices",
        "num_meta_parameters",
        "num_learned_variables",
        "peak_memory_bytes",
        "evaluations",
    ]
    assert content["peak_memory_bytes"]["host"] > 1e8
    assert content["peak_memory_bytes"]["device"] is None
    assert content["recipe"] == "recipes/quickstart.gin"
    assert (content["seed"], content["meta_steps"], content["devices"]) == (0, 4, 4)
    assert content["seconds"] > 0
    assert content["num_meta_parameters"] == (4 + 16) * 16 + 16 + 2 * (4 * 8 + 8)  # gates, two heads
    assert content["num_learned_variables"] == 64 * 10 * (4 + 4)
    assert list(content["evaluations"]) == ["digits_projected", "digits_plain"]
    for evaluation in content["evaluations"].values():
        assert set(evaluation) == {
            "examples",
            "data",
            "different_examples",
            "fingerprint",
            "relation",
            "lifetimes",
            "cumulative_accuracy",
            "final_accuracy",
            "loss",
            "chance",
            "baselines",
            "headline",
            "scores",
            "curves",
            "note",
        }
        assert (evaluation["data"], evaluation["relation"]) == ("digits, split test", "held out")
        assert evaluation["headline"] == "cumulative_accuracy"
        assert set(evaluation["scores"]) == {"cumulative_accuracy", "final_accuracy", "loss"}
        assert set(evaluation["curves"]) == {"correct", "loss"}
        assert (evaluation["examples"], evaluation["lifetimes"], evaluation["chance"]) == (10, 4, 0.1)
        assert list(evaluation["baselines"]) == list(RIVALS)
        for score in ("cumulative_accuracy", "final_accuracy"):
            assert set(evaluation[score]) == SCORE
            assert all(set(rival[score]) == SCORE | {"paired"} for rival in evaluation["baselines"].values())
        for name, facts in RIVALS.items():
            assert facts <= set(evaluation["baselines"][name])


def test_curves_belong_to_the_summary(run: Path):
    scores = summary(run)["evaluations"]["digits_plain"]
    with np.load(run / "evaluations" / "digits_plain.npz") as curves:
        assert set(curves) >= {"correct", "loss", "best_sgd_correct", "best_adam_correct"}
        assert curves["correct"].shape == (4, 10)
        assert curves["correct"].mean() == pytest.approx(scores["cumulative_accuracy"]["mean"])
        best = scores["baselines"]["best_sgd"]["cumulative_accuracy"]["mean"]
        assert curves["best_sgd_correct"].mean() == pytest.approx(best)


def test_the_table_shows_the_summary(run: Path):
    content = summary(run)
    table = show(content)
    assert table.splitlines()[0].startswith("recipes/quickstart.gin: 4 meta-steps in ")
    assert "|V_M| = 416, |V_L| = 5,120" in table
    for evaluation in content["evaluations"].values():
        assert f"{evaluation['cumulative_accuracy']['mean']:.3f}" in table
        assert f"{evaluation['baselines']['best_adam']['cumulative_accuracy']['mean']:.3f}" in table


def test_metrics_have_one_line_per_logged_step(run: Path):
    entries = metrics(run)
    assert [entry["step"] for entry in entries] == [2, 4]
    for entry in entries:
        assert set(entry) == {
            "step",
            "loss",
            "accuracy",
            "smoothed_loss",
            "gradient_norm",
            "update_norm",
            "parameter_norm",
            "skipped",
            "skipped_in_row",
        }
    assert entries[0]["loss"] == pytest.approx(np.log(10), rel=0.2)  # of guessing
    params = jax.tree.leaves(final_state(run)[1][0].params)
    norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in params))
    assert entries[-1]["parameter_norm"] == pytest.approx(norm, rel=1e-5)


def test_the_environment_is_noted(run: Path):
    content = json.loads((run / "environment.json").read_text())
    assert content["vsml"] == __version__
    assert content["packages"]["jax"] == jax.__version__
    assert len(content["devices"]) == 4


def test_the_saved_config_does_the_run_again_bit_for_bit(run: Path, tmp_path: Path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = call(capfd, "train", run / "config.gin", "EVALUATORS=[]", "--run_dir", tmp_path / "again")
    assert outcome.code == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    again, before = (json.loads((path / "config.json").read_text())["train"] for path in (tmp_path / "again", run))
    assert {**again, "evaluators": 0} == {**before, "evaluators": 0}


def test_the_operative_config_does_the_run_again(run: Path, tmp_path: Path, capfd):
    arguments = ("EVALUATORS=[]", "STEPS=2", "--run_dir", tmp_path / "again")
    assert call(capfd, "train", run / "operative_config.gin", *arguments).code == 0
    assert metrics(tmp_path / "again") == metrics(run)[:1]


def test_another_seed_is_another_start():
    first, same, other = (init_state(config(f"SEED={seed}").build()).params for seed in (0, 0, 1))
    assert_equal(first, same)
    for one, another in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        assert not one.any() or (one != another).all()


def test_the_default_directory_is_named_like_the_recipe(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    outcome = call(capfd, "train", *TINY, *NO_EVALUATORS, "STEPS=1")
    assert outcome.code == 0
    assert summary(tmp_path / "runs" / "quickstart")["evaluations"] == {}


def config(*overrides: str) -> configs.Config:
    return configs.load(TINY[0], [*TINY[1:], "STEPS=10", *overrides])


@pytest.mark.parametrize(
    ("change", "allowed", "refused"),
    [
        ((), [], []),
        (("STEPS=20",), ["train.steps: 10 -> 20"], []),
        (("train.checkpoint_every=7",), ["train.checkpoint_every: 100 -> 7"], []),
        (("train.plot_every=7",), ["train.plot_every: 100 -> 7"], []),
        (("train.max_non_finite=7",), ["train.max_non_finite: 20 -> 7"], []),
        (
            ("evaluators.OnlineAccuracy.seed=7",),
            ["train.evaluators[0].seed: 0 -> 7", "train.evaluators[1].seed: 0 -> 7"],
            [],
        ),
        (("meta_optimizers.BPTT.chunk=2",), ["train.meta_optimizer.chunk: None -> 2"], []),
        (("meta_optimizers.BPTT.segment=2",), ["train.meta_optimizer.segment: None -> 2"], []),
        (("train.parallel=shard_map",), ["train.parallel: 'pmap' -> 'shard_map'"], []),
        (("meta_optimizers.BPTT.clip=2.0",), [], ["train.meta_optimizer.clip: 1.0 -> 2.0"]),
        (("train.start_from=runs/other@300",), [], ["train.start_from: None -> 'runs/other@300'"]),
        (("train.precision=bfloat16",), [], ["train.precision: 'float32' -> 'bfloat16'"]),
        (("SEED=7",), [], ["train.seed: 0 -> 7"]),
        (("STEPS=8", "POPULATION=8"), ["train.steps: 10 -> 8"], ["train.population: 4 -> 8"]),
    ],
)
def test_what_may_change(change: tuple[str, ...], allowed: list[str], refused: list[str]):
    assert differences(config().json, config(*change)) == (allowed, refused)


def test_only_a_schedule_follows_the_steps():
    cosine = ("optimizers/clipped_adam_cosine.gin",)
    followed, refused = differences(config(*cosine).json, config(*cosine, "STEPS=20"))
    assert refused == []
    assert [line.rpartition(": ")[2] for line in followed] == ["10 -> 20", "10 -> 20"]
    saved = config("cells.LSTM.size=10").json
    assert differences(saved, config("STEPS=20", "cells.LSTM.size=20"))[1] == ["train.learner.cell.size: 10 -> 20"]


MARKED = """
from dataclasses import dataclass, field
from vsml.cells import LSTM
from vsml.fields import MAY_CHANGE

@dataclass(frozen=True)
class Blocked(LSTM):
    block: int = field(default=8, metadata=MAY_CHANGE)
    blocks: int = 8
"""


def test_a_part_of_ones_own_marks_its_fields(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marked_cells.py").write_text(MARKED)
    (tmp_path / "blocked.gin").write_text("import marked_cells\nCELL = @cells.Blocked()\n")
    saved = config("blocked.gin").json
    changed = config("blocked.gin", "cells.Blocked.block=4", "cells.Blocked.blocks=4", "cells.Blocked.size=5")
    assert differences(saved, changed) == (
        ["train.learner.cell.block: 8 -> 4"],
        ["train.learner.cell.size: 16 -> 5", "train.learner.cell.blocks: 8 -> 4"],
    )


def test_an_infinite_setting_survives_the_json(tmp_path: Path):
    """JSON has no infinity; what is read back still equals what was written."""
    infinite = config("optax.clip_by_global_norm.max_norm=1e999")
    RunDirectory(tmp_path).write_config(infinite)
    assert differences(RunDirectory(tmp_path).saved_config(), infinite) == ([], [])
    finite = differences(RunDirectory(tmp_path).saved_config(), config("optax.clip_by_global_norm.max_norm=2.0"))
    assert finite[1] == ["train.optimizer.transforms[0].max_norm: 'inf' -> 2.0"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"recipe": "x"}', "\xff"])
def test_a_damaged_config_is_named(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        UserError, match=r"config\.json: cannot be read \(.+\): restore it, or choose another --run_dir"
    ):
        RunDirectory(tmp_path).saved_config()


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        read()
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"recipe"', "Expecting ':' delimiter"),
        ("[1]", "it is [1], not an object"),
        ('{"recipe": 7}', "it has no meta_steps"),
        ("null", "it is null, not an object"),
        (None, 'meta_steps is "many", not int'),
        ({"mean": 1.0, "std": 1.0}, "evaluations.digits.accuracy has no interval95"),
        ({"mean": "much", "std": 1.0, "interval95": 1.0}, 'evaluations.digits.accuracy.mean is "much", not float or'),
    ],
)
def test_a_summary_of_another_shape_is_named(tmp_path: Path, content: Any, problem: str):
    assert Run(tmp_path, "run").summary is None
    whole = {"recipe": "x", "seconds": 1, "devices": 1, "num_meta_parameters": 1, "num_learned_variables": 1}
    if not isinstance(content, str):
        evaluation = {"lifetimes": 4, "headline": "accuracy", "accuracy": content, "baselines": {}}
        steps = "many" if content is None else 1
        content = json.dumps({**whole, "meta_steps": steps, "evaluations": {"digits": evaluation}})
    (tmp_path / "summary.json").write_text(content)
    line = refusal(lambda: Run(tmp_path, "run").summary)
    assert line.startswith(f"{tmp_path}/summary.json: cannot be read ({problem}")
    assert line.endswith("): restore it, or delete it and give the command of this run again")


def test_lines_of_metrics_that_are_none_are_named(tmp_path: Path):
    metrics = tmp_path / "metrics.jsonl"
    for content, problem in (
        ('{"step": 1}\n[2]\n', "line 2: cannot be read (it is [2], not an object)"),
        ('{"step": "1"}\n', 'line 1: cannot be read (step is "1", not int)'),
        ('{"step": 1}\n{"loss": 2.0}\n', "line 2: cannot be read (it has no step)"),
        ('{"step": 1, "loss": {}}\n', "line 1: cannot be read (loss is {}, not float or None)"),
        ('{"step": 1}\n{"st\n{"step": 3}\n', "line 2: cannot be read (Invalid control"),
    ):
        metrics.write_text(content)
        assert refusal(lambda: read_metrics(metrics)).startswith(f"{metrics} {problem}")
    for cut in ('{"st', '{"st\n', '{"step": 2}'):  # by a crash
        metrics.write_text('{"step": 1, "loss": null}\n' + cut)
        assert read_metrics(metrics) == [{"step": 1, "loss": None}]


def test_descriptions_of_sweeps_and_points_of_another_shape_are_named(tmp_path: Path):
    (tmp_path / "sweep.json").write_text('{"axes": {}}')
    assert "sweep.json: cannot be read (it has no file)" in refusal(lambda: read_results(tmp_path))
    (tmp_path / "sweep.json").write_text('{"a')
    assert "sweep.json: cannot be read (Unterminated" in refusal(lambda: read_results(tmp_path))
    run = RunDirectory(tmp_path)
    (tmp_path / "point.json").write_text('{"hyperparameters": [1]}')
    assert "point.json: cannot be read (hyperparameters is [1]" in refusal(lambda: run.hyperparameters(config()))
    (tmp_path / "point.json").unlink()
    assert run.hyperparameters(config())["SEED"] == 0


def test_what_is_not_finite_is_null(tmp_path: Path):
    content = {"a": float("nan"), "b": [float("inf"), 1.5, {"c": -float("inf")}], "d": "nan", "e": None, "f": True}
    assert without_non_finite(content) == {"a": None, "b": [None, 1.5, {"c": None}], "d": "nan", "e": None, "f": True}
    RunDirectory(tmp_path).write_json("x.json", content)
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)["a"] is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "before")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fails)
        with pytest.raises(UserError, match=r"file: cannot be written \(No space left on device\): free space"):
            write_whole(path, "after")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_directory_below_a_file_cannot_be(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\): choose another --run_dir"):
        RunDirectory(tmp_path / "file" / "run").create()
