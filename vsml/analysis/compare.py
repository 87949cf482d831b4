"""Two runs side by side, as plain text: how their configs differ, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsml.analysis.tables import aligned
from vsml.config import ABSENT, leaves
from vsml.errors import UserError
from vsml.runs.results import Run

NONE = "-"
ENDS = {"loss": "meta-training loss", "accuracy": "meta-training accuracy"}
MEASURES = {"cumulative_accuracy": "cumulative accuracy", "final_accuracy": "final accuracy", "loss": "loss"}
SIZES = {
    "meta_steps": "meta-steps",
    "seconds": "seconds",
    "num_meta_parameters": "|V_M|",
    "num_learned_variables": "|V_L|",
}


def compare(first: Path, second: Path) -> str:
    """The differences of two runs.

    Args:
      first: a run directory, finished or not.
      second: the other.

    Returns:
      Lines of text. Raises `UserError` where one is no run directory.
    """
    runs = [Run(path, path.name or str(path)) for path in (first, second)]
    for run in runs:
        if run.config is None:
            raise UserError(f"{run.path}: no config.json in it, so this is no run directory: check the path")
    names = (str(first), str(second))
    settings = [("config", *names), *_settings(*runs)]
    if len(settings) == 1:
        settings = [("config: no difference", "", "")]
    return "\n".join([*aligned(settings), "", *aligned([("result", *names), *_results(*runs)])])


def _settings(first: Run, second: Run) -> list[tuple[str, str, str]]:
    trees = [leaves((run.config or {})["train"], "train") for run in (first, second)]
    pairs = [(key, *(tree.get(key, ABSENT) for tree in trees)) for key in dict.fromkeys((*trees[0], *trees[1]))]
    return [(f"  {key}", str(old), str(new)) for key, old, new in pairs if old != new]


def _results(first: Run, second: Run) -> list[tuple[str, str, str]]:
    summaries = [run.summary or {} for run in (first, second)]
    rows = [("  state", first.status, second.status)]
    ends = [run.metrics[-1] if run.metrics else {} for run in (first, second)]
    rows += [_row(name, ends, lambda end, key=key: _show(end.get(key))) for key, name in ENDS.items()]
    rows += [_row(name, summaries, lambda s, key=key: _size(s.get(key))) for key, name in SIZES.items()]
    for name in dict.fromkeys(name for s in summaries for name in s.get("evaluations", {})):
        found = [s.get("evaluations", {}).get(name, {}) for s in summaries]
        rows += [
            _row(f"{name}: {text}", found, lambda e, key=key: _interval(e.get(key))) for key, text in MEASURES.items()
        ]
    return rows


def _row(
    name: str, sources: Sequence[Mapping[str, Any]], show: Callable[[Mapping[str, Any]], str]
) -> tuple[str, str, str]:
    first, second = map(show, sources)
    return f"  {name}", first, second


def _show(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _size(value: float | None) -> str:
    return NONE if value is None else f"{value:,}"


def _interval(score: Mapping[str, float | None] | None) -> str:
    if not score or score["mean"] is None:
        return NONE
    return f"{score['mean']:.3f} ± {score['interval95']:.3f}"
