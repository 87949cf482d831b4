"""The learned algorithm against each of its rivals, on the same lifetimes: the table of an evaluation.

    one seed        pairs are lifetimes: Student's paired test, as `summary.json` has it
    several seeds   V_M of a seed is the unit: the same test on the seeds' mean differences

Lifetimes of several seeds are never pooled: they are the same tasks again, so that they are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vsml.analysis.document import Block, Cell, Heading, Table, Text
from vsml.analysis.tables import NONE, number
from vsml.evaluation.statistics import paired
from vsml.evaluation.summary import Paired, Summary

NOTE = (
    "The learned algorithm minus the rival on the same lifetimes, mean ± 95 % interval; p: Student's paired t test, "
    "two-sided, not corrected for the number of comparisons. With one seed the pairs are its lifetimes, which say "
    "nothing about other seeds of meta-training. With several seeds the unit is V_M of a seed, by its mean difference."
)


def against_rivals(
    found: Mapping[str, Sequence[Summary]], heads: Mapping[str, Sequence[Cell]], names: Sequence[str]
) -> list[Block]:
    """Differences to the rivals with their p values.

    Args:
      found: row -> the summaries of one evaluation, one per seed.
      heads: row -> the cells that say which row it is.
      names: the headers of these cells.

    Returns:
      A heading, a table and a note; empty where there are no rivals, or no paired differences.
    """
    scores = next(iter(found.values()))[0].scores
    rows = []
    for label, summaries in found.items():
        for key, rival in summaries[0].rivals.items():
            every = [summary.rivals[key] for summary in summaries if key in summary.rivals]
            tests = [_test(every, score) for score in scores]
            if any(tests):
                lifetimes = summaries[0].content["lifetimes"]
                unit = f"{len(every)} seeds" if len(every) > 1 else f"{lifetimes} lifetimes"
                cells = [cell for test in tests for cell in _cells(test)]
                rows.append([*heads[label], Cell(rival.name), Cell(unit), *cells])
    if not rows:
        return []
    header = [*names, "against", "n", *(head for measure in scores.values() for head in (measure.title, "p"))]
    return [Heading("Differences to the rivals", 3), Table(header, rows), Text(NOTE)]


def _test(rivals: Sequence[Summary], score: str) -> Paired | None:
    """The test against one rival: over the seeds, or over the lifetimes where there is one seed; None without pairs."""
    each = [found for rival in rivals if (found := rival.paired(score))]
    if len(each) < 2:
        return each[0] if each else None
    return Paired(**paired(np.asarray([found.difference for found in each])))


def _cells(test: Paired | None) -> tuple[Cell, Cell]:
    if test is None:
        return Cell(NONE), Cell(NONE)
    return Cell(number(test.difference, test.interval95)), Cell(f"{test.p:.2g}" if math.isfinite(test.p) else NONE)
