"""Pictures of runs as SVG: curves with their intervals, bars and points, without a background.

Colour-blind readers can tell the colours apart; black turns light where the reader prefers dark pages. Where there are
few values, each is shown: Student's interval of two values is wider than most axes.

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

from vsml.analysis.statistics import estimate
from vsml.analysis.tables import number
from vsml.evaluation.statistics import band

BLACK, GREY = "#000000", "#808080"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK, "#F0E442")
STYLES = ("-", "--", ":", "-.")
"""Together with the colours, these distinguish 32 lines."""
DASHES = ("--", ":", "-.", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Styles of references, which are grey where lines use the colours."""
MAX_BANDS = 6
"""Most lines that are drawn with bands; the bands of more would hide each other."""
MAX_COLOURS = 7
"""Colours that are dark enough for the thin line of a reference."""
MAX_MARKERS = 20
"""Most points of a line that are drawn with markers."""
MAX_PLACES = 48
"""Most names below an axis that can be read."""
ENOUGH = 5
"""Least number of values for which a mean is shown with its interval; of fewer values, each is shown."""
INK = "svg{color:#1a1a1a;fill:currentColor}@media (prefers-color-scheme:dark){svg{color:#e4e4e4}}"
"""A style in which black elements take the colour of text, dark or light as the reader prefers."""
WIDTH, BAR = 5.8, 0.36
"""In inches: the width of a figure, which a phone shows at about 60 %, and the height of a bar."""
LEGEND = 90
"""Characters in a line of the legend."""
PLOT, LINE = 2.8, 0.2
"""In inches: the least height of a plot, and the height of a line of the legend."""
TICK = 24
"""Most characters of the label of a tick."""


class Curve(NamedTuple):
    """A line with its interval, or with the few lines that it is the mean of."""

    x: np.ndarray  # [T]
    mean: np.ndarray  # [T]
    interval95: np.ndarray  # [T]
    single: np.ndarray | None = None  # [n, T]; None: the interval is shown


class Scored(NamedTuple):
    """Values of one row of a report at a place of the horizontal axis."""

    x: float
    label: str
    values: Sequence[float]


def of_means(x: np.ndarray, curves: np.ndarray) -> Curve:
    """The mean of curves [n, T] over `x` [T], with its interval or, where there are few, with the curves."""
    with np.errstate(invalid="ignore"):
        mean, interval = band(curves)
    return Curve(x, mean, interval, curves if 1 < len(curves) < ENOUGH else None)


def curves(
    lines: Mapping[str, Curve],
    references: Mapping[str, Curve],
    labels: tuple[str, str],
    limits: tuple[float, float] | None = None,
    chance: float | None = None,
    places: Sequence[str] = (),
) -> str:
    """Lines with bands, and references without.

    Args:
      lines: name -> curve.
      references: the same, drawn thin and dashed, in colours that lines leave over, or in grey.
      labels: of the horizontal and the vertical axis, with units.
      limits: of the vertical axis; None to fit lines and references; bands may then be cut off.
      chance: a horizontal line; None for none.
      places: names of the values, which are then marks that no line joins.

    Returns:
      The text of an SVG file.
    """
    figure, axes = _figure(rows=len(lines) + len(references))
    for index, (name, curve) in enumerate(lines.items()):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        if places:
            axes.errorbar(curve.x, curve.mean, curve.interval95, color=colour, fmt="o", markersize=4, label=name)
            continue
        marker = "o" if len(curve.x) <= MAX_MARKERS else None
        axes.plot(curve.x, curve.mean, color=colour, linestyle=style, marker=marker, markersize=4, label=name)
        if len(lines) > MAX_BANDS:
            continue
        if curve.single is None:
            low, high = curve.mean - curve.interval95, curve.mean + curve.interval95
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.18, linewidth=0)
        elif marker:
            x = np.broadcast_to(curve.x, curve.single.shape)
            axes.scatter(x, curve.single, s=9, facecolors="none", edgecolors=colour, alpha=0.6)
        else:
            axes.plot(curve.x, curve.single.T, color=colour, linestyle=style, linewidth=0.7, alpha=0.4)
    free = COLOURS[len(lines) : MAX_COLOURS]
    for index, (name, curve) in enumerate(references.items()):
        colour, style = free[index] if len(references) <= len(free) else GREY, DASHES[index % len(DASHES)]
        if places:
            axes.plot(curve.x, curve.mean, "x", color=colour, label=name)
            continue
        axes.plot(curve.x, curve.mean, color=colour, linestyle=style, linewidth=1.2, label=name)
    if places:
        axes.set_xticks(range(len(places)), places, rotation=90, fontsize="x-small" if len(places) <= MAX_PLACES else 2)
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=0.6)
    shown = [*lines.values(), *references.values()]
    heights = [height for curve in shown for height in (curve.mean, curve.single) if height is not None]
    axes.set(xlabel=labels[0], ylabel=labels[1], ylim=limits or _limits(heights))
    _name_below(figure)
    return as_svg(figure)


def bars(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]],
    limits: Sequence[tuple[float, float] | None],
    chances: Sequence[float | None],
) -> str:
    """Panels of horizontal bars, one below the other: means, with their intervals or the few values.

    Args:
      panels: title, what the bars show, name of a bar -> its values.
      limits: of every panel, the lowest and highest possible value; None where there are none.
      chances: of every panel, a vertical line; None for none.

    Returns:
      The text of an SVG file.
    """
    heights = [0.9 + BAR * len(values) for _, _, values in panels]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for (title, shown, bars), limit, chance, axes in zip(panels, limits, chances, grid, strict=True):
        for index, values in enumerate(bars.values()):
            mean, interval = estimate(values)
            few = len(values) < ENOUGH
            axes.barh(index, mean, xerr=None if few else interval, color=COLOURS[index % len(COLOURS)], capsize=3)
            if few and len(values) > 1:
                axes.scatter(values, [index] * len(values), s=14, facecolors="none", edgecolors=GREY, zorder=3)
            axes.text(1.01, index, number(mean), transform=axes.get_yaxis_transform(), va="center", fontsize="small")
        axes.set(yticks=range(len(bars)), yticklabels=list(bars), title=title, xlabel=shown)
        if limit is not None and limit[0] >= 0:
            axes.set_xlim(left=0)
        if chance is not None:
            axes.axvline(chance, color=GREY, linewidth=0.8)
        axes.set_ylim(len(bars) - 0.4, -0.6)  # the first on top
        tidy(axes)
    return as_svg(figure)


def scale(
    points: Mapping[str, Sequence[Scored]],
    labels: tuple[str, str],
    joined: bool,
    limits: tuple[float, float] | None = None,
    chance: float | None = None,
) -> str:
    """Means, with their intervals or the few values, over a logarithmic axis; rows are named on top.

    Args:
      points: name of a colour -> its values.
      labels: of the horizontal and the vertical axis.
      joined: whether the rows have an order, so that lines join them.
      limits: the lowest and highest possible value; None where there are none.
      chance: a horizontal line; None for none.

    Returns:
      The text of an SVG file.
    """
    figure, axes = _figure(rows=len(points))
    rows: dict[float, list[str]] = {}
    for index, (name, found) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        found = sorted(found, key=lambda scored: scored.x)
        x, estimates = [scored.x for scored in found], [estimate(scored.values) for scored in found]
        axes.plot(x, [e.mean for e in estimates], "o-" if joined else "o", color=colour, label=name)
        for scored, (mean, interval) in zip(found, estimates, strict=True):
            if len(scored.values) < ENOUGH:
                some = [scored.x] * len(scored.values)
                axes.scatter(some, scored.values, s=12, facecolors="none", edgecolors=colour, alpha=0.7)
            else:
                axes.errorbar(scored.x, mean, interval, color=colour, capsize=3)
            if scored.label not in rows.setdefault(scored.x, []):
                rows[scored.x].append(scored.label)
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=0.6)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale="log")
    if limits is not None and limits[0] >= 0:
        axes.set_ylim(bottom=0)
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(rows), [_short(names) for names in rows.values()], rotation=30, ha="left", fontsize="small")
    top.set_xticks([], minor=True)
    _name_below(figure)
    return as_svg(figure)


def _figure(rows: int) -> tuple[Figure, Axes]:
    """A figure that is legible on a phone, with room for `rows` names below."""
    figure = Figure(figsize=(WIDTH, 3.4 + 0.1 * rows), layout="constrained")
    return figure, tidy(figure.add_subplot())


def _name_below(figure: Figure) -> None:
    """Adds a legend where there are several names, in as many columns as fit."""
    names = figure.axes[0].get_legend_handles_labels()[1]
    if len(names) < 2:
        return
    longest = max(map(len, names))
    columns = max(1, min(4, LEGEND // (longest + 8)))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, max(height, PLOT + LINE * math.ceil(len(names) / columns)))
    figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize="small")


def _short(names: Sequence[str]) -> str:
    """The names of the rows at one place of an axis, shortened: a tick has room for few characters."""
    whole = ", ".join(names)
    if len(whole) <= TICK:
        return whole
    more = f" + {len(names) - 1} more" if len(names) > 1 else ""
    first = names[0] if len(names[0]) <= TICK else f"{names[0][: TICK - 3]}..."
    return first + more


def window(length: int) -> int:
    """Steps of a running mean over a lifetime: a twentieth of its length."""
    return max(1, math.floor(length / 20))


def _limits(heights: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Limits of an axis that shows all of these, with a margin; None where none is finite."""
    finite = np.concatenate([height[np.isfinite(height)] for height in heights])
    if not finite.size:
        return None
    margin = 0.1 * float(np.ptp(finite)) or 0.1
    return float(finite.min()) - margin, float(finite.max()) + margin


def tidy(axes: Axes) -> Axes:
    """A light grid behind what is drawn, and no frame at the top and the right."""
    axes.grid(color=GREY, alpha=0.2)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def as_svg(figure: Figure) -> str:
    """A figure as the text of an SVG file; the same figure gives the same text."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vsml", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return file.getvalue().replace(BLACK, "currentColor").replace("</style>", INK + "</style>", 1)
