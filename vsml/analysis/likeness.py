"""Which runs of a sweep may be compared: those with the length and settings asked for, and the same schedule and data.

The axes of a sweep are what is compared. A run that differs in anything else is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import replace

from vsml.runs.history import swaps
from vsml.runs.results import Results, Run


def comparable(results: Results) -> tuple[Results, dict[str, str]]:
    """Leaves out the runs that must not be in one test with the others.

    Returns:
      The results without these runs, and why each was left out, by its name.
    """
    if results.sweep is None:
        return results, {}
    apart = {run.name: reason for run in results.runs if (reason := _unlike_declared(run))}
    rest = [run for run in results.runs if run.name not in apart and run.config]
    apart |= _unlike_others(
        {run.name: ("", tuple(swaps(run.history))) for run in rest}, "its schedule is not that of the others: {}"
    )
    drawn_from = {run.name: _tasks_and_data(run) for run in rest if run.history}
    apart |= _unlike_others(drawn_from, "it was trained on other data than others with the same tasks")
    return replace(results, runs=tuple(run for run in results.runs if run.name not in apart)), apart


def _unlike_declared(run: Run) -> str:
    """How a run differs from what its sweep asks for; nothing where it does not."""
    config, summary = run.config or {}, run.summary
    if summary and run.steps not in (None, summary["meta_steps"]):
        return f"it ended after {summary['meta_steps']} meta-steps, not {run.steps}"
    if run.settings and config.get("settings") not in (None, run.settings):
        return "it was trained with other settings than the sweep's"
    return ""


def _tasks_and_data(run: Run) -> tuple[str, str]:
    return json.dumps((run.config or {})["train"].get("tasks")), json.dumps(run.history[-1]["data"])


def _unlike_others(found: Mapping[str, tuple[str, Hashable]], reason: str) -> dict[str, str]:
    """Why runs differ from most of their group, by name; `found` holds for each its group and what must be equal."""
    apart = {}
    for group in {group for group, _ in found.values()}:
        own = {name: value for name, (of, value) in found.items() if of == group}
        usual = Counter(own.values()).most_common(1)[0][0]
        for name, value in own.items():
            if value != usual:
                what = "; ".join(value) if isinstance(value, tuple) else ""
                apart[name] = reason.format(what or "it was never changed")
    return apart
