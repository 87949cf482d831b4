"""Metrics have open names: only `loss` is known, and what every meta-step adds."""

from __future__ import annotations

from vsml.metrics import OF_THE_UPDATE, of_the_objective, title


def test_loss_first_then_what_the_objective_measures():
    logged = ["step", "bits", "reward", "loss", "loss/a", "reward/a", *OF_THE_UPDATE]
    assert of_the_objective(logged) == ["loss", "bits", "reward"]


def test_titles_come_from_names():
    assert title("cumulative_accuracy") == "cumulative accuracy"
