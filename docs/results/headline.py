"""Figures and tables of headline.md: frozen learning algorithms on the scoreboard, beside rivals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from drawing import (
    WIDTH,
    as_list,
    evaluation,
    learning_curves,
    markdown,
    plus_minus,
    pooled,
    rival_curves,
    rival_name,
    run_in,
    score,
    short,
)
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, GREY, as_svg, tidy
from vsml.analysis.statistics import estimate
from vsml.runs.results import Run, read_results

SEEDS = (0, 1, 2)
SHIPPED = 2
"""The seed of `pretrained:broad`: of those far beyond meta-training, on test[:8000], it falls least."""
ALONE = True
"""Made only where it is named: it takes hours."""
_FEW = ("board/evaluators.OnlineAccuracy.lifetimes=2", "LONG=20")
_SHORT = ("far_beyond/evaluators.OnlineAccuracy.lifetimes=2", "far_beyond/tasks.HeldOut.length=20")
SMALLEST = {
    "sweep": ("STEPS=2", "LENGTH=5"),
    "sweeps/broad_levers.gin": (
        *("STEPS=1", "LENGTH=5", "axes.change={'none': [], 'ES': 'meta_optimizers/es.gin'}"),
        *_SHORT,
    ),
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
    "docs/results/on_tables.py": ("2",),
    "evaluators/far_beyond.gin": _SHORT,
    "evaluators/far_beyond_beside_nearest.gin": _SHORT,
}

SETS = {"digits": "digits, 8x8", "mnist": "MNIST", "kmnist": "KMNIST"}
FORMS = ("plain", "projected")
LENGTHS = ("short", "long")
BROAD, BEFORE, UNMET = "broad", "before meta-training", "meta-trained without this set"
FAR = {"far_broad": BROAD, "far_before": BEFORE, "far_without_{}": UNMET}
LEFT_OUT = {"mnist": "MNIST", "kmnist": "KMNIST"}
DESCENT = "STEPS=1 LEARNING_RATE=0.0 cells.Bilinear.bound=None"
"""The start as it is: gradient descent, whose weights nothing bounds."""
WINDOW = 500
"""Examples of which far_beyond shows the mean."""
NEAREST = "1-NN by angle, remembers all"
RIVALS = {"best_adam": "best Adam", "nearest_by_angle": "1-NN by angle", "best_rls": "best RLS"}
"""The rivals in the figure: the best descent, and the two that are hardest to beat."""


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    start, far = "RUNS/headline/start", "evaluators/far_beyond_beside_nearest.gin"
    shipped = SHIPPED if SHIPPED in seeds else seeds[0]
    return (
        f"vsml sweep sweeps/broad.gin axes.SEED={as_list(seeds[:1])} --sweep_dir RUNS/broad --jobs 2",
        f"""vsml sweep sweeps/broad.gin axes.SEED={as_list(seeds)} "axes.left_out={{'nothing': []}}" """
        "--sweep_dir RUNS/broad --jobs 2",
        f"vsml train recipes/broad.gin {DESCENT} --run_dir {start}",
        f"vsml eval {start} evaluators/scoreboard.gin --out RUNS/headline/before",
        f"vsml eval {start} {far} --out RUNS/headline/far_before",
        *(command for seed in seeds for command in _evaluations("nothing", "broad", seed)),
        *(
            command
            for key, name in LEFT_OUT.items()
            for command in _evaluations(name, f"without_{key}", seeds[0], sets=[key])
        ),
        "vsml sweep sweeps/broad_levers.gin axes.SEED=[0] --sweep_dir RUNS/broad_levers --jobs 2",
        f"docs/results/on_tables.py RUNS/broad/left_out=nothing,seed={shipped} RUNS/headline/tables.json",
    )


def _evaluations(left_out: str, name: str, seed: int, sets: Sequence[str] = tuple(SETS)) -> Iterator[str]:
    """On the scoreboard and far beyond meta-training, of some sets."""
    run = f"RUNS/broad/left_out={left_out},seed={seed}"
    cells = [f"@board/{key}/{form}/{length}" for key in sets for form in FORMS for length in LENGTHS]
    yield f"vsml eval {run} evaluators/scoreboard_alone.gin {_only(cells)} --out RUNS/headline/{name}_{seed}"
    cells = [f"@far_beyond/{key}" for key in sets if key in LEFT_OUT]
    yield f"vsml eval {run} evaluators/far_beyond.gin {_only(cells)} --out RUNS/headline/far_{name}_{seed}"


def _only(scopes: Sequence[str]) -> str:
    """The setting that leaves these evaluators, as a word of a command line."""
    return f"'EVALUATORS=[{', '.join(f'{scope}/evaluators.OnlineAccuracy()' for scope in scopes)}]'"


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
            panels[f"{title}, {form}"] = {**lines, **rival_curves(found[BEFORE][0], name, RIVALS)}
    curves = learning_curves(panels, [0.1] * len(panels), grey=tuple(RIVALS.values()), lowest=0.3)
    return {"headline.svg": curves, "headline_far.svg": _far(runs)}


def _far(runs: Path) -> str:
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    for key, axes in zip(LEFT_OUT, figure.subplots(1, len(LEFT_OUT)), strict=True):
        for colour, (label, curves) in zip((*COLOURS[: len(FAR)], GREY), _windows(runs, key).items(), strict=True):
            x = WINDOW * (np.arange(curves.shape[1]) + 1)
            for curve in curves:
                axes.plot(x, curve, color=colour, linewidth=0.6)
            axes.plot(x, curves.mean(0), "o-", color=colour, markersize=3, label=label)
        axes.set(title=LEFT_OUT[key], xlabel="examples seen", ylim=(None, 1), xlim=(0, None))
        tidy(axes)
    figure.axes[0].set_ylabel(f"accuracy over {WINDOW}")
    figure.axes[0].legend(frameon=False, fontsize="small")
    return as_svg(figure)


def _windows(runs: Path, key: str) -> dict[str, np.ndarray]:
    """Accuracy on a set over windows of 500 examples: by label, [seeds, windows]."""
    found = {}
    for name, label in FAR.items():
        found[label] = np.stack([_in_windows(_far_beyond(run, key)) for run in _runs(runs, name.format(key))])
    rival = _runs(runs, "far_before")[0].curves(f"{key}_far_beyond")["nearest_by_angle_correct"]
    return {**found, NEAREST: _in_windows(rival)[None]}


def _far_beyond(run: Run, key: str) -> np.ndarray:
    """Which predictions were right, [lifetimes, T]."""
    return run.curves(f"{key}_far_beyond")["correct"]


def _in_windows(correct: np.ndarray) -> np.ndarray:
    """The mean of each window over lifetimes, [windows]; what is left at the end is part of none."""
    count = max(1, correct.shape[1] // WINDOW)
    whole = correct[:, : count * (correct.shape[1] // count)]
    return whole.reshape(len(correct), count, -1).mean((0, 2))


def _fall(windows: np.ndarray) -> float:
    """The largest fall from the best window to a later one."""
    return float((np.maximum.accumulate(windows) - windows).max())


def tables(runs: Path) -> dict[str, str]:
    """The scoreboard over few and over many examples, the last tenth, the loss, falls far beyond, and small tables."""
    found = _scores(runs)
    return {
        "short": _board(found, "short", "cumulative_accuracy"),
        "long": _board(found, "long", "cumulative_accuracy"),
        "last": _board(found, "long", "final_accuracy"),
        "loss": _board(found, "long", "loss"),
        "far": _falls(runs),
        "levers": _levers(runs),
        "tables": _tables(json.loads((runs / "headline" / "tables.json").read_text(encoding="utf-8"))),
    }


def _board(found: Mapping[str, Sequence[Run]], length: str, measure: str) -> str:
    names = {f"{key}_{form}_{length}": f"{title}, {form}" for key, title in SETS.items() for form in FORMS}
    rows = []
    for label, group in found.items():
        known = [(run.summary or {})["evaluations"] for run in group]
        scores = {name: [each[name][measure] for each in known] for name in names if name in known[0]}
        rows.append([label, *(_over_seeds(scores.get(name, ())) for name in names)])
        if len(group) > 1:
            means = {name: ", ".join(short(each["mean"]) for each in of_seeds) for name, of_seeds in scores.items()}
            rows.append([f"its {len(group)} seeds", *means.values()])
    before = found[BEFORE][0]
    for key, rival in evaluation(before, next(iter(names)))["baselines"].items():
        scores = [score(evaluation(before, name)["baselines"][key], measure) for name in names]
        rows.append([f"*{rival_name(rival)}*", *scores])
    return markdown(["learning algorithm", *names.values()], rows)


def _over_seeds(scores: Sequence[Mapping[str, float]]) -> str:
    """The mean over seeds, with the mean of their intervals over lifetimes; nothing of nothing."""
    if not scores:
        return ""
    mean, interval = (float(np.mean([each[key] for each in scores])) for key in ("mean", "interval95"))
    return plus_minus(mean, interval)


def _falls(runs: Path) -> str:
    """Of the mean over seeds; and the largest fall of each seed, from the best window before it."""
    rows = []
    for key, title in LEFT_OUT.items():
        for label, curves in _windows(runs, key).items():
            mean, falls = curves.mean(0), ", ".join(short(_fall(curve)) for curve in curves)
            rows.append([title, label, *map(short, (mean[0], mean.max(), mean[-1])), falls])
    return markdown(["set", "learning algorithm", "first 500", "best 500", "last 500", "largest fall"], rows)


def _levers(runs: Path) -> str:
    """Accuracy over the first examples, over the last, and the largest fall, by what was changed."""
    rows = []
    for run in read_results(runs / "broad_levers").runs:
        cells = []
        for key in LEFT_OUT:
            correct = _far_beyond(run, key)
            windows = _in_windows(correct)
            cells += [short(value) for value in (correct[:, : 2 * WINDOW].mean(), windows[-1], _fall(windows))]
        rows.append([run.labels["change"], *cells])
    parts = ("first 1,000", "last 500", "largest fall")
    header = ["change", *(f"{title}, {part}" for title in LEFT_OUT.values() for part in parts)]
    return markdown(header, rows)


def _tables(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    labels = next(iter(found.values()))
    rows = [[label, *(plus_minus(*estimate(scores[label])) for scores in found.values())] for label in labels]
    return markdown(["estimator", *found], rows)
