"""Figure and tables of from_scratch.md: learners meta-trained on MNIST, beside rivals that are not learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drawing import (
    FEW_RIVALS,
    TINY,
    as_list,
    evaluation,
    learning_curves,
    markdown,
    means,
    over_seeds,
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
    """Learning curves of seed 0 of each learner, and of the rivals in grey."""
    rows, rivals = read_results(runs / "from_scratch").rows, _rivals(runs)
    references = {"best_sgd": "best SGD", "nearest_neighbour": "1-nearest neighbour"}
    panels = {}
    for name, title in PANELS.items():
        lines = {label: group[0].curves(name)["correct"] for label, group in rows.items()}
        curves = rivals.curves(name)
        panels[title] = {**lines, **{label: curves[f"{key}_correct"] for key, label in references.items()}}
    chances = [evaluation(rivals, name)["chance"] for name in PANELS]
    return {"from_scratch.svg": learning_curves(panels, chances, grey=tuple(references.values()))}


def tables(runs: Path) -> dict[str, str]:
    """Cumulative accuracy: of learners the mean over seeds with its interval, of rivals that over lifetimes."""
    rivals, rows = _rivals(runs), []
    for label, group in read_results(runs / "from_scratch").rows.items():
        rows.append([label, *(over_seeds(means(group, name)) for name in PANELS), seconds(group)])
    for key, rival in evaluation(rivals, "mnist_plain")["baselines"].items():
        rows.append(
            [f"*{rival_name(rival)}*", *(score(evaluation(rivals, name)["baselines"][key]) for name in PANELS), ""]
        )
    return {"scores": markdown(["learner", *PANELS.values(), "meta-training"], rows)}
