"""Figure and table of invariances.md: what changes of the tasks cost VSML and a Meta RNN."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import TINY, WIDTH, as_list, markdown, over_seeds, run_in, short
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, GREY, as_svg, tidy
from vsml.runs.results import Run

SEEDS = (0, 1, 2)
LEARNERS = {"VSML": "invariances", "Meta_RNN": "invariances_one_shape"}
SMALLEST = {
    "sweep": TINY,
    "eval": (
        *("tasks.HeldOut.length=10", "longer/tasks.HeldOut.length=16", "projected/tasks.HeldOut.length=10"),
        "evaluators.OnlineAccuracy.lifetimes=2",
    ),
}

VARIANTS = {
    "reference": "reference: MNIST, 14x14",
    "classes_3": "3 classes",
    "classes_4": "4 classes",
    "classes_5": "5 classes",
    "size_7": "7x7",
    "size_10": "10x10",
    "size_20": "20x20",
    "size_28": "28x28",
    "shuffled": "pixels shuffled",
    "projected": "randomly projected",
    "longer": "2,000 examples",
}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (
        f"vsml sweep sweeps/from_scratch.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/from_scratch --jobs 2",
        *(
            f"vsml eval RUNS/from_scratch/learner={learner},seed={seed} evaluators/{evaluators}.gin "
            f"--out RUNS/invariances/{learner}_{seed}"
            for learner, evaluators in LEARNERS.items()
            for seed in seeds
        ),
    )


def _runs(runs: Path, learner: str) -> list[Run]:
    return [run_in(runs / "invariances" / f"{learner}_{seed}") for seed in SEEDS]


def _scores(group: Sequence[Run], variant: str) -> list[float]:
    """Cumulative accuracy by seed; nothing where the learner cannot be tested so."""
    found = [run.curves(variant) for run in group]
    return [float(np.nanmean(curves["correct"])) for curves in found if curves]


def _neighbour(run: Run, variant: str) -> float:
    """Cumulative accuracy of the 1-nearest neighbour."""
    return float(np.nanmean(run.curves(variant)["nearest_neighbour_correct"]))


def _windows(group: Sequence[Run]) -> dict[str, float]:
    """Accuracy in eighths of a long lifetime, mean over seeds, by the examples that they hold."""
    correct = np.concatenate([run.curves("longer")["correct"] for run in group])
    ends = np.linspace(0, correct.shape[1], 9).astype(int)
    return {
        f"{start + 1:,} to {stop:,}": float(np.nanmean(correct[:, start:stop]))
        for start, stop in itertools.pairwise(ends)
    }


def figures(runs: Path) -> dict[str, str]:
    """Accuracy in each variant, a point for each seed."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = tidy(figure.add_subplot())
    names = list(VARIANTS)
    for place, learner in enumerate(LEARNERS):
        group = _runs(runs, learner)
        colour, label = COLOURS[place], learner.replace("_", " ")
        for row, variant in enumerate(names):
            scores = _scores(group, variant)
            axes.scatter(scores, [row + 0.24 * place - 0.12] * len(scores), color=colour, s=24, label=label)
            label = None
        reference = float(np.mean(_scores(group, "reference")))
        axes.axvline(reference, color=colour, linewidth=0.8, linestyle="--")
    axes.axvline(0.1, color=GREY, linewidth=0.6)
    axes.set(xlim=(0, 1), xlabel="cumulative accuracy", ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), list(VARIANTS.values()))
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize="small")
    return {"invariances.svg": as_svg(figure)}


def tables(runs: Path) -> dict[str, str]:
    """Means over seeds with their intervals, and the differences from the reference."""
    groups = {learner: _runs(runs, learner) for learner in LEARNERS}
    references = {learner: np.mean(_scores(group, "reference")) for learner, group in groups.items()}
    first = groups["VSML"][0]
    rows = []
    for variant, title in VARIANTS.items():
        row = [title]
        for learner, group in groups.items():
            scores = _scores(group, variant)
            change = short(float(np.mean(scores) - references[learner])) if scores else "-"
            row += [over_seeds(scores) if scores else "cannot be run", change]
        neighbour = _neighbour(first, variant)
        rows.append([*row, short(neighbour), short(neighbour - _neighbour(first, "reference"))])
    windows = {learner.replace("_", " "): _windows(group) for learner, group in groups.items()}
    longer = markdown(
        ["examples", *windows["VSML"]], [[name, *map(short, values.values())] for name, values in windows.items()]
    )
    return {
        "longer": longer,
        "scores": markdown(
            ["variant", "VSML", "change", "Meta RNN", "change", "*1-nearest neighbour*", "change"], rows
        ),
    }
