"""What the runs of a row of a report have: their evaluations, and what was logged of their meta-training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vsml.evaluation.summary import Summary
from vsml.metrics import of_the_objective
from vsml.runs.results import Run

LAST_SHARE = 0.1
"""The mean over this last share of the logged meta-steps is the outcome of meta-training."""


def evaluation_names(runs: Iterable[Run]) -> list[str]:
    """Names of all evaluations, in the order of the runs."""
    return list(dict.fromkeys(name for run in runs for name in (run.summary or {}).get("evaluations", {})))


def evaluated(runs: Sequence[Run], name: str) -> list[Summary]:
    """The summaries of an evaluation, of those runs that have one."""
    summaries = [(run.summary or {}).get("evaluations", {}).get(name) for run in runs]
    return [Summary(name, summary) for summary in summaries if summary]


def means(summaries: Sequence[Summary], headline: str) -> list[float]:
    """The mean of a score in each evaluation that has it."""
    return [spread.mean for summary in summaries if (spread := summary.spread(headline))]


def measured(logged: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:
    """What the objectives of any run measure; runs are entries of `metrics.jsonl`."""
    return of_the_objective(dict.fromkeys(name for runs in logged.values() for run in runs for name in run[-1]))


def end(metrics: Sequence[Mapping[str, Any]], metric: str) -> float:
    last = metrics[-max(1, int(len(metrics) * LAST_SHARE)) :]
    return float(np.mean([logged(entry, metric) for entry in last]))


def logged(entry: Mapping[str, Any], metric: str) -> float:
    value = entry.get(metric)
    return math.nan if value is None else value
