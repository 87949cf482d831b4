"""Pictures of a network of sub-RNNs as one matrix: equal colours are shared entries, zeros are white.

In a small network every element is drawn: shades distinguish the entries of a block, and a second plot shows the values
of the weights. In a larger one a pixel is a pair of nodes, or several neighbouring pairs where there are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vsml.analysis.connections import OUTSIDE, Connections, Group, Kind
from vsml.analysis.matrix_view import MatrixView
from vsml.errors import UserError

LARGEST_DRAWING = 1_000
"""Rows up to which every element is drawn."""
PIXELS = 1_440
"""Nodes along a side up to which each has a pixel of its own."""
LARGEST_READABLE = 3 * PIXELS
"""Nodes beyond which a report leaves the picture out."""
LARGEST_LABELLED = 40
"""Most nodes along a side for which there is room for their names."""
NEAREST = 0.025
"""Least distance of two names, as a share of the side."""
MOST_KINDS = 10
"""Most kinds that the legend lists one by one; of more kinds it lists the types."""
PALE = 0.35
"""How dark the lightest shade of a colour is."""

COLOURS = {
    "own": "#333333",
    "forward": "#0072B2",
    "backward": "#D55E00",
    "forward + backward": "#8E44AD",
    "own + forward": "#117A65",
    "own + backward": "#7B3F00",
    "own + forward + backward": "#B8860B",
    "forward in": "#56B4E9",
    "backward in": "#E69F00",
    "forward out": "#009E73",
    "backward out": "#CC79A7",
}
"""By `Kind.type`."""


def draw_connections(found: Connections, title: str) -> Figure:
    """A pixel per pair of nodes, a colour per type of connection, a shade per kind: its shares and parameter sets."""
    rows, columns = found.shape
    shades = _shades([kind.type for kind in found.kinds], [1] * len(found.kinds))
    height, width = min(rows, PIXELS), min(columns, PIXELS)
    image = np.ones((height, width, 3))
    first_of_all = np.argsort(found.kind, kind="stable")[::-1]  # the last one written to a pixel stays: own states
    where = found.senders[first_of_all] * height // rows, found.receivers[first_of_all] * width // columns
    image[where] = shades[found.kind[first_of_all]]
    figure = Figure(figsize=(9, 10), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image, interpolation="none", extent=(0, columns, rows, 0))
    _frame(axes, _edges(found.rows, 1), _edges(found.columns, 1), found)
    axes.set_title(f"{title}\n{_pixel(rows, columns)}", fontsize=11)
    _legend(figure, found.kinds, shades)
    return figure


def draw(view: MatrixView, title: str) -> Figure:
    """All elements: which of them are shared, and their values; pairs of nodes where the matrix is too large."""
    rows, columns = view.shape
    if max(rows, columns) > LARGEST_DRAWING:
        return draw_connections(view.connections, title)
    kinds, sizes = view.connections.kinds, _sizes(view)
    colours = np.concatenate([np.ones((1, 3)), _shades([kind.type for kind in kinds], sizes)])
    figure = Figure(figsize=(16, 9), layout="constrained")
    left, right = figure.subplots(1, 2)
    extent = (0, columns, rows, 0)
    left.imshow(colours[view.names.toarray()], interpolation="none", extent=extent)
    values = np.ma.masked_equal(view.matrix.toarray(), 0)
    limit = max(abs(view.matrix).max(), 1e-9)
    shown = right.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none", extent=extent)
    figure.colorbar(shown, ax=right, shrink=0.6, label="weight")
    found = view.connections
    edges = [_edges(groups, view.size, view.channels) for groups in (found.rows, found.columns)]
    for axes, name in ((left, "one colour per shared entry"), (right, "the weights")):
        _frame(axes, edges[0], edges[1], found)
        axes.set_title(name, fontsize=11)
    figure.suptitle(f"{title}\n{rows:,} x {columns:,} elements, {view.matrix.nnz / (rows * columns):.1%} not zero")
    middles = [colours[1 + start + size // 2] for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False)]
    _legend(figure, kinds, np.asarray(middles))
    return figure


def save_drawing(figure: Figure, path: Path) -> None:
    """Writes a drawing as .png, .svg or .pdf.

    Raises:
      UserError: for another suffix, or where it cannot be written.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"{path} is not a known kind of picture: use a name that ends in .png, .svg or .pdf")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error


def _sizes(view: MatrixView) -> list[int]:
    """Elements of a block of each kind."""
    size, channels = view.size, view.channels
    return [size * (channels if OUTSIDE in (kind.sender, kind.receiver) else size) for kind in view.connections.kinds]


def _shades(types: Sequence[str], sizes: Sequence[int]) -> np.ndarray:
    """A colour for each of `sizes` entries of each kind, [entries, 3]: light to dark through all kinds of a type."""
    of_entry = np.repeat(np.arange(len(types)), sizes)
    shades = np.ones((len(of_entry), 3))
    for name in dict.fromkeys(types):
        entries = np.flatnonzero(np.asarray([t == name for t in types])[of_entry])
        dark = np.linspace(PALE, 1, len(entries)) if len(entries) > 1 else np.ones(1)
        shades[entries] = 1 - dark[:, None] * (1 - np.asarray(to_rgb(COLOURS[name])))
    return shades


def _edges(groups: Sequence[Group], size: int, channels: int | None = None) -> np.ndarray:
    """Where the nodes of all groups start, and where the last one ends."""
    width = {True: channels or size, False: size}
    return np.cumsum([0, *(width[group.layer == OUTSIDE] for group in groups for _ in group.names)])


def _frame(axes: Axes, rows: np.ndarray, columns: np.ndarray, found: Connections) -> None:
    """Lines between groups, and the names of groups, or of nodes where there is room for them."""
    axes.tick_params(length=0)
    for axis, edges, groups in ((axes.yaxis, rows, found.rows), (axes.xaxis, columns, found.columns)):
        vertical = axis is axes.xaxis
        line = axes.axvline if vertical else axes.axhline
        ends = np.cumsum([0, *(len(group.names) for group in groups)])
        if len(edges) - 1 <= LARGEST_LABELLED:
            names = [name for group in groups for name in group.names]
            axis.set_ticks(
                (edges[:-1] + edges[1:]) / 2, names, rotation=90 * vertical, fontsize=min(9, 300 / len(names))
            )
            for edge in edges[1:-1]:
                line(edge, color="0.88", linewidth=0.4)
        else:
            middles = (edges[ends[:-1]] + edges[ends[1:]]) / 2
            labels = [f"{group.name} ({len(group.names):,})" for group in groups]
            axis.set_ticks(_apart(middles, edges[-1]), labels, rotation=90 * vertical, fontsize=9)
        for edge in edges[ends[1:-1]]:
            line(edge, color="0.55", linewidth=0.8)
    axes.set_ylabel(f"from: {_reading(found.rows)}")
    axes.set_xlabel(f"to: {_reading(found.columns)}")


def _apart(middles: np.ndarray, end: float) -> np.ndarray:
    """Places for names, none nearer than `NEAREST` to the next: neurons come first in rows, last in columns."""
    gap, placed = NEAREST * end, middles.copy()
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    placed[-1] = min(placed[-1], end)
    for index in range(len(placed) - 2, -1, -1):
        placed[index] = min(placed[index], placed[index + 1] - gap)
    return placed


def _reading(groups: Iterable[Group]) -> str:
    """`inputs x, feedback e, sub-RNNs (input, output)`."""
    ends = [f"{group.name} {group.names[0][0]}" for group in groups if group.layer == OUTSIDE]
    return ", ".join([*ends, "sub-RNNs (input neuron, output neuron), layer by layer"])


def _pixel(rows: int, columns: int) -> str:
    """What one pixel is."""
    side = -(-max(rows, columns) // PIXELS)
    return "a pixel is a pair of nodes" if side == 1 else f"a pixel is up to {side} x {side} pairs of nodes"


def _legend(figure: Figure, kinds: Sequence[Kind], colours: np.ndarray) -> None:
    """What the colours mean: kind by kind, or type by type where there are too many kinds."""
    several_sets = len({index for kind in kinds for index in (kind.sender, kind.receiver)} - {OUTSIDE}) > 1
    types = [kind.type for kind in kinds]
    in_order = sorted(range(len(kinds)), key=lambda index: [*COLOURS].index(types[index]))
    if len(kinds) <= MOST_KINDS:
        shown = {i: f"{kinds[i].shares}, {kinds[i].sets}" if several_sets else kinds[i].shares for i in in_order}
    else:
        darkest = {types[i]: i for i in in_order}
        shown = {i: f"{name} ({types.count(name)} shades)" for name, i in darkest.items()}
    handles = [Patch(color=colours[i], label=name) for i, name in shown.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
