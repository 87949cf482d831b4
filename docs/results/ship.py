"""Puts what a run has learned into the package: its file, and its card with its scores on the scoreboard.

    python docs/results/ship.py RUN_DIR SCORES NAME SUMMARY [OVERRIDE ...]

SCORES is the directory of `vsml eval RUN_DIR evaluators/scoreboard.gin --out SCORES`, whole or in part, or of other
evaluators that have one score as their headline. OVERRIDE is whatever the run was made with on top of its recipe, for
the card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vsml import pretrained
from vsml.pretrained import Card
from vsml.runs import sources
from vsml.runs.results import read_results
from vsml.tasks.base import TaskDistribution

LICENCE = "Apache-2.0, as the package"


def ship(run: Path, scores: Path, name: str, summary: str, overrides: Sequence[str]) -> Card:
    """Writes both files and returns the card. Raises `UserError` where there is no such run."""
    file = pretrained.path_for(name)
    exported = sources.export(run, file)
    config = sources.config_of(run, exported)
    experiment = config.build()
    found = (read_results(scores).runs[0].summary or {})["evaluations"]
    (headline,) = {value["headline"] for value in found.values()}
    known = {key: value[headline] for key, value in found.items()}
    card = Card(
        name=name,
        summary=summary,
        recipe=" ".join([config.recipe, *overrides]),
        seed=experiment.seed,
        data=tuple(dict.fromkeys(_seen(share.tasks) for share in experiment.shares)),
        meta_parameters=sum(array.size for array in exported.arrays.values()),
        meta_steps=exported.about["step"],
        seconds=exported.about["seconds"],
        results={key: (round(score["mean"], 6), round(score["interval95"], 6)) for key, score in known.items()},
        sha256=exported.sha256,
        licence=LICENCE,
        headline=headline,
    )
    file.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    return card


def _seen(tasks: TaskDistribution) -> str:
    """What meta-training has seen of a data set."""
    split = getattr(getattr(tasks, "source", None), "split", None)
    return f"{tasks.data}, {split}" if split else tasks.data


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("name")
    parser.add_argument("summary")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    card = ship(arguments.run, arguments.scores, arguments.name, arguments.summary, arguments.overrides)
    print(card.in_full())


if __name__ == "__main__":
    main()
