"""What an evaluator returns: scores by names of its own, summarised in one place and read back from JSON."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import pytest

from vsml.errors import UserError
from vsml.evaluation import Evaluation, Evaluator, Measure, Rival, base
from vsml.evaluation.statistics import statistics
from vsml.evaluation.summary import Summary
from vsml.runs.files import without_non_finite

SCORES = {"regret": np.array([1.0, 2.0, 3.0, 4.0]), "surprise": np.array([5, 5, 5, 9])}


def evaluation(**changes: Any) -> Evaluation:
    return Evaluation(**{"name": "odd", "scores": SCORES, "headline": "surprise", **changes})


def read_back(found: Evaluation) -> Summary:
    return Summary(found.name, json.loads(json.dumps(without_non_finite(found.summary), allow_nan=False)))


def test_statistics_by_hand():
    # Deviations -1.5, -.5, .5, 1.5: sample variance 5/3; Student's quantile for three degrees of freedom is 3.18245.
    expected = {"mean": 2.5, "std": 1.290994, "interval95": 3.182446 * 1.290994 / 2}
    assert statistics(SCORES["regret"]) == pytest.approx(expected, rel=1e-6)
    assert evaluation().summary["regret"] == statistics(SCORES["regret"])


def test_one_lifetime_has_a_mean_and_no_spread():
    found = evaluation(scores={"surprise": np.array([7.0])}).summary["surprise"]
    assert found["mean"] == 7
    assert np.isnan([found["std"], found["interval95"]]).all()


def test_the_headline_comes_first_and_the_others_as_given():
    scores = {**SCORES, "a_third": np.zeros(4)}
    assert list(read_back(evaluation(scores=scores)).scores) == ["surprise", "regret", "a_third"]


def test_measures_say_how_scores_and_curves_are_shown():
    share = Measure("hits", limits=(0.0, 1.0), chance=0.25)
    found = evaluation(
        scores={**SCORES, "loss": np.zeros(4)},
        curves={"reward": np.zeros((4, 3))},
        measures={"surprise": Measure(lower_is_better=True), "reward": share},
    )
    read = read_back(found)
    assert read.scores == {
        "surprise": Measure("surprise", lower_is_better=True),
        "regret": Measure("regret"),
        "loss": Measure("loss", lower_is_better=True),
    }
    assert read.curves == {"reward": share}
    assert found.measure("time_to_learn").title == "time to learn"


def test_rivals_facts_and_what_is_not_finite_are_read_back():
    rivals = {"guess": Rival("guessing", {"regret": np.full(4, np.nan), "surprise": np.ones(4)}, {"hidden": 3})}
    read = read_back(evaluation(rivals=rivals, facts={"examples": 12, "kind": "test"}, note="Less is more."))
    assert (read.headline, read.note, read.facts) == ("surprise", "Less is more.", {"examples": 12, "kind": "test"})
    guess = read.rivals["guess"]
    assert guess.name == "guessing"
    assert read.content["baselines"]["guess"]["hidden"] == 3
    assert guess.spread("surprise") == (1, 0, 0)
    spread = guess.spread("regret")
    assert spread is not None
    assert np.isnan(spread).all()
    assert guess.spread("loss") is None


def test_a_summary_from_before_scores_were_described():
    score = {"mean": 0.5, "std": 0.1, "interval95": 0.2}
    read = Summary("digits", {"examples": 3, "cumulative_accuracy": score, "loss": score, "chance": 0.1})
    assert read.headline == "cumulative_accuracy"
    assert read.scores["cumulative_accuracy"] == Measure("cumulative accuracy", limits=(0.0, 1.0), chance=0.1)
    assert read.scores["loss"].lower_is_better
    assert (read.curves, read.rivals, read.facts) == ({}, {}, {"examples": 3, "chance": 0.1})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"headline": "accuracy"}, "'odd' has no score 'accuracy', its headline: it has regret, surprise"),
        ({"scores": {"surprise": np.zeros((2, 3))}}, r"'surprise' has the shape \[2, 3\]: give one value"),
        ({"scores": {"surprise": np.zeros(0)}}, r"'surprise' has the shape \[0\]: give one value for each of one or"),
        ({"scores": {**SCORES, "regret": np.zeros(3)}}, r"'regret' has the shape \[3\]: give one value for each of 4"),
        ({"rivals": {"r": Rival("r", {"regret": np.zeros(4)})}}, "'r' in .* has the scores regret: give all of regret"),
        ({"facts": {"regret": 3}}, "the name 'regret' is taken"),
        ({"facts": {"baselines": 3}}, "the name 'baselines' is taken"),
        ({"scores": {**SCORES, "headline": np.zeros(4)}}, "the name 'headline' is taken"),
        ({"facts": {"seed": np.float32(1)}}, "facts are not plain JSON data .*float32"),
    ],
)
def test_what_does_not_go_together_is_one_line(wrong: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        evaluation(**wrong)


def test_an_evaluator_is_by_default_its_own_interim():
    class Constant(Evaluator):
        name = "constant"

        def run(self, learner: Any, params: Any) -> Evaluation:
            return evaluation()

    constant = Constant()
    assert constant.interim() is constant


def test_the_example_of_the_contract_runs():
    outcome = doctest.testmod(base)
    assert outcome.attempted > 0
    assert outcome.failed == 0
