"""Figure and table of invariances.md: what changes of the tasks cost VSML and a Meta RNN."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import TINY, WIDTH, as_list, evaluation, markdown, over_seeds, run_in, short
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, GREY, as_svg, tidy
from vsml.runs.results import Run

SEEDS = (0, 1, 2)
LEARNERS = {
    "VSML": "invariances/VSML_{seed}",
    "VSML, three sizes": "image_sizes/seed={seed}",
    "Meta RNN": "invariances/Meta_RNN_{seed}",
}
RIVALS = {"best_sgd": "SGD", "nearest_class_mean": "class mean", "best_rls": "RLS", "nearest_neighbour": "1-NN"}
GRIDS = (
    "evaluators.Baselines.hidden=[0] evaluators.Baselines.sgd_learning_rates=[0.002,0.005,0.01,0.02,0.04,0.08,0.16] "
    "evaluators.Baselines.rls_features=[0] evaluators.Baselines.ridges=[0.1,0.3,1,3,10,30,100,300,1000,3000]"
)
"""Of SGD and least squares in one layer, which read what VSML reads."""
_FEW = (
    *("tasks.HeldOut.length=10", "longer/tasks.HeldOut.length=16", "projected/tasks.HeldOut.length=10"),
    "evaluators.OnlineAccuracy.lifetimes=2",
)
SMALLEST = {"sweeps/image_sizes.gin": ("STEPS=2", "LENGTH=5", *_FEW), "sweep": TINY, "eval": _FEW}

VARIANTS = {
    "reference": "reference: MNIST, 14x14",
    "classes_3": "3 classes",
    "classes_4": "4 classes",
    "classes_5": "5 classes",
    "size_7": "7x7",
    "size_7_enlarged": "7x7, enlarged to 14x14",
    "size_10": "10x10",
    "size_20": "20x20",
    "size_28": "28x28",
    "shuffled": "pixels shuffled",
    "projected": "randomly projected",
    "longer": "2,000 examples",
}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    trained = "RUNS/from_scratch/learner={learner},seed={seed}"
    tests = {"VSML": "evaluators/invariances.gin", "Meta_RNN": "evaluators/invariances_one_shape.gin"}
    return (
        f"vsml sweep sweeps/from_scratch.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/from_scratch --jobs 2",
        f"vsml sweep sweeps/image_sizes.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/image_sizes --jobs 2",
        *(
            f"vsml eval {trained.format(learner=learner, seed=seed)} {evaluators} "
            f"evaluators.OnlineAccuracy.baselines=None --out RUNS/invariances/{learner}_{seed}"
            for learner, evaluators in tests.items()
            for seed in seeds
        ),
        f"vsml eval {trained.format(learner='VSML', seed=0)} evaluators/invariances.gin "
        f"{GRIDS} --out RUNS/invariances/rivals",
    )


def _runs(runs: Path, learner: str) -> list[Run]:
    return [run_in(runs / LEARNERS[learner].format(seed=seed)) for seed in SEEDS]


def _scores(group: Sequence[Run], variant: str) -> list[float]:
    """Cumulative accuracy by seed; nothing where the learner cannot be tested so."""
    return [_accuracy(run, variant, "correct") for run in group if run.curves(variant)]


def _accuracy(run: Run, variant: str, curve: str) -> float:
    return float(np.nanmean(run.curves(variant)[curve]))


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
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = tidy(figure.add_subplot())
    names = list(VARIANTS)
    for place, learner in enumerate(LEARNERS):
        group = _runs(runs, learner)
        colour, label = COLOURS[place], learner
        for row, variant in enumerate(names):
            scores = _scores(group, variant)
            axes.scatter(scores, [row + 0.2 * (place - 1)] * len(scores), color=colour, s=20, label=label)
            label = None
        reference = float(np.mean(_scores(group, "reference")))
        axes.axvline(reference, color=colour, linewidth=0.8, linestyle="--")
    axes.axvline(0.1, color=GREY, linewidth=0.6)
    axes.set(xlim=(0, 1), xlabel="cumulative accuracy", ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), list(VARIANTS.values()))
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize="small")
    return {"invariances.svg": as_svg(figure)}


def tables(runs: Path) -> dict[str, str]:
    """Means over seeds with their intervals, and the differences from the reference, also of what is not learned."""
    groups = {learner: _runs(runs, learner) for learner in LEARNERS}
    rivals = run_in(runs / "invariances" / "rivals")
    learners, others = [], []
    for variant, title in VARIANTS.items():
        row = [title]
        for group in groups.values():
            scores = _scores(group, variant)
            if not scores:
                row += ["cannot be run", "-"]
                continue
            changes = np.subtract(scores, _scores(group, "reference"))  # of each seed
            row += [over_seeds(scores), over_seeds(changes.tolist())]
        learners.append(row)
        row = [title]
        for key in RIVALS:
            value, reference = (_accuracy(rivals, name, f"{key}_correct") for name in (variant, "reference"))
            edge = "*" if evaluation(rivals, variant)["baselines"][key].get("at_grid_edge") else ""
            row += [f"{short(value)}{edge}", short(value - reference)]
        others.append(row)
    windows = {learner: _windows(group) for learner, group in groups.items()}
    longer = markdown(
        ["examples", *windows["VSML"]], [[name, *map(short, values.values())] for name, values in windows.items()]
    )
    return {
        "longer": longer,
        "scores": markdown(["variant", *itertools.chain(*((name, "change") for name in LEARNERS))], learners),
        "rivals": markdown(["variant", *itertools.chain(*((name, "change") for name in RIVALS.values()))], others),
    }
