"""One evaluation as `summary.json` and `evaluations.jsonl` hold it, read back by those who show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from vsml.evaluation.base import RESERVED, Measure
from vsml.metrics import LOSS, title


class Spread(NamedTuple):
    """A score over lifetimes. What is not finite is NaN."""

    mean: float
    std: float
    interval95: float


class Paired(NamedTuple):
    """How far the evaluation is above a rival on the same lifetimes. What is not finite is NaN."""

    difference: float
    interval95: float
    p: float


@dataclass(frozen=True)
class Summary:
    """An evaluation, read back.

    Attributes:
      name: of the evaluation.
      content: as `Evaluation.summary` gives it, or as it comes out of JSON, with null for what is not finite.
    """

    name: str
    content: Mapping[str, Any]

    @property
    def scores(self) -> dict[str, Measure]:
        """How each score is shown, the headline first, the others as given."""
        described = self.content.get("scores")
        if described is None:  # written before scores were described
            chance = self.content.get("chance")
            return {
                name: Measure(title(name), name == LOSS, None if name == LOSS else (0.0, 1.0), chance)
                for name, value in self.content.items()
                if isinstance(value, Mapping) and "interval95" in value
            }
        names = dict.fromkeys((self.content["headline"], *described))
        return {name: _measure(described[name]) for name in names}

    @property
    def headline(self) -> str:
        """The score that runs are compared by."""
        return next(iter(self.scores))

    @property
    def curves(self) -> dict[str, Measure]:
        """How each curve is shown, as given."""
        return {name: _measure(measure) for name, measure in self.content.get("curves", {}).items()}

    @property
    def rivals(self) -> dict[str, Summary]:
        """Rivals by key; each is named by its label and has the same scores as far as it was given them."""
        found = self.content.get("baselines") or {}
        return {key: Summary(rival.get("label", title(key)), rival) for key, rival in found.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What else there is to know."""
        known = {*RESERVED, *self.scores}
        return {name: value for name, value in self.content.items() if name not in known}

    @property
    def note(self) -> str:
        """What the scores mean, "" where nothing is said."""
        return self.content.get("note", "")

    def spread(self, score: str) -> Spread | None:
        """A score by name, None where it has none."""
        found = self.content.get(score)
        if found is None:
            return None
        return Spread(*_numbers(found, Spread._fields))

    def paired(self, score: str) -> Paired | None:
        """Of a rival: how far the evaluation is above it in a score; None where that was not written down."""
        found = (self.content.get(score) or {}).get("paired")
        return Paired(*_numbers(found, Paired._fields)) if found else None


def _numbers(found: Mapping[str, Any], keys: tuple[str, ...]) -> list[float]:
    return [math.nan if found[key] is None else found[key] for key in keys]


def _measure(described: Mapping[str, Any]) -> Measure:
    known: dict[str, Any] = {field.name: described[field.name] for field in fields(Measure) if field.name in described}
    plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}  # from JSON
    return Measure(**plain)
