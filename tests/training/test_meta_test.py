"""`vsml eval`: the numbers that ended the training again, or others, kept apart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import TINY, Outcome, call, events, final_state, finish, start, summary, train, without_memory

import vsml
from vsml.learners import VSML
from vsml.tasks.base import _load_once

pytestmark = pytest.mark.usefixtures("compiled")

PLAIN = "plain/tasks.HeldOut.length"
PLAIN_ONLY = "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]"


@pytest.fixture(scope="module")
def trained(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that keeps the checkpoints of several steps."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    train(directory, "STEPS=4", "train.checkpoint_every=1", "optax.adam.learning_rate=0.1")
    return directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy, moved to another place."""
    return Path(shutil.copytree(trained, tmp_path / "moved"))


def test_it_gives_the_numbers_that_ended_the_training(run: Path, trained: Path, capfd):
    with np.load(run / "evaluations" / "digits_plain.npz") as curves:
        before = {name: curves[name] for name in curves}
    (run / "evaluations" / "digits_plain.npz").unlink()
    outcome = call(capfd, "eval", run)
    assert outcome.code == 0
    assert without_memory(summary(run)) == without_memory(summary(trained))
    with np.load(run / "evaluations" / "digits_plain.npz") as curves:
        assert set(curves) == set(before)
        for name, curve in before.items():
            np.testing.assert_array_equal(curves[name], curve)
    mean = summary(run)["evaluations"]["digits_plain"]["cumulative_accuracy"]["mean"]
    assert f"{mean:.3f}" in outcome.out
    assert len(events(run).Scalars("headline/cumulative_accuracy/digits_plain")) == 1  # not a second time
    assert outcome.err.endswith(f"saved in {os.path.relpath(run)}\n")


def test_overrides_are_kept_apart(run: Path, capfd):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = call(capfd, "eval", run, f"{PLAIN}=20", "evaluators.OnlineAccuracy.lifetimes=3")
    assert outcome.code == 0
    assert {path: path.read_bytes() for path in before} == before
    label = run / "evaluations" / "plain.length=20,lifetimes=3,step4"
    content = summary(label)
    assert {name: (e["examples"], e["lifetimes"]) for name, e in content["evaluations"].items()} == {
        "digits_projected": (10, 3),
        "digits_plain": (20, 3),
    }
    assert (content["recipe"], content["meta_steps"]) == ("recipes/quickstart.gin", 4)
    assert "digits_plain: 3 lifetimes of 20 examples" in outcome.out
    assert outcome.err.endswith(f"saved in {os.path.relpath(label)}\n")


def test_other_settings_with_the_same_label_are_kept_apart(run: Path, capfd, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = ("evaluators.OnlineAccuracy.lifetimes=3", PLAIN_ONLY)
    for lengths in ("10", "12", "10"):
        Path("length.gin").write_text(f"{PLAIN} = {lengths}\n")
        assert call(capfd, "eval", run, "length.gin", *both).code == 0
    first = run / "evaluations" / "length,lifetimes=3,EVALUATORS=OnlineAccuracy,step4"
    second = first.with_name(f"{first.name}-2")
    found = [summary(path)["evaluations"]["digits_plain"]["examples"] for path in (first, second)]
    assert found == [10, 12]
    assert sorted(path.name for path in (run / "evaluations").iterdir() if path.is_dir()) == [first.name, second.name]


def test_a_longer_lifetime_starts_with_the_shorter_one(run: Path, capfd):
    """Nothing but the length is changed: the first predictions stay what they were."""
    assert call(capfd, "eval", run, f"{PLAIN}=15").code == 0
    label = run / "evaluations" / "plain.length=15,step4"
    with (
        np.load(run / "evaluations" / "digits_plain.npz") as short,
        np.load(label / "evaluations" / "digits_plain.npz") as long,
    ):
        np.testing.assert_allclose(long["loss"][:, :10], short["loss"], rtol=1e-5)


def test_other_gin_files_may_be_named(run: Path, capfd, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("noise.gin").write_text(
        "EVALUATORS = [@noise/evaluators.OnlineAccuracy()]\n"
        "noise/evaluators.OnlineAccuracy.name = 'noise'\n"
        "noise/evaluators.OnlineAccuracy.tasks = @noise/tasks.Classification()\n"
        "noise/tasks.Classification.source = @sources.Random()\n"
        "noise/tasks.Classification.length = 6\n"
        "noise/tasks.Classification.transforms = []\n"
        "sources.Random.image_shape = [3, 3, 1]\n"
    )
    outcome = call(capfd, "eval", run, "noise.gin")
    assert outcome.code == 0, outcome.err
    assert list(summary(run / "evaluations" / "noise,step4")["evaluations"]) == ["noise"]


def test_any_checkpoint_may_be_chosen(run: Path, capfd):
    best = min(
        (path for path in (run / "checkpoints").iterdir()),
        key=lambda path: json.loads((path / "meta" / "metadata").read_text())["loss"],
    )
    kept = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
    losses = {}
    for which in ("best", *map(str, kept)):
        assert call(capfd, "eval", run, "--checkpoint", which).code == 0
    for step in kept[:-1]:
        content = summary(run / "evaluations" / f"step{step}")
        assert content["meta_steps"] == step
        losses[step] = content["evaluations"]["digits_plain"]["loss"]["mean"]
    losses[4] = summary(run)["evaluations"]["digits_plain"]["loss"]["mean"]
    assert len(set(losses.values())) == len(kept), "other meta-parameters, other losses"
    assert int(best.name) in losses


def one_line(outcome: Outcome) -> str:
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    return outcome.err.removeprefix("vsml: ").strip()


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(run: Path, capfd):
    message = one_line(call(capfd, "eval", run, "--checkpoint", "77"))
    assert message.startswith(f"{run / 'checkpoints'}: no checkpoint '77'; kept are ")
    assert message.endswith("3, 4")


def test_what_is_no_run_is_named(tmp_path: Path, capfd):
    expected = f"{tmp_path}: no config.json in it, so this is not a run directory: check the path"
    assert one_line(call(capfd, "eval", tmp_path)) == expected
    expected = f"there is no {tmp_path / 'none'}: name a run directory or a file of `vsml export`, or pretrained:NAME"
    assert one_line(call(capfd, "eval", tmp_path / "none")) == expected
    at_step = one_line(call(capfd, "eval", f"{tmp_path / 'none'}@300"))
    assert at_step.endswith(f"a checkpoint is named by a flag, as in `{tmp_path / 'none'} --checkpoint 300`")
    (tmp_path / "file").touch()
    assert "this is not a file of meta-parameters, or it is damaged (" in one_line(
        call(capfd, "eval", tmp_path / "file")
    )


def test_a_run_without_a_checkpoint_is_named(run: Path, capfd):
    shutil.rmtree(run / "checkpoints")
    expected = f"{run / 'checkpoints'}: no checkpoint 'newest'; there is none yet: train first"
    assert one_line(call(capfd, "eval", run)) == expected
    assert not (run / "checkpoints").exists()


def test_meta_parameters_that_do_not_fit_are_refused(run: Path, capfd):
    message = one_line(call(capfd, "eval", run, "cells.LSTM.size=5"))
    assert message == (
        f"{run}: its meta-parameters do not fit the learner (params.cell.backward.w is saved as float32[1, 8, 4], the "
        "learner wants float32[1, 8, 5]): change only settings that keep the shapes of V_M"
    )


def test_tasks_of_an_evaluator_that_need_other_meta_parameters_are_named(tmp_path: Path, capfd):
    """Those of a Meta RNN depend on the number of inputs."""
    train(tmp_path / "run", "learners/meta_rnn.gin", "STEPS=1", PLAIN_ONLY)
    smaller = ("plain/tasks.HeldOut.transforms=[@transforms.Resize()]", "transforms.Resize.shape=[4,4]")
    message = one_line(call(capfd, "eval", tmp_path / "run", *smaller))
    assert "do not fit the learner on the tasks of the evaluator digits_plain (params." in message


def test_what_leaves_the_meta_parameters_alone_may_change(run: Path, capfd):
    assert call(capfd, "eval", run, "learners.VSML.hidden=[6]").code == 0
    content = summary(run / "evaluations" / "hidden=6,step4")
    assert content["num_meta_parameters"] == 416
    assert content["num_learned_variables"] == (64 * 6 + 6 * 10) * 8


def test_nothing_to_evaluate_is_an_error(run: Path, capfd):
    message = one_line(call(capfd, "eval", run, "EVALUATORS=[]"))
    assert message == (
        f"{run}: its config names no evaluators: name data, as in `--on tasks/wine.gin`, or a file of evaluators, as "
        "in `evaluators/held_out.gin`"
    )


def test_mistakes_in_overrides_are_one_line(run: Path, capfd):
    assert "did you mean" in one_line(call(capfd, "eval", run, "cells.LSTM.sise=5"))


def test_a_damaged_checkpoint_is_one_line(run: Path, capfd):
    params = run / "checkpoints" / "4" / "params" / "params.npz"
    params.write_bytes(params.read_bytes()[:1000])
    message = one_line(call(capfd, "eval", run))
    assert message.startswith(f"{run / 'checkpoints' / '4'}: this checkpoint cannot be read (")
    assert "choose another one (" in message
    assert call(capfd, "eval", run, "--checkpoint", "3").code == 0


def test_neither_the_data_of_meta_training_nor_its_state_is_read(tmp_path: Path, capfd, monkeypatch):
    """The run was trained on a file of its own, which has gone; its evaluators use other data."""
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.uniform(size=(60, 4, 4)).astype(np.float32), y=np.arange(60) % 10)
    source = (
        "tasks.Classification.source=@sources.NpzFiles",
        *("sources.NpzFiles.images=mine.npz", "sources.NpzFiles.images_key=x", "sources.NpzFiles.labels_key=y"),
    )
    run = tmp_path / "run"
    train(
        run,
        *source,
        "plain/tasks.HeldOut.tasks=@plain/tasks.Classification",
        "plain/tasks.Classification.source=@plain/sources.Digits",
        "plain/sources.Digits.split=train",
        PLAIN_ONLY,
        "STEPS=1",
    )
    before = summary(run)
    assert before["num_learned_variables"] == 4 * 4 * 10 * 8
    (tmp_path / "mine.npz").unlink()
    _load_once.cache_clear()
    shutil.rmtree(run / "checkpoints" / "1" / "state")
    outcome = call(capfd, "eval", run)
    assert outcome.code == 0, outcome.err
    assert without_memory(summary(run)) == without_memory(before)


def wines(directory: Path, rows: int = 40) -> str:
    """Writes a table of two classes. Returns how a source names it."""
    lines = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(rows)]
    (directory / "my wines.csv").write_text("\n".join(["p,q,kind", *lines]))
    return f"sources.CsvFile.path='{directory}/my wines.csv'"


@pytest.mark.parametrize("on", [("--on", "tasks/csv.gin"), ("tasks/csv.gin",)])
def test_data_of_ones_own_is_what_is_evaluated(run: Path, capfd, tmp_path: Path, on: tuple[str, ...]):
    outcome = call(capfd, "eval", run, *on, wines(tmp_path), "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    evaluations = summary(tmp_path / "out")["evaluations"]
    assert list(evaluations) == ["my_wines_projected", "my_wines_plain"]
    told = evaluations["my_wines_plain"]
    assert (told["data"], told["relation"]) == ("my_wines, split test", "transfer")
    assert told["different_examples"] == 20


def test_a_run_with_tests_of_its_own_is_evaluated_on_other_data_as_well(run: Path, capfd, tmp_path: Path):
    """Its evaluators do not follow the tasks: those of evaluators/held_out.gin take their place."""
    config = run / "config.gin"
    follows, fixed = "tasks.HeldOut.tasks = %TASKS", "tasks.HeldOut.tasks = @digits/tasks.Classification()"
    assert follows in config.read_text()
    digits = "digits/tasks.Classification.source = @sources.Digits()\n"
    config.write_text(config.read_text().replace(follows, fixed) + digits)
    few = ("evaluators.OnlineAccuracy.baselines=None", "TEST_LENGTH=6", "--out", tmp_path / "out")
    assert call(capfd, "eval", run, "tasks/wine.gin", *few).code == 0
    assert set(summary(tmp_path / "out")["evaluations"]) == {"wine_projected", "wine_plain"}


def test_an_evaluation_is_not_replaced_by_one_on_other_data(run: Path, capfd, tmp_path: Path):
    """Nor by one on the same file, rewritten."""
    path = wines(tmp_path)
    first = ("eval", run, "tasks/csv.gin", path, PLAIN_ONLY)
    assert call(capfd, *first).code == 0
    (label,) = (run / "evaluations").glob("*/summary.json")
    before = label.read_bytes()
    wines(tmp_path, rows=30)
    _load_once.cache_clear()
    message = one_line(call(capfd, *first))
    assert "the data of my_wines_plain are not those of the existing evaluation" in message
    assert label.read_bytes() == before
    assert call(capfd, *first, "--out", tmp_path / "out").code == 0


def test_repeated_examples_are_told(run: Path, capfd, tmp_path: Path):
    longer = (f"{PLAIN}=45", PLAIN_ONLY, "evaluators.OnlineAccuracy.baselines=None", "--out", tmp_path / "out")
    outcome = call(capfd, "eval", run, "tasks/csv.gin", wines(tmp_path), *longer)
    assert outcome.code == 0, outcome.err
    assert "my_wines_plain: lifetimes of 45 examples meet 20 different ones, each 2.2 times" in outcome.err
    assert "45 examples (20 different ones)" in outcome.out


@pytest.mark.parametrize("word", ["LENGTH=20", "SEED=3", "STEPS=9", "tasks.Classification.num_tasks=3"])
def test_an_override_that_no_evaluator_uses_is_refused(run: Path, capfd, word: str):
    message = one_line(call(capfd, "eval", run, word))
    assert message.startswith(f"{word}: no evaluator uses it: it would change only meta-training; leave it out")
    message = one_line(call(capfd, "eval", run, "tasks/wine.gin", word))
    assert message.startswith(f"{word}: no evaluator uses it")
    assert not list((run / "evaluations").glob("*/summary.json"))


def test_an_override_that_says_what_holds_already_is_taken(run: Path, capfd):
    assert call(capfd, "eval", run, "evaluators.OnlineAccuracy.lifetimes=4").code == 0


def test_what_is_no_tasks_file_is_refused_after_on(run: Path, capfd):
    message = one_line(call(capfd, "eval", run, "--on", "cells/lstm.gin"))
    assert message == "--on cells/lstm.gin: this sets no TASKS: give a file such as tasks/wine.gin"


SPY = """
import sys
from dataclasses import dataclass
from vsml.errors import UserError
from vsml.evaluation import Evaluator

@dataclass(frozen=True)
class Spy(Evaluator):
    name: str = "spy"

    def run(self, learner, params):
        raise UserError(f"imported: {sorted(sys.modules)}")
"""


def test_nothing_heavy_is_imported_before_the_first_evaluator(run: Path, tmp_path: Path):
    (tmp_path / "spies.py").write_text(SPY)
    (tmp_path / "spy.gin").write_text("import spies\nEVALUATORS = [@evaluators.Spy()]\n")
    message = finish(start("eval", run, "spy.gin", cwd=tmp_path)).err
    assert "'vsml.training.meta_test'" in message
    for name in ("orbax", "tensorboardX", "matplotlib", "sklearn", "vsml.training.trainer"):
        assert f"'{name}'" not in message


def test_the_state_is_left_alone(run: Path, trained: Path, capfd):
    assert call(capfd, "eval", run, f"{PLAIN}=5").code == 0
    assert final_state(run)[0] == final_state(trained)[0]
    assert (run / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


DEPLOYED = ("train.deployed=@use/learners.VSML()", "use/learners.VSML.hidden=[3]")


def test_another_learner_can_be_put_to_use(run: Path, tmp_path: Path, capfd):
    """What is evaluated and loaded is the deployed learner, with the meta-parameters of the other."""
    scores = {}
    for name, settings in {"deployed": DEPLOYED, "itself": (), "wide": ("learners.VSML.hidden=[3]",)}.items():
        assert call(capfd, "eval", run, *settings, "--out", tmp_path / name).code == 0
        with np.load(tmp_path / name / "evaluations" / "digits_plain.npz") as curves:
            scores[name] = curves["loss"]
    np.testing.assert_array_equal(scores["deployed"], scores["wide"])
    assert not np.array_equal(scores["deployed"], scores["itself"])

    train(tmp_path / "trained", "STEPS=1", *DEPLOYED)
    algorithm = vsml.load(tmp_path / "trained")
    assert isinstance(algorithm.learner, VSML)
    assert isinstance(algorithm.experiment.learner, VSML)
    assert (algorithm.learner.hidden, algorithm.experiment.learner.hidden) == ((3,), ())
    lifetimes = {name: summary(tmp_path / name) for name in ("trained", "deployed")}
    assert lifetimes["trained"]["num_meta_parameters"] == lifetimes["deployed"]["num_meta_parameters"]


def test_a_deployed_learner_of_another_shape_is_refused(tmp_path: Path, capfd):
    words = ("train.deployed=@use/learners.VSML()", "use/learners.VSML.message_size=3")
    outcome = call(capfd, "train", *TINY, "STEPS=1", *words, "--run_dir", tmp_path / "run")
    assert outcome.code == 2
    assert "train.deployed has meta-parameters of other shapes than learners.VSML, which is meta-trained" in outcome.err
    assert not (tmp_path / "run").exists()
