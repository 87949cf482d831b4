"""Figure and tables of improving.md: meta-training that goes on from backprop, and from its clone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
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

ONE_LAYER = (
    "evaluators.Baselines.hidden=[0] 'evaluators.Baselines.adam_learning_rates=()' "
    "'evaluators.Baselines.rls_features=()' evaluators.Baselines.nearest_class_mean=False "
    "evaluators.Baselines.nearest_neighbour=False"
)
"""SGD alone, in the network that the starts without hidden neurons are."""
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
        *(
            "vsml eval RUNS/improve_clone/before_0 evaluators.OnlineAccuracy.baselines=@evaluators.Baselines() "
            f"{settings} --out RUNS/{folder}"
            for folder, settings in {"improving_rivals": "", "improving_one_layer": ONE_LAYER}.items()
        ),
    )


def _runs(runs: Path, start: str, when: str) -> list[Run]:
    paths = [runs / STARTS[start].format(when=when, seed=seed) for seed in SEEDS]
    return [run_in(path) for path in paths]


def figures(runs: Path) -> dict[str, str]:
    """Learning curves before and after meta-training, all seeds together, and those of rivals in grey."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    rivals = run_in(runs / "improving_rivals")
    for name, title in DATA.items():
        lines = {
            f"{start}, {when}": pooled(_runs(runs, start, when), name)
            for start in STARTS
            for when in ("before", "after")
        }
        panels[title] = {**lines, **rival_curves(rivals, name)}
    return {"improving.svg": learning_curves(panels, [0.1] * len(panels), grey=tuple(RIVALS.values()))}


def tables(runs: Path) -> dict[str, str]:
    """Accuracy before and after, cumulative and over the last tenth: means over seeds with their intervals; of rivals
    those over lifetimes.
    """
    header = [f"{title}: {column}" for title in DATA.values() for column in ("before", "after", "gain")]
    measures = {"scores": "cumulative_accuracy", "last": "final_accuracy"}
    return {
        table: markdown(["start", *header, "meta-training"], [*_starts(runs, measure), *_rivals(runs, measure)])
        for table, measure in measures.items()
    }


def _starts(runs: Path, measure: str) -> list[list[str]]:
    rows = []
    for start in STARTS:
        before, after = (_runs(runs, start, when) for when in ("before", "after"))
        cells = []
        for name in DATA:
            pair = means(before, name, measure), means(after, name, measure)
            gains = [late - early for early, late in zip(*pair, strict=True)]
            cells += [over_seeds(pair[0]), over_seeds(pair[1]), over_seeds(gains)]
        rows.append([start, *cells, seconds(after)])
    return rows


def _rivals(runs: Path, measure: str) -> list[list[str]]:
    rows = []
    for folder, addition in {"improving_rivals": "", "improving_one_layer": ", one layer"}.items():
        run = run_in(runs / folder)
        for key, rival in evaluation(run, "own")["baselines"].items():
            scores = [score(evaluation(run, name)["baselines"][key], measure) for name in DATA]
            rows.append([f"*{rival_name(rival)}{addition}*", "", scores[0], "", "", scores[1], "", ""])
    return rows
