"""Learned algorithms that come with the package: NAME.npz as `vsml export` writes it, and its card NAME.json.

A card says what its numbers cannot: what the algorithm is for, what data it has seen and how well it does on others.

    pretrained:NAME     names one wherever a run or an exported file may be named
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vsml.errors import UserError

PREFIX = "pretrained:"
_FOLDER = Path(__file__).parent
_SCORES = {
    "cumulative_accuracy": (
        "Cumulative accuracy on examples that meta-training has not seen, ± 95 % interval over lifetimes.",
        "short: 500 examples, of digits 300; long: 2,000, of digits 500. The rivals: docs/results/headline.md",
    ),
    "cumulative_recalled": (
        "Share of the hidden numbers of new snippets that is recalled, ± 95 % interval over lifetimes.",
        "What each is: evaluators/remember_further.gin. The rivals: docs/results/remember.md",
    ),
}
"""What the scores of a card are, by their name: `evaluators/scoreboard.gin`, `evaluators/remember_further.gin`."""

_TABLES = {
    "cumulative_accuracy": "Cumulative accuracy over few and over many examples that meta-training has not seen:",
    "cumulative_recalled": "Share of the hidden numbers of new snippets that is recalled:",
}


@dataclass(frozen=True)
class Card:
    """What is known of a pretrained algorithm.

    Attributes:
      name: in `pretrained:NAME`.
      summary: one line.
      recipe: that makes it, as `vsml train` takes it, and its overrides, none of which has a space.
      seed: of that run.
      data: what meta-training has seen of which data sets.
      meta_parameters: |V_M|.
      meta_steps: of meta-training.
      seconds: that it took on a CPU.
      results: by data set and number of examples, on data that it has not seen: score and the half width of its 95 %
        interval over lifetimes.
      sha256: of names, shapes and numbers of the meta-parameters.
      licence: of the file.
      headline: the score that `results` are of.
    """

    name: str
    summary: str
    recipe: str
    seed: int
    data: tuple[str, ...]
    meta_parameters: int
    meta_steps: int
    seconds: float
    results: dict[str, tuple[float, float]]
    sha256: str
    licence: str
    headline: str = "cumulative_accuracy"

    @classmethod
    def from_json(cls, name: str, values: dict[str, Any]) -> Card:
        """Reads what `to_json` gave."""
        results = {key: (float(score), float(half)) for key, (score, half) in values["results"].items()}
        return cls(**{**values, "name": name, "data": tuple(values["data"]), "results": results})

    def in_full(self) -> str:
        """All of it, a line for each, and what its scores are."""
        minutes = max(1, round(self.seconds / 60))
        took = f"{minutes} minute{'s' if minutes > 1 else ''} on a CPU"
        lines = {
            "": self.summary,
            "recipe": f"vsml train {shlex.join(self.recipe.split())}",
            "meta-training": f"{self.meta_steps:,} meta-steps, {took}, seed {self.seed}",
            "has seen": "; ".join(dict.fromkeys(self.data)),
            "|V_M|": f"{self.meta_parameters:,}, sha256 {self.sha256[:12]}",
            "licence": self.licence,
        }
        lines |= {task: f"{_score(score)} ± {_score(half)}" for task, (score, half) in self.results.items()}
        width = max(map(len, lines))
        shown = [f"{PREFIX}{self.name}", *(f"  {key:<{width}}  {value}" for key, value in lines.items())]
        return "\n".join([*shown, *(f"  {line}" for line in _SCORES[self.headline] if self.results)])

    def to_json(self) -> str:
        """The content of the file."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return json.dumps(values, indent=1) + "\n"


def names() -> list[str]:
    """The names of all, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.npz"))


def overview() -> str:
    """A list of all, a line for each, and a table of each kind of score, where there are any."""
    cards = [card(name) for name in names()]
    wide = max((len(one.name) for one in cards), default=0)
    lines = [f"{PREFIX}{one.name:<{wide}}  {one.meta_parameters:>6,} numbers  {one.summary}" for one in cards]
    for headline, title in _TABLES.items():
        scored = [one for one in cards if one.headline == headline and one.results]
        lines += ["", title, *_table(scored)] if scored else []
    return "\n".join(lines)


def _table(cards: Sequence[Card]) -> list[str]:
    groups = list(dict.fromkeys(_group(task) for one in cards for task in one.results))
    rows = [
        *zip(*(group.partition("_")[::2] for group in groups), strict=True),
        *([_scores(one, group) for group in groups] for one in cards),
    ]
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = max(len(one.name) for one in cards)
    lines = []
    for label, row in zip(["", "", *(one.name for one in cards)], rows, strict=True):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, columns, strict=True))
        lines.append(f"  {label:<{wide}}  {'  '.join(cells)}".rstrip())
    return lines


def _group(task: str) -> str:
    """What scores over few and over many examples have in common: `digits_plain` of `digits_plain_long`."""
    return task.removesuffix("_short").removesuffix("_long")


def _scores(card: Card, group: str) -> str:
    return " ".join(_score(score) for task, (score, _) in card.results.items() if _group(task) == group)


def is_name(source: str | Path) -> bool:
    """Whether this is `pretrained:NAME`."""
    return str(source).startswith(PREFIX)


def path_of(source: str | Path) -> Path:
    """The file that `pretrained:NAME` means; any other path as it is. Raises `UserError` for an unknown NAME.

    A second `pretrained:` changes nothing: a NAME may be given with or without it.
    """
    if not is_name(source):
        return Path(source)
    name = str(source).replace(PREFIX, "")
    if name not in names():
        raise UserError(f"{PREFIX}{name}: there is no such pretrained algorithm: choose from {', '.join(names())}")
    return path_for(name)


def suggest(source: str | Path) -> str:
    """`; did you mean pretrained:NAME?` where a path is the NAME of one, or nothing."""
    return f"; did you mean {PREFIX}{source}?" if str(source) in names() else ""


def path_for(name: str) -> Path:
    """Where the file of a new one belongs."""
    return _FOLDER / f"{name}.npz"


def card(name: str) -> Card:
    """What is known of one. Raises `UserError` where there is no such name."""
    path = path_of(PREFIX + name).with_suffix(".json")
    return Card.from_json(path.stem, json.loads(path.read_text(encoding="utf-8")))


def _score(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
