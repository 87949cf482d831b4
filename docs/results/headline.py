"""Figures and tables of headline.md: frozen learning algorithms on the scoreboard, beside rivals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from drawing import (
    RIVALS,
    WIDTH,
    as_list,
    evaluation,
    learning_curves,
    markdown,
    over_runs,
    plus_minus,
    pooled,
    rival_curves,
    rival_name,
    run_in,
    score,
    short,
)
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, as_svg, tidy
from vsml.analysis.statistics import estimate
from vsml.evaluation.statistics import band
from vsml.runs.results import Run

SEEDS = (0,)
ALONE = True
"""Made only where it is named: it takes hours."""
_FEW = ("board/evaluators.OnlineAccuracy.lifetimes=2", "LONG=20")
SMALLEST = {
    "sweep": ("STEPS=2", "LENGTH=5"),
    "train": ("LENGTH=5",),
    "evaluators/scoreboard.gin": (
        *_FEW,
        *(
            "evaluators.Baselines.hidden=[0]",
            "evaluators.Baselines.rls_features=[4]",
            "evaluators.Baselines.ridges=[1]",
        ),
    ),
    "evaluators/scoreboard_alone.gin": _FEW,
    "evaluators/far_beyond.gin": (
        "far_beyond/evaluators.OnlineAccuracy.lifetimes=2",
        "far_beyond/tasks.HeldOut.length=20",
    ),
}

SETS = {"digits": "digits, 8x8", "mnist": "MNIST", "kmnist": "KMNIST"}
FORMS = ("plain", "projected")
LENGTHS = ("short", "long")
BROAD, BEFORE, UNMET = "broad", "before meta-training", "meta-trained without this set"
FAR = {"far_broad": BROAD, "far_before": BEFORE, "far_without_mnist": "meta-trained without MNIST"}
LEFT_OUT = {"mnist": "MNIST", "kmnist": "KMNIST"}
WINDOW = 500
"""Examples of which far_beyond shows the mean."""


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    cell = "@board/{}/{}/{}/evaluators.OnlineAccuracy()"
    cells = {key: ", ".join(cell.format(key, form, length) for form in FORMS for length in LENGTHS) for key in LEFT_OUT}
    of_seeds = []
    for seed in seeds:
        point = "RUNS/broad/left_out={},seed=" + str(seed)
        broad, alone = point.format("nothing"), "evaluators/scoreboard_alone.gin"
        of_seeds += [
            f"vsml eval {broad} {alone} --out RUNS/headline/broad_{seed}",
            *(
                f"vsml eval {point.format(name)} {alone} 'EVALUATORS=[{cells[key]}]' "
                f"--out RUNS/headline/without_{key}_{seed}"
                for key, name in LEFT_OUT.items()
            ),
            f"vsml eval {broad} evaluators/far_beyond.gin --out RUNS/headline/far_broad_{seed}",
            f"vsml eval {point.format('MNIST')} evaluators/far_beyond.gin --out RUNS/headline/far_without_mnist_{seed}",
        ]
    return (
        f"vsml sweep sweeps/broad.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/broad --jobs 2",
        "vsml train recipes/broad.gin STEPS=1 LEARNING_RATE=0.0 --run_dir RUNS/headline/start",
        "vsml eval RUNS/headline/start evaluators/scoreboard.gin --out RUNS/headline/before",
        "vsml eval RUNS/headline/start evaluators/far_beyond.gin --out RUNS/headline/far_before",
        *of_seeds,
        f"docs/results/on_tables.py RUNS/broad/left_out=nothing,seed={seeds[0]} RUNS/headline/tables.json",
    )


def _runs(runs: Path, name: str) -> list[Run]:
    """Evaluations of a learned algorithm, by seed. Raises `UserError` where there is none."""
    folder = runs / "headline"
    return [run_in(path) for path in sorted(folder.glob(f"{name}_[0-9]*")) or [folder / name]]


def _scores(runs: Path) -> dict[str, list[Run]]:
    """Runs on the scoreboard, by the label of what was evaluated; that before meta-training has the rivals."""
    left_out = {f"meta-trained without {name}": _runs(runs, f"without_{key}") for key, name in LEFT_OUT.items()}
    return {BROAD: _runs(runs, "broad"), BEFORE: _runs(runs, "before"), **left_out}


def figures(runs: Path) -> dict[str, str]:
    """Learning curves of the long cells, and accuracy far beyond the lifetimes of meta-training."""
    found, panels = _scores(runs), {}
    for key, title in SETS.items():
        for form in FORMS:
            name = f"{key}_{form}_long"
            lines = {label: pooled(group, name) for label, group in found.items() if group[0].curves(name)}
            lines = {UNMET if "without" in label else label: correct for label, correct in lines.items()}
            panels[f"{title}, {form}"] = {**lines, **rival_curves(found[BEFORE][0], name)}
    curves = learning_curves(panels, [0.1] * len(panels), grey=tuple(RIVALS.values()))
    return {"headline.svg": curves, "headline_far.svg": _far(runs)}


def _far(runs: Path) -> str:
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = tidy(figure.subplots())
    for colour, (name, label) in zip(COLOURS, FAR.items(), strict=False):
        mean, interval = band(np.concatenate([_windows(run) for run in _runs(runs, name)]))
        x = WINDOW * (np.arange(len(mean)) + 1)
        axes.plot(x, mean, "o-", color=colour, markersize=3, label=label)
        axes.fill_between(x, mean - interval, mean + interval, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="examples seen", ylabel=f"accuracy over {WINDOW}", ylim=(None, 1), xlim=(0, None))
    axes.legend(frameon=False, fontsize="small")
    return as_svg(figure)


def _windows(run: Run) -> np.ndarray:
    """Accuracy over windows of 500 examples, [lifetimes, windows]."""
    correct = run.curves("far_beyond")["correct"]
    count = max(1, correct.shape[1] // WINDOW)
    return correct[:, : count * (correct.shape[1] // count)].reshape(len(correct), count, -1).mean(2)


def tables(runs: Path) -> dict[str, str]:
    """The scoreboard over few and over many examples, the last tenth, falls far beyond, and small tables. Of learned
    algorithms the mean over seeds with its interval, of one seed and of rivals that over lifetimes.
    """
    found = _scores(runs)
    return {
        "short": _board(found, "short", "cumulative_accuracy"),
        "long": _board(found, "long", "cumulative_accuracy"),
        "last": _board(found, "long", "final_accuracy"),
        "far": _falls(runs),
        "tables": _tables(json.loads((runs / "headline" / "tables.json").read_text(encoding="utf-8"))),
    }


def _board(found: Mapping[str, Sequence[Run]], length: str, measure: str) -> str:
    names = {f"{key}_{form}_{length}": f"{title}, {form}" for key, title in SETS.items() for form in FORMS}
    rows = []
    for label, group in found.items():
        known = [(run.summary or {})["evaluations"] for run in group]
        scores = {name: [each[name][measure] for each in known] for name in names if name in known[0]}
        rows.append([label, *(plus_minus(*over_runs(scores[name])) if name in scores else "" for name in names)])
    before = found[BEFORE][0]
    for key, rival in evaluation(before, next(iter(names)))["baselines"].items():
        scores = [score(evaluation(before, name)["baselines"][key], measure) for name in names]
        rows.append([f"*{rival_name(rival)}*", *scores])
    return markdown(["learning algorithm", *names.values()], rows)


def _falls(runs: Path) -> str:
    """The largest fall of the mean over lifetimes, from the best window before: of the worst seed."""
    rows = []
    for name, label in FAR.items():
        curves = np.stack([_windows(run).mean(0) for run in _runs(runs, name)])
        fall = float((np.maximum.accumulate(curves, axis=1) - curves).max())
        mean = curves.mean(0)
        rows.append([label, *map(short, (mean[0], mean.max(), mean[-1], fall))])
    return markdown(["learning algorithm", "first 500", "best 500", "last 500", "largest fall"], rows)


def _tables(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    labels = next(iter(found.values()))
    rows = [[label, *(plus_minus(*estimate(scores[label])) for scores in found.values())] for label in labels]
    return markdown(["estimator", *found], rows)
