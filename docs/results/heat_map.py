"""Figure and table of heat_map.md: meta-training sets against meta-test sets, by learner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import FEW_RIVALS, TINY, as_list, evaluation, heat_maps, markdown, run_in, score

from vsml.runs.results import Run, read_results

SEEDS = (0,)
SMALLEST = {
    "sweep": TINY,
    "eval": FEW_RIVALS,
}

COLUMNS = {
    "digits": "digits",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "omniglot": "Omniglot",
    "random": "Random",
    "sum_sign": "Sum Sign",
}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (
        f"vsml sweep sweeps/heat_map.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/heat_map --jobs 2",
        "vsml eval RUNS/heat_map/trained=all,learner=VSML,seed=0 --out RUNS/heat_map_rivals "
        "evaluators.OnlineAccuracy.baselines=@evaluators.Baselines()",
    )


def _rivals(runs: Path) -> Run:
    return run_in(runs / "heat_map_rivals")


def figures(runs: Path) -> dict[str, str]:
    """One heat map for each learner, and one row per rival."""
    results, rivals = read_results(runs / "heat_map"), _rivals(runs)
    trained = list(dict.fromkeys(run.labels["trained"] for run in results.runs))
    panels: dict[str, np.ndarray] = {}
    for run in results.runs:
        table = panels.setdefault(run.labels["learner"], np.full((len(trained), len(COLUMNS)), np.nan))
        scores = [evaluation(run, name)["cumulative_accuracy"]["mean"] for name in COLUMNS]
        table[trained.index(run.labels["trained"])] = scores
    pictures = {"heat_map.svg": heat_maps(panels, trained, list(COLUMNS.values()), ("meta-trained on", "tested on"))}
    baselines = {name: evaluation(rivals, name)["baselines"] for name in COLUMNS}
    labels = {key: rival["label"].split(" (")[0] for key, rival in baselines["mnist"].items()}
    values = [[baselines[name][key]["cumulative_accuracy"]["mean"] for name in COLUMNS] for key in labels]
    rows = heat_maps(
        {"not learned": np.asarray(values)}, list(labels.values()), list(COLUMNS.values()), ("", "tested on")
    )
    return {**pictures, "heat_map_rivals.svg": rows}


def tables(runs: Path) -> dict[str, str]:
    """All cells with their intervals over lifetimes."""
    results, rivals = read_results(runs / "heat_map"), _rivals(runs)
    rows = [
        [run.labels["learner"], run.labels["trained"], *(score(evaluation(run, name)) for name in COLUMNS)]
        for run in sorted(
            results.runs, key=lambda run: [r.labels["learner"] for r in results.runs].index(run.labels["learner"])
        )
    ]
    for key, rival in evaluation(rivals, "mnist")["baselines"].items():
        label = rival["label"].split(" (")[0]
        rows.append([f"*{label}*", "", *(score(evaluation(rivals, name)["baselines"][key]) for name in COLUMNS)])
    return {"scores": markdown(["learner", "meta-trained on", *COLUMNS.values()], rows)}
