"""Values over a lifetime, and rows of small images, as pictures for TensorBoard's IMAGES tab."""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from tensorboardX import summary as summaries
from tensorboardX.summary import Summary

from vsml.evaluation.base import Measure, Picture
from vsml.evaluation.statistics import band, smooth

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image(tag: str, curves: Mapping[str, np.ndarray], heading: str, measure: Measure) -> Summary:
    """Curves [lifetimes, T], or [T], with what they measure, as an image summary."""
    return _summary(tag, _figure(curves, heading, measure))


def rows_of_images(tag: str, picture: Picture, heading: str) -> Summary:
    """A picture with the names of its rows, as an image summary."""
    from matplotlib.figure import Figure

    num_rows, num_columns = picture.values.shape[:2]
    figure = Figure(figsize=(1 + 0.6 * num_columns, 0.6 + 0.6 * num_rows), dpi=120, layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes, values in zip(grid.ravel(), picture.values.reshape(-1, *picture.values.shape[2:]), strict=True):
        axes.imshow(values, vmin=-1, vmax=1, cmap="gray", aspect="auto" if len(values) == 1 else "equal")
        axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[:, 0], picture.rows, strict=True):
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle(heading, fontsize="medium")
    return _summary(tag, figure)


def _summary(tag: str, figure: Figure) -> Summary:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return summaries.image(tag, np.asarray(canvas.buffer_rgba())[..., :3].copy(), dataformats="HWC")


def _figure(curves: Mapping[str, np.ndarray], heading: str, measure: Measure) -> Figure:
    """Means with their 95 % intervals over lifetimes, smoothed over a twentieth of a lifetime."""
    from matplotlib.figure import Figure  # here, since it takes a third of a second

    figure = Figure(figsize=(5, 3.5), dpi=120)
    axes = figure.add_axes((0.13, 0.14, 0.84, 0.72))  # fixed: finding a layout takes longer than drawing
    for name, values in curves.items():
        curve = np.atleast_2d(np.asarray(values, np.float64))
        width = 1 if measure.places else max(1, curve.shape[1] // 20)
        smoothed = smooth(curve, width)
        with np.errstate(invalid="ignore"):
            mean, interval = band(smoothed)
        steps = measure.positions() if measure.places else np.arange(len(mean)) + width
        if measure.names:
            axes.errorbar(steps, mean, interval, fmt="o", markersize=3, label=name)
            continue
        (line,) = axes.plot(steps, mean, label=name)
        axes.fill_between(steps, mean - interval, mean + interval, color=line.get_color(), alpha=0.2, linewidth=0)
    if measure.chance is not None:
        axes.axhline(measure.chance, color="#808080", linestyle="--", linewidth=1, label="chance")
    axes.set(xlabel=measure.axis if measure.places else "steps of a lifetime", ylabel=measure.title)
    if measure.names:
        axes.set_xticks(range(len(measure.names)), measure.names, rotation=90, fontsize=5)
    axes.set_title(heading, fontsize="medium")
    if measure.limits:
        axes.set_ylim(measure.limits)
    elif all((np.nan_to_num(values) >= 0).all() for values in curves.values()):
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(axes.get_lines()) > 1:
        axes.legend(loc="best", frameon=False, fontsize="small")
    return figure
