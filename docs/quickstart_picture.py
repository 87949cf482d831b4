"""The picture of the README: learning curves of a run of the quickstart beside those of its rivals.

    python docs/quickstart_picture.py runs/quickstart --out docs/quickstart.svg

Reads `summary.json` and the curves of the evaluations. There is no background, and text is of a grey that can be read
on white and on black, since a page may be dark where the reader's system is light.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, as_svg, window
from vsml.errors import UserError
from vsml.evaluation.statistics import band, smooth
from vsml.runs.files import write_whole
from vsml.runs.results import Run, read_results

LINES = {
    "correct": "learned algorithm",
    "best_sgd_correct": "best SGD",
    "best_adam_correct": "best Adam",
    "nearest_neighbour_correct": "1-nearest neighbour",
}
TITLES = {"digits_plain": "digits", "digits_projected": "digits, randomly projected"}

INK = "#767676"
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
EVERY = 4
"""Of the points of a curve every fourth is drawn, which keeps the file small."""


def draw(run: Run) -> str:
    """The text of an SVG file. Raises `UserError` where the run has not been evaluated beside its baselines."""
    summary = run.summary
    if summary is None or not set(TITLES) <= set(summary["evaluations"]):
        raise UserError(f"{run.path}: no finished run of the quickstart: train it first, as `make train` does")
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        curves, evaluation = run.curves(name), summary["evaluations"][name]
        if missing := [line for line in LINES if line not in curves]:
            raise UserError(f"{run.path}: evaluation {name} has no {missing[0]}: evaluate it with its baselines")
        width = window(curves["correct"].shape[1])
        for colour, (line, label) in zip(COLOURS, LINES.items(), strict=False):
            mean, interval = (values[::EVERY] for values in band(smooth(curves[line], width)))
            x = np.arange(len(mean)) * EVERY + width
            axes.plot(x, mean, color=colour, label=label)
            axes.fill_between(x, mean - interval, mean + interval, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(evaluation["chance"], color=INK, linewidth=0.8, linestyle=":", label="chance")
        axes.set(title=title, xlabel="examples seen", ylim=(0, 1), xlim=(0, None))
        axes.grid(color=INK, alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"accuracy before the label is seen\n(running mean over {width})")
    panels[0].legend(loc="lower right", frameon=False)
    return as_svg(figure)


def main() -> int:
    """Reads the command line, writes the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draw the learning curves of a run of the quickstart.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the SVG file")
    args = parser.parse_args()
    try:
        with mpl.rc_context(dict.fromkeys(INKED, INK)):
            write_whole(args.out, draw(read_results(args.run_dir).runs[0]))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
