"""The table of a run's evaluations: the learned algorithm above the best gradient descent, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEGEND = """\
Predictions made before their label is seen; mean over lifetimes ± 95 % interval, and their std.
Cumulative: all examples. Final: the last tenth."""
ORACLE = "SGD and Adam are tuned on these very lifetimes."
BASELINES = {"best_sgd": "best SGD", "best_adam": "best Adam"}
"""What baselines are called."""
HEADER = ("accuracy", "cumulative", "std", "final", "std")


def evaluation_table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Renders evaluations side by side with their baselines.

    Args:
      evaluations: what `summary.json` holds under `evaluations`: name -> summary of one evaluator.

    Returns:
      Lines of at most 100 columns without a final line break; one block per evaluation.
    """
    blocks = {_title(name, summary): _rows(summary) for name, summary in evaluations.items()}
    cells = [HEADER, *(row for rows in blocks.values() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    lines = [_line(HEADER, widths)]
    for title, rows in blocks.items():
        lines += [title, *(_line(row, widths) for row in rows)]
    compared = any(summary.get("baselines") for summary in evaluations.values())
    return "\n".join([*lines, f"{LEGEND} {ORACLE}" if compared else LEGEND])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _title(name: str, summary: Mapping[str, Any]) -> str:
    return f"{name}: {summary['lifetimes']} lifetimes of {summary['examples']} examples, chance {summary['chance']:.3f}"


def _rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The evaluation itself, then its baselines."""
    rows = [_row("learned algorithm", summary)]
    for name, baseline in summary.get("baselines", {}).items():
        rows.append(_row(f"{BASELINES.get(name, name)} ({_settings(baseline)})", baseline))
    return rows


def _settings(baseline: Mapping[str, Any]) -> str:
    edge = ", the grid's edge" if baseline.get("at_grid_edge") else ""
    return f"{baseline['hidden']} hidden, lr {baseline['learning_rate']:g}{edge}"


def _row(label: str, scores: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [f"  {label}"]
    for name in ("cumulative_accuracy", "final_accuracy"):
        score = scores[name]
        cells += [f"{score['mean']:.3f} ± {score['interval95']:.3f}", f"{score['std']:.3f}"]
    return tuple(cells)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()
