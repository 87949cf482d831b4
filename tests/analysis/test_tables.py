"""The table of evaluations, letter by letter."""

from __future__ import annotations

from vsml.analysis.tables import evaluation_table


def _score(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": mean / 10, "interval95": mean / 100}


def _summary(**baselines) -> dict:
    return {
        "examples": 300,
        "lifetimes": 32,
        "cumulative_accuracy": _score(0.8126),
        "final_accuracy": _score(0.9),
        "loss": _score(0.7),
        "chance": 0.1,
        "baselines": baselines,
    }


def _baseline(**changes) -> dict:
    scores = {"cumulative_accuracy": _score(0.75), "final_accuracy": _score(0.85)}
    return {"hidden": 160, "learning_rate": 0.04, "at_grid_edge": False, **scores, **changes}


def test_table_as_printed():
    evaluations = {
        "digits_plain": _summary(best_sgd=_baseline(), best_adam=_baseline(hidden=0, learning_rate=5e-4)),
        "mnist": _summary(),
    }
    assert evaluation_table(evaluations).splitlines()[:7] == [
        "accuracy                           cumulative     std    final          std",
        "digits_plain: 32 lifetimes of 300 examples, chance 0.100",
        "  learned algorithm                0.813 ± 0.008  0.081  0.900 ± 0.009  0.090",
        "  best SGD (160 hidden, lr 0.04)   0.750 ± 0.007  0.075  0.850 ± 0.009  0.085",
        "  best Adam (0 hidden, lr 0.0005)  0.750 ± 0.007  0.075  0.850 ± 0.009  0.085",
        "mnist: 32 lifetimes of 300 examples, chance 0.100",
        "  learned algorithm                0.813 ± 0.008  0.081  0.900 ± 0.009  0.090",
    ]


def test_widest_table_fits_100_columns_and_says_when_the_grid_ended():
    wide = _baseline(hidden=1024, learning_rate=0.00025, at_grid_edge=True)
    lines = evaluation_table({"e" * 40: _summary(best_adam=wide)}).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[3].startswith("  best Adam (1024 hidden, lr 0.00025, the grid's edge)  0.750")


def test_a_learner_that_diverged_is_shown_as_such():
    summary = _summary()
    summary["final_accuracy"] = dict.fromkeys(("mean", "std", "interval95"), float("nan"))
    assert "nan ± nan" in evaluation_table({"digits": summary})
