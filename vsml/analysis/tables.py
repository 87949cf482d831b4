"""The table of a run's evaluations: the learned algorithm above its rivals, as plain text."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vsml.evaluation.base import LEARNED
from vsml.evaluation.summary import Summary
from vsml.metrics import title

WIDTH = 100
"""Columns that a table fits into, where its labels and scores allow."""
NOTE = "Mean over lifetimes ± 95 % interval"
NONE = "-"
NARROWEST = 13
"""Columns of `0.822 ± 0.006`: titles of scores are broken into lines of that length."""


def evaluation_table(evaluations: Mapping[str, Mapping[str, Any]], width: int = WIDTH) -> str:
    """Renders evaluations side by side with their rivals; those with the same scores under one header.

    Args:
      evaluations: what `summary.json` holds under `evaluations`: name -> summary of one evaluator.
      width: columns.

    Returns:
      Lines without a final line break, no wider than `width` where possible: standard deviations are left out where
      they do not fit.
    """
    summaries = [Summary(name, content) for name, content in evaluations.items()]
    lines: list[str] = []
    spread = NOTE
    for _, group in itertools.groupby(summaries, key=lambda s: [(n, m.title) for n, m in s.scores.items()]):
        block = list(group)
        table = _block(block, with_std=True)
        if max(map(len, table)) > width:
            table = _block(block, with_std=False)
        else:
            spread = f"{NOTE}, and their std"
        lines += table
    notes = dict.fromkeys(summary.note for summary in summaries if summary.note)
    return "\n".join([*lines, f"{spread}.", *(line for note in notes for line in textwrap.wrap(note, width))])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def about(summary: Summary) -> str:
    """What an evaluation is made of: `32 lifetimes of 300 examples, chance 0.100, digits, split test, held out`."""
    facts = summary.facts
    examples, different = facts.pop("examples", None), facts.pop("different_examples", None)
    of = f" of {examples} examples" if examples else ""
    of += f" ({different} different ones)" if examples and different and different < examples else ""
    data = [str(facts.pop(name)) for name in ("data", "relation") if name in facts]
    shown = [_fact(title(name), value) for name, value in facts.items()]
    return ", ".join(filter(None, [f"{summary.content['lifetimes']} lifetimes{of}", *shown, *data]))


def _fact(name: str, value: Any) -> str:
    """`chance 0.100`; only the name for True; nothing for False, an empty text or a value that is not plain."""
    if isinstance(value, bool):
        return name if value else ""
    if isinstance(value, float):
        return f"{name} {number(value)}"
    return f"{name} {value}" if isinstance(value, str | int) and value != "" else ""


def number(value: float, interval: float | None = None) -> str:
    """A value, with the half width of its interval: three decimals, or three digits if it is large or small."""
    if not math.isfinite(value):
        return "not finite"
    form = _form(value, interval)
    return f"{value:{form}}" + ("" if interval is None or not math.isfinite(interval) else f" ± {interval:{form}}")


def _form(value: float, interval: float | None) -> str:
    size = max(abs(value), abs(interval or 0))
    return ".3f" if size == 0 or 0.01 <= size < 10_000 else ".3g"


def _block(summaries: Sequence[Summary], with_std: bool) -> list[str]:
    """The lines of evaluations with the same scores: a header, then for each a title and its rows."""
    blocks = [[(summary, LEARNED), *((r, r.name) for r in summary.rivals.values())] for summary in summaries]
    rows = [row for block in blocks for row in block]
    measures = summaries[0].scores
    head = {name: textwrap.wrap(measure.title, NARROWEST) for name, measure in measures.items()}
    height = max(map(len, head.values()))
    columns = [["", *([""] * (height - 1)), *(f"  {label}" for _, label in rows)]]
    for name, words in head.items():
        column = [*([""] * (height - len(words))), *words, *(_mean(row, name) for row, _ in rows)]
        if with_std:
            stds = [*([""] * (height - 1)), "std", *(_std(row, name) for row, _ in rows)]
            width = max(map(len, column))
            column = [f"{mean:<{width}} {std}" for mean, std in zip(column, stds, strict=True)]
        columns.append(column)
    lines = iter(aligned(list(zip(*columns, strict=True))))
    table = list(itertools.islice(lines, height))
    for summary, block in zip(summaries, blocks, strict=True):
        table += [f"{summary.name}: {about(summary)}", *itertools.islice(lines, len(block))]
    return table


def _mean(scored: Summary, name: str) -> str:
    spread = scored.spread(name)
    return NONE if spread is None else number(spread.mean, spread.interval95)


def _std(scored: Summary, name: str) -> str:
    spread = scored.spread(name)
    if spread is None or not math.isfinite(spread.std):
        return NONE
    return f"{spread.std:{_form(spread.mean, spread.interval95)}}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()
