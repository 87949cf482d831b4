"""Pictures of runs as SVG: curves with their intervals, and bars. Colours that colour-blind readers tell apart.

Source of the colours: M. Okabe and K. Ito 2008, "Color universal design".
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vsml.analysis.statistics import Estimate
from vsml.analysis.tables import number

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", ":", "-.")
"""With the colours, 32 lines are told apart."""
MAX_BANDS = 6
"""With more lines than these, bands would hide each other: there are none then."""
MAX_MARKERS = 20
"""A line of no more points than these shows each of them."""
GREY = "#666666"
PANEL = (4.6, 0.36)
"""Inches: width of a panel of bars, height of a bar."""


class Curve(NamedTuple):
    """A line with its interval."""

    x: np.ndarray  # [T]
    mean: np.ndarray  # [T]
    interval95: np.ndarray  # [T]


def curves(
    lines: Mapping[str, Curve],
    references: Mapping[str, Curve],
    labels: tuple[str, str],
    limits: tuple[float, float] | None = None,
    chance: float | None = None,
) -> str:
    """Lines with bands, and references without.

    Args:
      lines: name -> curve.
      references: the same, drawn in grey.
      labels: of the horizontal and the vertical axis, with units.
      limits: of the vertical axis; None for those of lines and references; bands may leave the picture.
      chance: a horizontal line; None for none.

    Returns:
      The text of an SVG file.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, curve) in enumerate(lines.items()):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        marker = "o" if len(curve.x) <= MAX_MARKERS else None
        axes.plot(curve.x, curve.mean, color=colour, linestyle=style, marker=marker, markersize=4, label=name)
        if len(lines) <= MAX_BANDS:
            low, high = curve.mean - curve.interval95, curve.mean + curve.interval95
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.18, linewidth=0)
    for index, (name, curve) in enumerate(references.items()):
        axes.plot(curve.x, curve.mean, color=GREY, linestyle=STYLES[1 + index % 3], linewidth=1, label=name)
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=0.6)
    axes.set(xlabel=labels[0], ylabel=labels[1], ylim=limits or _limits([*lines.values(), *references.values()]))
    _tidy(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return as_svg(figure)


def bars(
    panels: Sequence[Sequence[tuple[str, Mapping[str, Estimate]]]],
    labels: Sequence[str],
    chances: Sequence[float | None],
) -> str:
    """A grid of horizontal bars with their intervals.

    Args:
      panels: rows of panels of (title, name of a bar -> its value).
      labels: of every row, what its bars show.
      chances: of every row, a vertical line; None for none.

    Returns:
      The text of an SVG file.
    """
    heights = [max(len(values) for _, values in row) for row in panels]
    width, height = PANEL
    size = (width * max(map(len, panels)), sum(height * max(3, bars) + 0.9 for bars in heights))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        len(panels), max(map(len, panels)), squeeze=False, gridspec_kw={"height_ratios": [bars + 1 for bars in heights]}
    )
    for row, label, chance, line in zip(panels, labels, chances, grid, strict=True):
        for (title, values), axes in zip(row, line, strict=True):
            for index, value in enumerate(values.values()):
                axes.barh(index, value.mean, xerr=value.interval95 or 0, color=COLOURS[index % len(COLOURS)], capsize=3)
                axes.text(
                    *(0.01, index, number(value.mean)),
                    transform=axes.get_yaxis_transform(),
                    bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
                    va="center",
                    fontsize="small",
                )
            axes.set(yticks=range(len(values)), yticklabels=list(values), title=title, xlabel=label)
            if chance is not None:
                axes.axvline(chance, color=GREY, linewidth=0.8)
            axes.set_ylim(len(values) - 0.4, -0.6)  # the first on top
            _tidy(axes)
    return as_svg(figure)


def scale(points: Mapping[str, Sequence[tuple[float, Estimate]]], labels: tuple[str, str]) -> str:
    """Values with their intervals, over a logarithmic axis.

    Args:
      points: name of a line -> (x, value).
      labels: of the horizontal and the vertical axis.

    Returns:
      The text of an SVG file.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, found) in enumerate(points.items()):
        x, values = zip(*sorted(found), strict=True)
        heights = [value.mean for value in values]
        errors = [value.interval95 or 0 for value in values]
        line = "-" if len(set(x)) == len(x) else ""  # several rows of one ratio are no curve
        colour = COLOURS[index % len(COLOURS)]
        axes.errorbar(x, heights, errors, color=colour, linestyle=line, marker="o", capsize=3, label=name)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale="log")
    _tidy(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return as_svg(figure)


def window(length: int) -> int:
    """Steps of a running mean over a lifetime: a twentieth."""
    return max(1, math.floor(length / 20))


def _limits(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """What shows the means of all lines, with a margin."""
    heights = np.concatenate([curve.mean[np.isfinite(curve.mean)] for curve in curves])
    if not heights.size:
        return None
    margin = 0.1 * float(np.ptp(heights)) or 0.1
    return float(heights.min()) - margin, float(heights.max()) + margin


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def as_svg(figure: Figure) -> str:
    """A figure as the text of an SVG file; the same figure gives the same text."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vsml", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
