"""Two runs side by side, as plain text: how their configs differ, their histories, and their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsml.analysis.tables import NONE, aligned, number
from vsml.config import ABSENT, leaves
from vsml.errors import UserError
from vsml.evaluation.summary import Summary
from vsml.metrics import of_the_objective, title
from vsml.runs.history import EXCHANGED, describe, swaps
from vsml.runs.results import Run

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
      Lines of text. Raises `UserError` where one is not a run directory.
    """
    runs = [Run(path, path.name or str(path)) for path in (first, second)]
    for run in runs:
        if run.config is None:
            raise UserError(f"{run.path}: no config.json in it, so this is not a run directory: check the path")
    names = (str(first), str(second))
    settings = [("config", *names), *_settings(*runs)]
    if len(settings) == 1:
        settings = [("config: no difference", "", "")]
    return "\n".join([*aligned(settings), "", *_histories(*runs), "", *aligned([("result", *names), *_results(*runs)])])


def _settings(first: Run, second: Run) -> list[tuple[str, str, str]]:
    trees = [leaves((run.config or {})["train"], "train") for run in (first, second)]
    pairs = [(key, *(tree.get(key, ABSENT) for tree in trees)) for key in dict.fromkeys((*trees[0], *trees[1]))]
    return [(f"  {key}", str(old), str(new)) for key, old, new in pairs if old != new]


def _histories(first: Run, second: Run) -> list[str]:
    """The histories of the runs; only one where both are the same."""
    histories = [_history(run) for run in (first, second)]
    if histories[0] == histories[1]:
        return ["history: the same", *histories[0]]
    return [f"history of {first.path}", *histories[0], f"history of {second.path}", *histories[1]]


def _history(run: Run) -> list[str]:
    entries = run.history
    if not entries:
        return ["  not recorded"]
    lines, before = [], ""
    for step, where, changed in describe(entries):
        after = f"after {step} meta-steps" if step else "at the start"
        lines += [f"  {after}: {where}"] if where != before else []
        lines += [f"  {after} {change}" for change in changed]
        before = where
    data = ", ".join(f"{name} {digest[:12]}".lstrip() for name, digest in entries[-1]["data"].items())
    return [*lines, *(f"  {EXCHANGED}" for _ in swaps(entries)[:1]), f"  data: {data}"]


def _results(first: Run, second: Run) -> list[tuple[str, str, str]]:
    summaries = [run.summary or {} for run in (first, second)]
    rows = [("  state", first.status, second.status)]
    ends = [run.metrics[-1] if run.metrics else {} for run in (first, second)]
    for metric in dict.fromkeys(name for end in ends if end for name in of_the_objective(end)):
        rows.append(_row(f"meta-training {title(metric)}", ends, lambda end, metric=metric: _show(end.get(metric))))
    rows += [_row(name, summaries, lambda s, key=key: _size(s.get(key))) for key, name in SIZES.items()]
    for name in dict.fromkeys(name for s in summaries for name in s.get("evaluations", {})):
        found = [Summary(name, s.get("evaluations", {}).get(name, {})) for s in summaries]
        titles = {score: measure.title for summary in reversed(found) for score, measure in summary.scores.items()}
        for score, text in titles.items():
            rows.append((f"  {name}: {text}", _interval(found[0], score), _interval(found[1], score)))
    return rows


def _row(
    name: str, sources: Sequence[Mapping[str, Any]], show: Callable[[Mapping[str, Any]], str]
) -> tuple[str, str, str]:
    first, second = map(show, sources)
    return f"  {name}", first, second


def _show(value: float | None) -> str:
    return NONE if value is None else number(value)


def _size(value: float | None) -> str:
    return NONE if value is None else f"{value:,}"


def _interval(summary: Summary, score: str) -> str:
    spread = summary.spread(score)
    return NONE if spread is None else number(spread.mean, spread.interval95)
