"""Meta-parameters that leave a run: exported, evaluated elsewhere, and gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import (
    NO_EVALUATORS,
    TINY,
    Outcome,
    assert_equal,
    assert_same_run,
    call,
    final_state,
    metrics,
    summary,
    train,
    without_memory,
)

from vsml import __version__
from vsml import config as configs
from vsml.errors import UserError
from vsml.runs import sources
from vsml.runs.meta_parameters import MetaParameters, by_name
from vsml.runs.saved import find_step
from vsml.training.meta_step import init_state
from vsml.training.starting import read_start

pytestmark = pytest.mark.usefixtures("compiled")

ONE_EVALUATOR = "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]"
STILL = ("optax.adam.learning_rate=0.0", *NO_EVALUATORS)
"""Meta-training that leaves the meta-parameters as they begin."""


@pytest.fixture(scope="module")
def trained(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three meta-steps; tests look at it or work on copies."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    train(directory, "STEPS=3", "train.checkpoint_every=1", "optax.adam.learning_rate=0.1", ONE_EVALUATOR)
    return directory


@pytest.fixture(scope="module")
def file(trained: Path) -> Path:
    """What it exports."""
    path = trained.with_name("exported.npz")
    sources.export(trained, path)
    return path


def one_line(outcome: Outcome) -> str:
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    return outcome.err.removeprefix("vsml: ").strip()


# The file.


def test_an_exported_file_is_small_and_needs_numpy_alone(trained: Path, tmp_path: Path, capfd):
    path = tmp_path / "new" / "vsml.npz"
    outcome = call(capfd, "export", trained, path)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{path}: 416 meta-parameters after 3 meta-steps, sha256 ")
    assert [entry.name for entry in path.parent.iterdir()] == ["vsml.npz"]
    assert path.stat().st_size < 10_000
    params = final_state(trained)[1][0].params
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"about", *by_name(params, "params")}
        for name, leaf in by_name(params, "params").items():
            np.testing.assert_array_equal(file[name], leaf)
        about = json.loads(file["about"].item())
    assert about["config"] == (trained / "config.gin").read_text()
    assert (about["recipe"], about["step"]) == ("recipes/quickstart.gin", 3)
    assert about["versions"]["vsml"] == __version__
    assert about["versions"]["jax"] == jax.__version__


def test_any_checkpoint_may_be_exported(trained: Path, tmp_path: Path, capfd):
    digests = {}
    for which in ("newest", "3", "2", "best"):
        assert call(capfd, "export", trained, tmp_path / f"{which}.npz", "--checkpoint", which).code == 0
        exported = sources.of_file(tmp_path / f"{which}.npz")
        digests[which] = exported.sha256
        expected = find_step(trained / "checkpoints", "best") if which == "best" else 3 if which == "newest" else which
        assert exported.about["step"] == int(expected)
    assert digests["newest"] == digests["3"] != digests["2"]
    assert "no checkpoint '77'" in one_line(call(capfd, "export", trained, tmp_path / "x.npz", "--checkpoint", "77"))


def test_what_cannot_be_exported_is_one_line(trained: Path, tmp_path: Path, capfd):
    assert "let its name end in .npz" in one_line(call(capfd, "export", trained, tmp_path / "vsml.pkl"))
    assert "is not a run directory" in one_line(call(capfd, "export", tmp_path, tmp_path / "vsml.npz"))
    (tmp_path / "file").touch()
    assert "cannot be written (" in one_line(call(capfd, "export", trained, tmp_path / "file" / "vsml.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda content: content[:500], "zip"),
        (lambda content: content.replace(b"params.cell.backward.b", b"params.cell.backward.c"), ""),
        (lambda content: b"", ""),
        (lambda content: b"LEARNER = @learners.VSML()\n", ""),
    ],
    ids=["cut", "renamed", "empty", "text"],
)
def test_a_damaged_file_is_one_line(file: Path, tmp_path: Path, capfd, damage: Any, cause: str):
    path = tmp_path / "damaged.npz"
    path.write_bytes(damage(file.read_bytes()))
    message = one_line(call(capfd, "eval", path))
    assert message.startswith(f"{path}: this is not a file of meta-parameters, or it is damaged (")
    assert message.endswith("`vsml export RUN_DIR FILE` writes one")
    assert cause in message
    arguments = (*TINY, *NO_EVALUATORS, "STEPS=1", f"train.start_from='{path}'", "--run_dir", tmp_path / "run")
    assert one_line(call(capfd, "train", *arguments)) == message
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged.npz"]


@pytest.mark.parametrize("content", [{"w": np.zeros(3)}, {"about": np.asarray(b"{}")}, {"about": np.asarray([{}])}])
def test_a_foreign_file_is_one_line(tmp_path: Path, content: dict[str, np.ndarray]):
    path = tmp_path / "foreign.npz"
    np.savez(path, **content)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="this is not a file of meta-parameters"):
        sources.of_file(path)


def test_other_numbers_than_were_saved_are_noticed(file: Path, tmp_path: Path):
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    arrays["params.cell.backward.b"] = arrays["params.cell.backward.b"] + 1
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(UserError, match="its numbers are not those that were saved"):
        sources.of_file(tmp_path / "changed.npz")


def test_every_type_and_form_comes_back(tmp_path: Path):
    tree = {"a": (jnp.arange(3, dtype=jnp.bfloat16), [jnp.ones((2, 0))]), "b": jnp.int32(7)}
    saved = MetaParameters.of(tree, {"step": 1})
    (tmp_path / "file.npz").write_bytes(saved.to_bytes())
    read = MetaParameters.read(tmp_path / "file.npz")
    assert read.about == {"step": 1}
    assert read.sha256 == saved.sha256 != MetaParameters.of({**tree, "b": jnp.int32(8)}).sha256
    filled = read.fill(jax.eval_shape(lambda: tree))
    assert jax.tree.map(lambda leaf: leaf.dtype, filled) == jax.tree.map(lambda leaf: leaf.dtype, tree)
    assert_equal(filled, tree)


def test_paths_that_look_alike_are_refused():
    with pytest.raises(ValueError, match="keys of meta-parameters must not contain dots"):
        MetaParameters.of({"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)})


# Evaluating it.


def test_a_file_gives_the_numbers_of_its_run_beside_itself(trained: Path, file: Path, tmp_path: Path, capfd):
    copy = Path(shutil.copy(file, tmp_path / "mine.npz"))
    outcome = call(capfd, "eval", copy)
    assert outcome.code == 0, outcome.err
    assert without_memory(summary(tmp_path / "mine.evaluations")) == without_memory(summary(trained))
    with (
        np.load(trained / "evaluations" / "digits_plain.npz") as ours,
        np.load(tmp_path / "mine.evaluations" / "evaluations" / "digits_plain.npz") as theirs,
    ):
        np.testing.assert_array_equal(ours["correct"], theirs["correct"])
    assert call(capfd, "eval", copy, "evaluators.OnlineAccuracy.lifetimes=3").code == 0
    label = tmp_path / "mine.evaluations" / "evaluations" / "lifetimes=3,step3"
    assert summary(label)["evaluations"]["digits_plain"]["lifetimes"] == 3
    assert call(capfd, "report", tmp_path / "mine.evaluations").code == 0
    assert "leave out --checkpoint" in one_line(call(capfd, "eval", copy, "--checkpoint", "best"))


def test_the_outcome_goes_where_it_is_asked_to(trained: Path, file: Path, tmp_path: Path, capfd):
    before = sorted(trained.parent.rglob("*"))
    overrides = ("evaluators.OnlineAccuracy.lifetimes=3",)
    for name, source in {"file": file, "run": trained}.items():
        assert call(capfd, "eval", source, *overrides, "--out", tmp_path / name).code == 0
    assert without_memory(summary(tmp_path / "file")) == without_memory(summary(tmp_path / "run"))
    assert sorted(trained.parent.rglob("*")) == before
    message = one_line(call(capfd, "eval", file, "--out", trained))
    assert message == f"--out {trained}: this is the directory of a run: choose another one"


# Going on from it.


@pytest.mark.parametrize("start", ["run", "run@2", "run@best", "exported.npz"])
def test_meta_training_begins_with_them_at_step_0(trained: Path, file: Path, tmp_path: Path, monkeypatch, start: str):
    monkeypatch.chdir(trained.parent)
    step = {"run@2": 2, "run@best": find_step(trained / "checkpoints", "best")}.get(start, 3)
    train(tmp_path / "run", *STILL, "STEPS=2", "train.log_every=1", f"train.start_from={start}")
    done, (state, _) = final_state(tmp_path / "run")
    source = sources.of_run(trained, step)
    assert (done, int(state.step)) == (2, 2)
    assert MetaParameters.of(state.params).sha256 == source.sha256
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 2]
    assert summary(tmp_path / "run")["started_from"] == {"path": start, "step": step, "sha256": source.sha256}
    fresh = init_state(configs.load(str(trained / "config.gin")).build()).params
    assert MetaParameters.of(fresh).sha256 != source.sha256


def test_a_run_goes_on_though_what_it_began_with_has_gone(trained: Path, tmp_path: Path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "source")
    arguments = (*NO_EVALUATORS, "train.start_from=source", "train.checkpoint_every=2", "train.log_every=1")
    train(tmp_path / "straight", *arguments, "STEPS=4")
    train(tmp_path / "run", *arguments, "STEPS=2")
    shutil.rmtree(tmp_path / "source")
    train(tmp_path / "run", *arguments, "STEPS=4")
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    started = summary(tmp_path / "straight")["started_from"]
    assert started["step"] == 3
    assert summary(tmp_path / "run")["started_from"] == started
    assert sources.of_run(tmp_path / "run").about["started_from"] == started
    outcome = call(capfd, "train", *TINY, *arguments, "train.start_from=None", "STEPS=4", "--run_dir", "run")
    assert "another experiment (train.start_from: 'source' -> None)" in one_line(outcome)


@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_a_learner_that_they_do_not_fit_is_one_line(file: Path, tmp_path: Path, capfd, monkeypatch, more):
    monkeypatch.chdir(file.parent)
    arguments = (*TINY, *NO_EVALUATORS, "STEPS=1", "cells.LSTM.size=5", "train.start_from=exported.npz", *more)
    message = one_line(call(capfd, "train", *arguments, "--run_dir", tmp_path / "run"))
    assert message == (
        "train.start_from: the meta-parameters of exported.npz do not fit this learner: params.cell.backward.w is "
        "saved as float32[1, 8, 4], the learner wants float32[1, 8, 5]: choose the learner they were trained with, or "
        "another start"
    )
    assert not (tmp_path / "run").exists()


def test_a_start_that_is_not_there_is_one_line(trained: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(trained.parent)

    def message(start: str) -> str:
        with pytest.raises(UserError) as refused:
            sources.of(start)
        return str(refused.value)

    assert message("nowhere@300").startswith(
        "train.start_from: there is no nowhere (relative to the working directory)"
    )
    assert message("run@300").endswith("no checkpoint '300'; kept are 2, 3")
    assert message(str(tmp_path)).endswith("no config.json in it, so this is not a run directory: check the path")


def test_a_directory_whose_name_looks_like_a_checkpoint_is_itself(trained: Path, tmp_path: Path):
    odd = Path(shutil.copytree(trained, tmp_path / "run@2"))
    assert sources.of(str(odd)).about["step"] == 3
    assert sources.of(f"{odd}@2").about["step"] == 2


def test_without_a_start_the_learner_draws_them(trained: Path):
    start = read_start(configs.load(str(trained / "config.gin")).build())
    assert (start.params, start.record) == (None, None)
