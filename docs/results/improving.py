"""Figure and tables of improving.md: meta-training that goes on from backprop, and from its clone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
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

from vsml.runs.results import Run

SEEDS = (0, 1, 2)
BEFORE = "STEPS=1 LEARNING_RATE=0.0"
CLONE = (
    "vsml train recipes/small/improve_clone.gin 'train.start_from=\"RUNS/cloning/cell=LSTM,seed={seed}\"' SEED={seed}"
)
SMALLEST = {
    "sweeps/cloning.gin": ('axes.cell={"LSTM":[]}', "STEPS=2", "LENGTH=5", "EVALUATORS=[]"),
    "sweep": TINY,
    "train": TINY,
    "eval": FEW_RIVALS,
}

DATA = {"own": "MNIST", "unseen": "KMNIST, never seen"}
STARTS = {
    "clone of backprop": "improve_clone/{when}_{seed}",
    "backprop": "improve_backprop/network=shallow,meta_training={when},seed={seed}",
    "backprop, 32 hidden": "improve_backprop/network=32_hidden,meta_training={when},seed={seed}",
}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    trained = {"before": f" {BEFORE}", "after": ""}
    return (
        f"vsml sweep sweeps/cloning.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/cloning --jobs 2",
        *(
            f"{CLONE.format(seed=seed)}{settings} --run_dir RUNS/improve_clone/{when}_{seed}"
            for when, settings in trained.items()
            for seed in seeds
        ),
        f"vsml sweep sweeps/improve_backprop.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/improve_backprop --jobs 2",
        "vsml eval RUNS/improve_clone/before_0 evaluators.OnlineAccuracy.baselines=@evaluators.Baselines() "
        "--out RUNS/improving_rivals",
    )


def _runs(runs: Path, start: str, when: str) -> list[Run]:
    paths = [runs / STARTS[start].format(when=when, seed=seed) for seed in SEEDS]
    return [run_in(path) for path in paths]


def figures(runs: Path) -> dict[str, str]:
    """Learning curves of seed 0, before and after meta-training."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    rivals = run_in(runs / "improving_rivals")
    for name, title in DATA.items():
        lines = {
            f"{start}, {when}": _runs(runs, start, when)[0].curves(name)["correct"]
            for start in ("clone of backprop", "backprop")
            for when in ("before", "after")
        }
        panels[title] = {**lines, "1-nearest neighbour": rivals.curves(name)["nearest_neighbour_correct"]}
    return {"improving.svg": learning_curves(panels, [0.1] * len(panels), grey=("1-nearest neighbour",))}


def tables(runs: Path) -> dict[str, str]:
    """Cumulative accuracy before and after: the mean over seeds with its interval; of rivals that over lifetimes."""
    rows = []
    for start in STARTS:
        before, after = (_runs(runs, start, when) for when in ("before", "after"))
        cells = []
        for name in DATA:
            pair = means(before, name), means(after, name)
            gains = [late - early for early, late in zip(*pair, strict=True)]
            cells += [over_seeds(pair[0]), over_seeds(pair[1]), over_seeds(gains)]
        rows.append([start, *cells, seconds(after)])
    rivals = run_in(runs / "improving_rivals")
    for key, rival in evaluation(rivals, "own")["baselines"].items():
        scores = [score(evaluation(rivals, name)["baselines"][key]) for name in DATA]
        rows.append([f"*{rival_name(rival)}*", "", scores[0], "", "", scores[1], "", ""])
    header = [f"{title}: {column}" for title in DATA.values() for column in ("before", "after", "gain")]
    return {"scores": markdown(["start", *header, "meta-training"], rows)}
