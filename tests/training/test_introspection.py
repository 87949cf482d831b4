"""`vsml introspect`: what it finds, where that is kept, and who shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from runs import TINY, call, events, summary, train

from vsml.runs.saved import whole_steps

pytestmark = pytest.mark.usefixtures("compiled")

SMALL = (
    "introspection/tasks.HeldOut.length=16",
    "evaluators.ShownAgain.points=[0,3]",
    "evaluators.ShownAgain.lifetimes=2",
    "evaluators.ShownAgain.tuned_on=2",
    "evaluators.Dynamics.learned=12",
    "evaluators.Dynamics.lifetimes=2",
    "evaluators.Agreement.lifetimes=2",
    "evaluators.Baselines.hidden=[0]",
    "evaluators.Baselines.sgd_learning_rates=[0.04]",
    "evaluators.Baselines.adam_learning_rates=[]",
    "evaluators.Baselines.nearest_neighbour=False",
    "evaluators.Baselines.rls_features=[]",
)
NAMES = ["digits_shown_again", "digits_dynamics", "digits_agreement"]


@pytest.fixture(scope="module")
def run(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that keeps every second checkpoint."""
    directory = tmp_path_factory.mktemp("introspected") / "run"
    train(directory, "STEPS=5", "train.checkpoint_every=1", "train.keep_every=2", "EVALUATORS=[]")
    return directory


def test_checkpoints_of_multiples_are_kept(run: Path):
    assert {2, 4, 5} <= set(whole_steps(run / "checkpoints"))
    assert not {1, 3} <= set(whole_steps(run / "checkpoints"))  # the best may be one of them


def test_only_what_is_saved_can_be_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    words = ("train.checkpoint_every=2", "train.keep_every=3", "--run_dir", tmp_path)
    outcome = call(capfd, "train", "quickstart", *words)
    assert outcome.code == 2
    assert "train.keep_every is 3: set it to a multiple of train.checkpoint_every, which is 2" in outcome.last_line


def test_a_run_is_looked_into(run: Path, capfd: pytest.CaptureFixture[str]):
    before = (run / "summary.json").read_bytes()
    outcome = call(capfd, "introspect", run, *SMALL, "--out", run / "introspection")
    assert outcome.code == 0, outcome.err
    assert (run / "summary.json").read_bytes() == before
    inside = run / "introspection"
    found = summary(inside)["evaluations"]
    assert list(found) == NAMES
    assert list(found["digits_agreement"]["baselines"]) == ["best_sgd", "nearest_class_mean"]
    for shown in ("rise, same", "slow frozen", "beyond", "best SGD", "nearest class mean", "report.html"):
        assert shown in outcome.out, shown
    with np.load(inside / "evaluations" / "digits_dynamics.npz") as curves:
        assert curves["time_scale"].shape == (2, 8)
        assert curves["fastest_reset"].shape == (2, 9)
        assert curves["messages_forward_1"].shape == curves["messages_backward_1"].shape == (2, 16)
        assert (curves["messages_forward_1"] > 0).all()
    # Over meta-training, in the earlier checkpoints that are there.
    earlier = [step for step in whole_steps(run / "checkpoints") if step < 5]
    lines = [json.loads(line) for line in (inside / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == earlier
    assert all(list(line["evaluations"]) == ["digits_agreement"] for line in lines)
    board = events(inside)
    tags = set(board.Tags()["images"])
    assert {"learning_curves/time_scale/digits_dynamics", "learning_curves/rise_same_input/digits_shown_again"} <= tags
    points = board.Scalars("rivals/beyond_accuracy/digits_agreement/nearest_class_mean")
    assert [point.step for point in points] == [*earlier, 5]
    # The report of the run shows it all.
    assert call(capfd, "report", run).code == 0
    page = (run / "report" / "report.md").read_text()
    for shown in (
        "digits shown again",
        "digits dynamics: time scale (steps) by entry of V",
        "held-out agreement beyond",
    ):
        assert shown in page, shown
    assert (run / "report" / "curve_digits_dynamics.svg").read_text().startswith("<?xml")


def test_other_data_and_settings_are_kept_apart(run: Path, capfd: pytest.CaptureFixture[str]):
    one = ("EVALUATORS=[@evaluators.ShownAgain()]", "evaluators.ShownAgain.baselines=None")
    small = [word for word in SMALL if "ShownAgain" in word and "tuned" not in word]
    outcome = call(capfd, "introspect", run, *one, *small, "TEST_LENGTH=11", "--on", "tasks/wine.gin")
    assert outcome.code == 0, outcome.err
    (folder,) = (run / "introspection").glob("wine,*step5")
    assert list(summary(folder)["evaluations"]) == ["wine_shown_again"]


def test_a_learner_without_messages_is_looked_into(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    recipe = [word for word in TINY if not word.startswith("cells.")]
    words = ("learners/meta_rnn.gin", "learners.MetaRNN.hidden_size=3", "STEPS=1", "EVALUATORS=[]")
    assert call(capfd, "train", *recipe, *words, "--run_dir", tmp_path / "run").code == 0
    outcome = call(capfd, "introspect", tmp_path / "run", *SMALL)
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "run" / "introspection").glob("*step1")
    with np.load(folder / "evaluations" / "digits_dynamics.npz") as curves:
        assert sorted(curves) == ["fastest_reset", "slowest_frozen", "time_scale"]
    assert not (folder / "evaluations.jsonl").exists()  # there is no earlier checkpoint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "introspect needs the directory of a run"),
        (("nowhere",), "there is no nowhere: name a run directory or a file"),
        (("RUN", "evaluators.Dynamics.learned=300"), "learned is 300, but lifetimes of digits_dynamics have 300 steps"),
        (("RUN", "evaluators.ShownAgain.points=[0,299]"), "points ends at 299, but lifetimes of digits_shown_again"),
        (("RUN", "STEPS=7"), "no evaluator uses it"),
    ],
)
def test_mistakes_end_in_one_line(run: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str):
    outcome = call(capfd, "introspect", *(str(run) if word == "RUN" else word for word in words))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.last_line
    assert "Traceback" not in outcome.err
