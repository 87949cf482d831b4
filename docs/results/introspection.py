"""Figures and tables of introspection.md: what the quickstart's learned algorithm does, and what it is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from drawing import WIDTH, evaluation, markdown, over_runs, plus_minus, run_in, short
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vsml.analysis.plots import COLOURS, GREY, STYLES, as_svg, tidy
from vsml.evaluation.statistics import band, smooth, statistics
from vsml.runs.results import Run

SEEDS = (0, 1, 2)
_SMALLEST = (
    *("STEPS=3", "LENGTH=4", "TEST_LENGTH=36", "train.evaluate_every=1"),
    *(
        "evaluators.ShownAgain.points=[0,2,3,4]",
        "evaluators.ShownAgain.lifetimes=2",
        "evaluators.ShownAgain.tuned_on=2",
    ),
    *("evaluators.Dynamics.learned=30", "evaluators.Dynamics.lifetimes=2", "evaluators.Agreement.lifetimes=2"),
    *("evaluators.Baselines.hidden=[0]", "evaluators.Baselines.rls_features=[4]", "evaluators.Baselines.ridges=[1]"),
)
SMALLEST = {"train": _SMALLEST}

SHOWN, LATE, EARLY, LIKENESS = "digits_shown_again", "digits_dynamics", "digits_early", "digits_agreement"
LEARNED = "learned algorithm"
RIVALS = {
    "best_sgd": "best SGD",
    "best_adam": "best Adam",
    "nearest_class_mean": "nearest class mean",
    "nearest_neighbour": "1-nearest neighbour",
    "best_rls": "best RLS",
}
ASKED = {"same_input": "the same input", "same_class": "another of its class", "other_class": "one of another class"}
COLOUR = dict(zip((LEARNED, *RIVALS.values()), COLOURS, strict=False))


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return tuple(
        "vsml train recipes/quickstart.gin evaluators/introspection.gin "
        "'EVALUATORS=[@evaluators.ShownAgain(), @evaluators.Dynamics(), @early/evaluators.Dynamics(), "
        "@evaluators.Agreement()]' early/evaluators.Dynamics.name=digits_early early/evaluators.Dynamics.learned=20 "
        f"train.evaluate_every=50 SEED={seed} --run_dir RUNS/introspection/seed_{seed}"
        for seed in seeds
    )


def _runs(runs: Path) -> list[Run]:
    return [run_in(runs / "introspection" / f"seed_{seed}") for seed in SEEDS]


def _points(run: Run) -> list[int]:
    """After how many examples inputs were shown."""
    return [int(place) for place in evaluation(run, SHOWN)["curves"]["before"]["places"]]


def _name_below(figure: Figure, axes: Axes, columns: int = 3) -> str:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=columns, frameon=False)
    return as_svg(figure)


def _shown(run: Run) -> str:
    """The rise of the probability of the label that was shown, by what is asked."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    curves, points = run.curves(SHOWN), _points(run)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (asked, title) in zip(panels, ASKED.items(), strict=True):
        for index, (key, label) in enumerate({"": LEARNED, **RIVALS}.items()):
            mean, interval = band(curves[f"{key}_rise_{asked}" if key else f"rise_{asked}"])
            x = np.arange(len(points)) + 0.06 * (index - 2.5)
            style = "o-" if not key else f"o{STYLES[1 + index % 3]}"
            axes.errorbar(x, mean, interval, fmt=style, color=COLOUR[label], markersize=4, linewidth=1.2, label=label)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.set(title=title, xlabel="examples learned before", xticks=range(len(points)), xticklabels=points)
        tidy(axes)
    panels[0].set_ylabel("rise of p(label that was shown)")
    return _name_below(figure, panels[0])


def _time_scales(group: Sequence[Run]) -> str:
    """The spectrum, and what accuracy is left when entries are held, slowest or fastest first."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    left, right = map(tidy, figure.subplots(1, 2))
    for run, marker in zip(group, "os^", strict=False):
        names = evaluation(run, LATE)["curves"]["time_scale"]["places"]
        scales = run.curves(LATE)["time_scale"].mean(0)
        for rank, entry in enumerate(np.argsort(scales)):
            kind = names[entry].split()[0]
            colour = COLOURS[1] if kind == "h" else COLOURS[0]
            left.plot(rank + 1, scales[entry], marker, color=colour, markersize=4, fillstyle="none")
    for kind, colour in (("c, the memory cells", COLOURS[0]), ("h, what messages are made of", COLOURS[1])):
        left.plot([], [], "o", color=colour, fillstyle="none", label=kind)
    left.set(yscale="log", xlabel="entry, by rank", ylabel="time scale (examples)")
    left.legend(frameon=False, fontsize="small")
    lines = {
        "slowest frozen after 20": (EARLY, "slowest_frozen", COLOURS[0], "-"),
        "slowest frozen after 200": (LATE, "slowest_frozen", COLOURS[2], "-"),
        "fastest reset after 200": (LATE, "fastest_reset", COLOURS[1], "--"),
    }
    for label, (name, curve, colour, style) in lines.items():
        x = evaluation(group[0], name)["curves"][curve]["places"]
        each = np.asarray([run.curves(name)[curve].mean(0) for run in group])
        right.plot(x, each.T, color=colour, linestyle=style, linewidth=0.7, alpha=0.4)
        right.plot(x, each.mean(0), "o", color=colour, linestyle=style, markersize=4, label=label)
    right.axhline(0.1, color=GREY, linewidth=0.6)
    right.set(ylim=(0, 1), xlabel="entries that are held, of 32", ylabel="accuracy afterwards")
    right.legend(frameon=False, fontsize="small", loc=(0.03, 0.1))
    return as_svg(figure)


def _messages(group: Sequence[Run]) -> str:
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    for axes, way in zip(figure.subplots(1, 2), ("forward", "backward"), strict=True):
        for seed, run in zip(SEEDS, group, strict=True):
            mean, interval = band(smooth(run.curves(LATE)[f"messages_{way}_1"], 5))
            x = np.arange(len(mean)) + 5
            axes.plot(x, mean, color=COLOURS[seed], label=f"seed {seed}")
            axes.fill_between(x, mean - interval, mean + interval, color=COLOURS[seed], alpha=0.15, linewidth=0)
        axes.set(title=f"{way} messages", xlabel="examples seen", ylabel="norm", ylim=(0, None))
        tidy(axes)
    figure.axes[0].legend(frameon=False, fontsize="small")
    return as_svg(figure)


def _agreement(group: Sequence[Run]) -> str:
    """Agreement beyond accuracy with each rival over a lifetime and over meta-training; mean over seeds, each pale."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    left, right = map(tidy, figure.subplots(1, 2, sharey=True))
    for index, (key, label) in enumerate({"": "itself, begun again", **RIVALS}.items()):
        colour, style = COLOURS[index], STYLES[index % 3]
        curve = f"{key}_beyond_accuracy" if key else "beyond_accuracy"
        each = np.asarray([smooth(run.curves(LIKENESS)[curve], 30).mean(0) for run in group])
        left.plot(np.arange(each.shape[1]) + 30, each.mean(0), color=colour, linestyle=style, label=label)
        steps = [entry["step"] for entry in group[0].interim]
        way = np.asarray([[_beyond(entry["evaluations"], key) for entry in run.interim] for run in group])
        right.plot(steps, way.T, color=colour, linewidth=0.5, alpha=0.35)
        right.plot(steps, way.mean(0), color=colour, linestyle=style)
    left.axhline(0, color=GREY, linewidth=0.6)
    left.set(ylim=(-0.1, 1), xlabel="examples seen", ylabel="agreement beyond accuracy", title="over a lifetime")
    right.set(xlabel="meta-steps", title="over meta-training")
    return _name_below(figure, left)


def _beyond(evaluations: Mapping[str, dict], key: str) -> float:
    found = evaluations[LIKENESS]
    value = (found["baselines"][key] if key else found)["beyond_accuracy"]["mean"]
    return np.nan if value is None else value


def figures(runs: Path) -> dict[str, str]:
    """The four pictures."""
    group = _runs(runs)
    return {
        "introspection_shown.svg": _shown(group[0]),
        "introspection_time_scales.svg": _time_scales(group),
        "introspection_messages.svg": _messages(group),
        "introspection_agreement.svg": _agreement(group),
    }


def tables(runs: Path) -> dict[str, str]:
    """Rises by what is asked, accuracies of the trials, agreement with each rival."""
    group = _runs(runs)
    return {"shown": _table_shown(group), "trials": _table_trials(group), "agreement": _table_agreement(group)}


def _table_shown(group: Sequence[Run]) -> str:
    points = _points(group[0])
    rows = []
    for asked, title in ASKED.items():
        for seed, run in zip(SEEDS, group, strict=True):
            rows.append([title, f"{LEARNED}, seed {seed}", *_cells(run.curves(SHOWN)[f"rise_{asked}"])])
        for key, label in RIVALS.items():
            rows.append([title, f"*{label}*", *_cells(group[0].curves(SHOWN)[f"{key}_rise_{asked}"])])
    return markdown(["asked", "learner", *(f"after {point}" for point in points)], rows)


def _cells(values: np.ndarray) -> list[str]:
    found = [statistics(np.asarray(column, np.float64)) for column in values.T]
    return [plus_minus(each["mean"], each["interval95"]) for each in found]


def _over_seeds(found: Sequence[Mapping[str, float]]) -> str:
    """The mean over seeds with its interval; with one seed the interval is over its lifetimes."""
    return plus_minus(*over_runs(found))


def _table_trials(group: Sequence[Run]) -> str:
    titles = {
        "accuracy": "nothing held",
        "all_frozen": "all frozen",
        "slow_frozen": "slow frozen",
        "fast_frozen": "fast frozen",
        "fast_reset": "fast reset",
        "slow_reset": "slow reset",
    }
    rows = [
        [title, *(_over_seeds([evaluation(run, name)[trial] for run in group]) for name in (EARLY, LATE))]
        for trial, title in titles.items()
    ]
    slow = ", ".join(str(evaluation(run, LATE)["slow_entries"]) for run in group)
    rows.append(["slow entries of 32, by seed", slow, slow])
    return markdown(["", "after 20 examples", "after 200 examples"], rows)


def _table_agreement(group: Sequence[Run]) -> str:
    rows = []
    for key, label in {"": "itself, begun again", **RIVALS}.items():
        found = [evaluation(run, LIKENESS) for run in group]
        own = [each["baselines"][key] if key else each for each in found]
        scores = ("beyond_accuracy", "same_errors", "agreement")
        rows.append([label, *(_over_seeds([each[score] for each in own]) for score in scores)])
        rows[-1] += [short(float(np.mean([each["cumulative_accuracy"]["mean"] for each in own])))]
    return markdown(["with", "agreement beyond accuracy", "same errors", "agreement", "its accuracy"], rows)
