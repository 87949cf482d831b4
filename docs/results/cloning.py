"""Figures and table of cloning.md: sub-RNNs beside the backprop that they were regressed onto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from drawing import WIDTH, as_list, evaluation, learning_curves, markdown, means, over_seeds, seconds
from matplotlib.figure import Figure

import vsml
from vsml.analysis.plots import COLOURS, GREY, as_svg, tidy
from vsml.evaluation.beside_backprop import Teacher
from vsml.learned import LearnedAlgorithm
from vsml.learners.unroll import unroll
from vsml.objectives.cloning import Terms
from vsml.runs.results import Run, read_results

SEEDS = (0, 1, 2)
SMALLEST = {
    "sweep": ('axes.cell={"LSTM":[]}', "STEPS=2", "LENGTH=5", "TEST_LENGTH=20", "objectives.Cloning.units=16"),
}

PANELS = {
    "own_shallow": "MNIST, one layer",
    "own_deep": "MNIST, 32 hidden",
    "unseen_shallow": "KMNIST, one layer",
    "unseen_deep": "KMNIST, 32 hidden",
}
TERMS = {
    "forward": "forward message",
    "backward": "error message",
    "weight": "change of the weight",
    "bias": "change of the bias",
}
SHOWN = 6
"""Weights whose way is drawn."""
EVERY = 8
"""Of the examples of a way every eighth is drawn, which keeps the file small."""


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (f"vsml sweep sweeps/cloning.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/cloning --jobs 2",)


def figures(runs: Path) -> dict[str, str]:
    """Outputs of sub-RNNs against targets and the ways of some weights, of the first LSTM; learning curves of all."""
    rows = read_results(runs / "cloning").rows
    algorithm = vsml.load(next(iter(rows.values()))[0].path)
    return {
        "cloning_targets.svg": _targets(algorithm),
        "cloning_weights.svg": _weights(algorithm),
        "cloning.svg": _curves(rows),
    }


def tables(runs: Path) -> dict[str, str]:
    """R2 of the terms, and the clones beside backprop: means over seeds with their intervals."""
    rows = read_results(runs / "cloning").rows
    fits, besides = [], []
    for label, group in rows.items():
        for where, name in (("alone", "random"), ("met", "in a running clone")):
            scores = [means(group, "fit", f"r2_{where}_{term}") for term in TERMS]
            fits.append([label, name, *map(_exact, scores), seconds(group)])
        for panel, title in PANELS.items():
            clone = means(group, panel)
            teacher = [evaluation(run, panel)["baselines"]["backprop"]["cumulative_accuracy"]["mean"] for run in group]
            likeness = [
                means(group, panel, score) for score in ("agreement", "weight_correlation", "change_correlation")
            ]
            gaps = [own - right for own, right in zip(clone, teacher, strict=True)]
            besides.append([label, title, *map(over_seeds, (clone, teacher, gaps, *likeness))])
    return {
        "fit": markdown(["clone", "states", *TERMS.values(), "meta-training"], fits),
        "beside": markdown(
            ["clone", "data, network", "clone", "backprop", "difference", "same class", "r of weights", "r of changes"],
            besides,
        ),
    }


def _exact(values: list[float]) -> str:
    """R2 of several seeds, the lowest last: `.9996 (.9994)`."""
    return f"{np.mean(values):.5f} ({np.min(values):.5f})".replace("0.", ".")


def _curves(rows: Mapping[str, Sequence[Run]]) -> str:
    """Means over lifetimes and seeds: too few lifetimes for bands."""

    def mean(group: Sequence[Run], panel: str, curve: str) -> np.ndarray:
        return np.mean([run.curves(panel)[curve].mean(axis=0) for run in group], axis=0, keepdims=True)

    panels: dict[str, dict[str, np.ndarray]] = {}
    for panel, title in PANELS.items():
        lines = {f"clone, {label}": mean(group, panel, "correct") for label, group in rows.items()}
        panels[title] = {**lines, "backprop": mean(next(iter(rows.values())), panel, "backprop_correct")}
    return learning_curves(panels, [0.1] * len(panels), grey=("backprop",))


def _targets(algorithm: LearnedAlgorithm) -> str:
    learner: Any = algorithm.learner
    objective: Any = algorithm.experiment.objective
    cloning = replace(objective, units=150)
    keys = jax.random.split(jax.random.key(1), 2)

    @jax.jit
    def visit(params: Any) -> tuple[Terms, Terms]:
        state = learner.initial_state(params, keys[0], algorithm.specs[0])
        (example,) = cloning.drawn(learner, params, state, keys[1])
        return cloning.both(learner, params, 0, example)

    got, wanted = visit(algorithm.params)
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    for axes, (term, title) in zip(figure.subplots(1, len(TERMS)), TERMS.items(), strict=True):
        own, right = np.asarray(getattr(got, term)), np.asarray(getattr(wanted, term))
        ends = [right.min(), right.max()]
        axes.plot(ends, ends, color=GREY, linewidth=0.8)
        axes.plot(right, own[0] if own.ndim == 2 else own, ".", color=COLOURS[0], markersize=3, alpha=0.6)
        axes.set(title=title, xlabel="target")
        axes.locator_params(nbins=3)
        axes.ticklabel_format(scilimits=(-2, 2))
        tidy(axes)
    figure.axes[0].set_ylabel("sub-RNN")
    return as_svg(figure)


def _weights(algorithm: LearnedAlgorithm) -> str:
    evaluators = {evaluator.name: evaluator for evaluator in algorithm.experiment.evaluators}
    tasks: Any = evaluators["own_shallow"].tasks  # pyright: ignore[reportAttributeAccessIssue]
    clone: Any = algorithm.learner
    teacher = Teacher(clone, algorithm.experiment.objective)  # pyright: ignore[reportArgumentType]
    exact, spec = teacher.learner, tasks.spec
    task_key, state_key = jax.random.split(jax.random.key(2))

    @jax.jit
    def live(params: Any, data: Any) -> tuple[Any, Any]:
        task = tasks.sample(data, task_key)
        state, own = clone.initial_state(params, state_key, spec), exact.init(state_key, spec)
        begun = teacher.begin(own, state, spec)
        return (
            unroll(clone, params, state, task, observe=lambda _, after: teacher.weights(after)[0][0]).observed,
            unroll(exact, own, begun, task, observe=lambda _, after: after["cells"][0]["s"][0, 0]).observed,
        )

    lived, right = map(np.asarray, live(algorithm.params, tasks.load()))
    moved = np.argsort(np.ptp(right, axis=0))
    chosen = moved[np.linspace(len(moved) // 2, len(moved) - 1, SHOWN).astype(int)]
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for colour, unit in zip(COLOURS, chosen, strict=False):
        first = unit == chosen[0]
        x = np.arange(0, len(right), EVERY)
        axes.plot(x, right[x, unit], color=GREY, linewidth=2.4, alpha=0.5, label="backprop" if first else None)
        axes.plot(x, lived[x, unit], color=colour, linewidth=1, label="clone" if first else None)
    axes.set(xlabel="examples seen", ylabel="weight", xlim=(0, None))
    axes.legend(frameon=False)
    return as_svg(tidy(axes).figure)  # pyright: ignore[reportArgumentType]
