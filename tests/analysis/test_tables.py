"""The table of evaluations, letter by letter."""

from __future__ import annotations

from vsml.analysis.tables import evaluation_table, number
from vsml.evaluation import Measure


def _score(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": mean / 10, "interval95": mean / 100}


def _summary(scores: dict, note: str = "", **more) -> dict:
    described = {name: vars(Measure(name.replace("_", " "))) for name in scores}
    content = {"lifetimes": 32, "examples": 300, "headline": next(iter(scores)), "scores": described, "note": note}
    return content | {name: _score(mean) for name, mean in scores.items()} | {"baselines": {}} | more


def _accuracies(**more) -> dict:
    scores = {"cumulative_accuracy": 0.8126, "final_accuracy": 0.9, "loss": 0.7}
    return _summary(scores, "Made before the label is seen.", chance=0.1, **more)


def _rival(label: str) -> dict:
    return {"label": label, "hidden": 160, "cumulative_accuracy": _score(0.75), "final_accuracy": _score(0.85)}


def test_table_as_printed():
    evaluations = {
        "digits_plain": _accuracies(baselines={"sgd": _rival("best SGD (lr 0.04)"), "adam": _rival("best Adam")}),
        "mnist": _accuracies(),
    }
    assert evaluation_table(evaluations).splitlines() == [
        "                      cumulative           final",
        "                      accuracy      std    accuracy      std    loss          std",
        "digits_plain: 32 lifetimes of 300 examples, chance 0.100",
        "  learned algorithm   0.813 ± 0.008 0.081  0.900 ± 0.009 0.090  0.700 ± 0.007 0.070",
        "  best SGD (lr 0.04)  0.750 ± 0.007 0.075  0.850 ± 0.009 0.085  -             -",
        "  best Adam           0.750 ± 0.007 0.075  0.850 ± 0.009 0.085  -             -",
        "mnist: 32 lifetimes of 300 examples, chance 0.100",
        "  learned algorithm   0.813 ± 0.008 0.081  0.900 ± 0.009 0.090  0.700 ± 0.007 0.070",
        "Mean over lifetimes ± 95 % interval, and their std.",
        "Made before the label is seen.",
    ]


def test_deviations_make_room_for_long_labels():
    rival = _rival("best Adam (1024 hidden, lr 0.00025, the grid's edge)")
    lines = evaluation_table({"e" * 40: _accuracies(baselines={"adam": rival})}).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[4].startswith("  best Adam (1024 hidden, lr 0.00025, the grid's edge)  0.750 ± 0.007  0.850 ± 0.009")
    assert "Mean over lifetimes ± 95 % interval." in lines


def test_other_scores_have_a_head_of_their_own():
    lines = evaluation_table({"digits": _accuracies(), "maze": _summary({"steps_to_halve": 2.5e6}, world="m")})
    assert lines.splitlines()[4:7] == [
        "                     steps to",
        "                     halve             std",
        "maze: 32 lifetimes of 300 examples, world m",
    ]
    assert "  learned algorithm  2.5e+06 ± 2.5e+04 2.5e+05" in lines


def test_numbers_of_every_size():
    assert number(0.5) == "0.500"
    assert number(0.0, 0.0) == "0.000 ± 0.000"
    assert number(-12.3456, 0.00001) == "-12.346 ± 0.000"
    assert number(1.5e-7, 2e-8) == "1.5e-07 ± 2e-08"
    assert number(2.0, float("nan")) == "2.000"


def test_a_learner_that_diverged_is_shown_as_such():
    summary = _accuracies()
    summary["final_accuracy"] = dict.fromkeys(("mean", "std", "interval95"))
    assert "0.813 ± 0.008 0.081  not finite -    0.700" in evaluation_table({"digits": summary})
