"""Figure and table of heat_map.md: meta-training sets against meta-test sets, by learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drawing import (
    FEW_RIVALS,
    TINY,
    as_list,
    evaluation,
    heat_maps,
    markdown,
    over_runs,
    plus_minus,
    rival_name,
    run_in,
)

from vsml.runs.results import Run, read_results

SEEDS = (0,)
_TWO = "[@digits/tasks.Classification(), @random/tasks.Classification()]"
SMALLEST = {
    "sweep": (
        *TINY,
        f"""axes.trained={{"all": ["tasks.Mixture.names=['digits', 'random']", "tasks.Mixture.tasks={_TWO}"]}}""",
    ),
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


def _learners(runs: Path) -> dict[str, dict[str, list[Run]]]:
    """The runs of all seeds, by learner and meta-training set."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in read_results(runs / "heat_map").runs:
        found.setdefault(run.labels["learner"], {}).setdefault(run.labels["trained"], []).append(run)
    return found


def _cells(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[tuple[float, float | None]]]:
    """Mean and interval of each cell."""
    return {
        name: [over_runs([evaluation(run, column)["cumulative_accuracy"] for run in group]) for column in COLUMNS]
        for name, group in groups.items()
    }


def _panels(runs: Path) -> dict[str, dict[str, list[tuple[float, float | None]]]]:
    """The cells of each learner by meta-training set, and those of what is not learned."""
    rivals = run_in(runs / "heat_map_rivals")
    baselines = [evaluation(rivals, column)["baselines"] for column in COLUMNS]
    not_learned = {
        rival_name(rival): [over_runs([found[key]["cumulative_accuracy"]]) for found in baselines]
        for key, rival in baselines[0].items()
    }
    learned = {f"{learner}, meta-trained on": _cells(groups) for learner, groups in _learners(runs).items()}
    return {**learned, "not learned": not_learned}


def figures(runs: Path) -> dict[str, str]:
    """One table of colours for each learner, and one for what is not learned."""
    return {"heat_map.svg": heat_maps(_panels(runs), list(COLUMNS.values()), "tested on")}


def tables(runs: Path) -> dict[str, str]:
    """The same as text."""
    rows = [
        [title.split(",")[0], name, *(plus_minus(*cell) for cell in cells)]
        for title, panel in _panels(runs).items()
        for name, cells in panel.items()
    ]
    return {"scores": markdown(["learner", "meta-trained on", *COLUMNS.values()], rows)}
