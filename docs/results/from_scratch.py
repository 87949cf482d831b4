"""Figure and tables of from_scratch.md: learners meta-trained on MNIST, beside rivals that are not learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drawing import (
    FEW_RIVALS,
    RIVALS,
    TINY,
    as_list,
    evaluation,
    learning_curves,
    markdown,
    means,
    over_seeds,
    pooled,
    rival_curves,
    rival_name,
    run_in,
    score,
    seconds,
)

from vsml.runs.results import Run, read_results

SEEDS = (0, 1, 2)
SMALLEST = {
    "sweep": TINY,
    "eval": FEW_RIVALS,
}

PANELS = {
    "mnist_plain": "MNIST",
    "mnist_projected": "MNIST, projected",
    "unseen_plain": "KMNIST, never seen",
    "unseen_projected": "KMNIST, never seen, projected",
}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (
        f"vsml sweep sweeps/from_scratch.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/from_scratch --jobs 2",
        "vsml eval RUNS/from_scratch/learner=VSML,seed=0 evaluators.OnlineAccuracy.baselines=@evaluators.Baselines() "
        "--out RUNS/from_scratch_rivals",
    )


def _rivals(runs: Path) -> Run:
    return run_in(runs / "from_scratch_rivals")


def figures(runs: Path) -> dict[str, str]:
    """Learning curves of each learner, all seeds together, and of rivals in grey."""
    rows, rivals = read_results(runs / "from_scratch").rows, _rivals(runs)
    panels = {}
    for name, title in PANELS.items():
        lines = {label: pooled(group, name) for label, group in rows.items()}
        panels[title] = {**lines, **rival_curves(rivals, name)}
    chances = [evaluation(rivals, name)["chance"] for name in PANELS]
    return {"from_scratch.svg": learning_curves(panels, chances, grey=tuple(RIVALS.values()))}


def tables(runs: Path) -> dict[str, str]:
    """Accuracy, cumulative and over the last tenth: of learners the mean over seeds with its interval, of rivals that
    over lifetimes.
    """
    rivals, rows = _rivals(runs), read_results(runs / "from_scratch").rows
    found = {}
    for table, measure in {"scores": "cumulative_accuracy", "last": "final_accuracy"}.items():
        lines = [
            [label, *(over_seeds(means(group, name, measure)) for name in PANELS), seconds(group)]
            for label, group in rows.items()
        ]
        for key, rival in evaluation(rivals, "mnist_plain")["baselines"].items():
            scores = [score(evaluation(rivals, name)["baselines"][key], measure) for name in PANELS]
            lines.append([f"*{rival_name(rival)}*", *scores, ""])
        found[table] = markdown(["learner", *PANELS.values(), "meta-training"], lines)
    return found
