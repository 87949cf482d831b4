"""What the pages of this folder draw and tabulate alike: learning curves in panels, heat maps, Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, GREY, STYLES, as_svg, tidy, window
from vsml.analysis.statistics import estimate
from vsml.errors import UserError
from vsml.evaluation.statistics import band, smooth
from vsml.runs.results import Run, read_results

WIDTH = 8.0
"""Inches of a figure."""
TINY = ("STEPS=2", "LENGTH=5", "TEST_LENGTH=20", "evaluators.OnlineAccuracy.lifetimes=2")
"""Settings of a meta-training that takes seconds, for the tests."""
FEW_RIVALS = (
    *("TEST_LENGTH=20", "evaluators.OnlineAccuracy.lifetimes=2", "evaluators.Baselines.hidden=[0]"),
    *("evaluators.Baselines.rls_features=[4]", "evaluators.Baselines.ridges=[1]"),
)
"""Settings of an evaluation beside rivals that takes seconds, for the tests."""
RIVALS = {"best_sgd": "best SGD", "best_adam": "best Adam", "nearest_neighbour": "1-nearest neighbour"}
"""Rivals whose learning curves stand in grey beside those of learners, and their labels."""


def run_in(path: Path) -> Run:
    """The run in a directory. Raises `UserError` where there is none."""
    return read_results(path).runs[0]


def evaluation(run: Run, name: str) -> dict[str, Any]:
    """What `summary.json` holds of an evaluation. Raises `UserError` where the run has none of this name."""
    found = (run.summary or {}).get("evaluations", {})
    if name not in found:
        raise UserError(f"{run.path} has no evaluation {name}: run the commands of this page first")
    return found[name]


def score(found: Mapping[str, Any], name: str = "cumulative_accuracy") -> str:
    """`.82 ± .01`, of an evaluation or of a rival in it."""
    return plus_minus(found[name]["mean"], found[name]["interval95"])


def plus_minus(mean: float, interval: float | None, digits: int = 3) -> str:
    """`.822 ± .007`; the mean alone where there is no interval."""
    if interval is None or not np.isfinite(interval):
        return short(mean, digits)
    return f"{short(mean, digits)} ± {short(interval, digits)}"


def short(value: float, digits: int = 3) -> str:
    """`.822`, `-.04`, `1.00`."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def as_list(seeds: Sequence[int]) -> str:
    """`[0,1,2]`, as a word of a command line."""
    return f"[{','.join(map(str, seeds))}]"


def over_seeds(values: Sequence[float]) -> str:
    """The mean over seeds with Student's 95 % interval."""
    return plus_minus(*estimate(values))


def over_runs(found: Sequence[Mapping[str, float]]) -> tuple[float, float | None]:
    """Mean and 95 % interval of a score: over seeds, or of a single seed over its lifetimes."""
    if len(found) == 1:
        return found[0]["mean"], found[0]["interval95"]
    return estimate([each["mean"] for each in found])


def means(group: Sequence[Run], name: str, score: str = "cumulative_accuracy") -> list[float]:
    """A score of an evaluation, by run."""
    return [evaluation(run, name)[score]["mean"] for run in group]


def pooled(group: Sequence[Run], name: str, curve: str = "correct") -> np.ndarray:
    """A curve of an evaluation, with the lifetimes of all runs: [lifetimes, T]."""
    return np.concatenate([run.curves(name)[curve] for run in group])


def rival_curves(run: Run, name: str, rivals: Mapping[str, str] = RIVALS) -> dict[str, np.ndarray]:
    """Learning curves of the rivals that stand in grey beside those of learners, by label: each [lifetimes, T]."""
    curves = run.curves(name)
    return {label: curves[f"{key}_correct"] for key, label in rivals.items()}


def seconds(group: Sequence[Run]) -> str:
    """`66 s`, the median time of meta-training."""
    return f"{np.median([(run.summary or {})['seconds'] for run in group]):.0f} s"


def rival_name(rival: Mapping[str, Any]) -> str:
    """`best SGD`, of `best SGD (0 hidden, lr 0.02)`."""
    return rival["label"].split(" (")[0]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"


def learning_curves(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    chances: Sequence[float],
    grey: Sequence[str] = (),
    columns: int = 2,
    lowest: float = 0.0,
) -> str:
    """Panels of running accuracy over a lifetime, with a band of the 95 % interval over lifetimes.

    Args:
      panels: title -> name of a line -> [lifetimes, T] predictions that were right.
      chances: accuracy of guessing in each panel.
      grey: names of lines that are drawn in grey, as references.
      columns: panels beside each other.
      lowest: accuracy at the bottom of all panels.

    Returns:
      The text of an SVG file.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (title, lines), chance in zip(grid, panels.items(), chances, strict=False):
        names = [name for name in lines if name not in grey]
        for name, correct in lines.items():
            length = correct.shape[1]
            width, stride = window(length), max(4, length // 125)
            mean, interval = (values[::stride] for values in band(smooth(correct, width)))
            x = np.arange(len(mean)) * stride + width
            if name in grey:
                axes.plot(x, mean, color=GREY, linestyle=STYLES[1 + grey.index(name) % 3], linewidth=1.2, label=name)
                continue
            colour = COLOURS[names.index(name) % len(COLOURS)]
            axes.plot(x, mean, color=colour, label=name)
            axes.fill_between(x, mean - interval, mean + interval, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(chance, color=GREY, linewidth=0.6)
        axes.set(title=title, xlabel="examples seen", ylim=(lowest, 1), xlim=(0, None))
        tidy(axes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel("accuracy")
    shown: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(shown.values(), shown.keys(), loc="outside lower left", ncols=4, frameon=False, fontsize="small")
    return as_svg(figure)


def heat_maps(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float | None]]]], columns: Sequence[str], xlabel: str
) -> str:
    """Tables of accuracies as colours with the values in the cells, one below the other; readable in grey.

    Args:
      panels: title -> name of a row -> mean and interval of each cell.
      columns: their names.
      xlabel: what the columns are.

    Returns:
      The text of an SVG file.
    """
    heights = [len(rows) for rows in panels.values()]
    figure = Figure(figsize=(WIDTH, 0.6 + sum(0.55 + 0.26 * height for height in heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, rows) in zip(grid, panels.items(), strict=True):
        values = [[mean for mean, _ in cells] for cells in rows.values()]
        axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for row, cells in enumerate(rows.values()):
            for column, (mean, interval) in enumerate(cells):
                ink = "#101010" if mean > 0.55 else "#f4f4f4"
                text = plus_minus(mean, interval, digits=2)
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize="small")
        axes.set_title(title, loc="left")
        axes.set(xticks=range(len(columns)), yticks=range(len(rows)))
        axes.set_xticklabels(columns)
        axes.set_yticklabels(rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    grid[-1].set_xlabel(xlabel)
    return as_svg(figure)
