"""Figures and table of omniglot.md: one-shot learners on unseen alphabets; evolution strategies against backprop."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from drawing import WIDTH, as_list, evaluation, markdown, means, over_runs, plus_minus, seconds
from matplotlib.figure import Figure

import vsml
from vsml.analysis.plots import COLOURS, GREY, as_svg, tidy
from vsml.evaluation import OnlineAccuracy
from vsml.evaluation.statistics import smooth, statistics
from vsml.learners import VSML, ConvFrontEnd, Learner, NearestNeighbour
from vsml.learners.conv_front_end import features, num_features
from vsml.runs.results import Run, read_results
from vsml.tasks import Feedback, FewShot, TaskSpec
from vsml.tasks.sources import Omniglot
from vsml.tasks.transforms import Resize

SEEDS = (0, 1, 2)
SMALLEST = {"sweep": ("STEPS=2", "evaluators.OnlineAccuracy.lifetimes=2")}

FILTERS = "VSML, filters"
"""The learner whose filters the nearest neighbour reads as well."""
UNSEEN, SEEN = "unseen_alphabets", "alphabets_of_meta_training"
SIZES = (28, 14, 7)
LIFETIMES = 1000
ENTRIES = 10
"""Of the log, whose running mean is drawn."""
ESTIMATORS = {"VSML": "backprop", "VSML, ES": "evolution strategies"}


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (f"vsml sweep sweeps/omniglot.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/omniglot --jobs 2",)


def figures(runs: Path) -> dict[str, str]:
    """Bars of all learners, and meta-training by either estimator over time."""
    rows = read_results(runs / "omniglot").rows
    return {"omniglot.svg": _bars(rows), "omniglot_es.svg": _over_time(rows)}


def tables(runs: Path) -> dict[str, str]:
    """Accuracy of the query: of learners over seeds, of the nearest neighbour on pixels over tasks."""
    found, rows = read_results(runs / "omniglot").rows, []
    for label, group in found.items():
        summaries = [run.summary or {} for run in group]
        scores = [_score(group, name) for name in (UNSEEN, SEEN)]
        steps = summaries[0]["meta_steps"]
        rows.append([label, f"{summaries[0]['num_meta_parameters']:,}", *scores, f"{steps:,}", seconds(group)])
    scores = [plus_minus(*over_runs(_nearest_on_filters(found[FILTERS], name))) for name in (UNSEEN, SEEN)]
    rows.append(["*1-nearest neighbour, on those filters*", "", *scores, "", ""])
    for size, right in _nearest(held_out=True).items():
        both = [plus_minus(each.mean(), statistics(each)["interval95"]) for each in (right, _nearest(False)[size])]
        rows.append([f"*1-nearest neighbour, {size}x{size}*", "", *both, "", ""])
    header = ["learner", "|V_M|", "unseen alphabets", "those of meta-training", "meta-steps", "meta-training"]
    return {"scores": markdown(header, rows)}


def _score(group: list[Run], name: str) -> str:
    """Over seeds, or of a single one over its lifetimes."""
    return plus_minus(*over_runs([evaluation(run, name)["cumulative_accuracy"] for run in group]))


@dataclass(frozen=True)
class _BehindFilters(Learner):
    """The nearest neighbour of what filters make of images; these are its meta-parameters, as they are VSML's."""

    filters: ConvFrontEnd
    learner: NearestNeighbour

    def init(self, key: Any, spec: TaskSpec) -> Any:
        return {"front_end": self.filters.init(key, spec.input_shape)}

    def initial_state(self, params: Any, key: Any, spec: TaskSpec) -> Any:
        return self.learner.initial_state({}, key, replace(spec, input_shape=(num_features(self.filters, spec),)))

    def predict(self, params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        return self.learner.predict({}, state, features(self.filters, params, x))

    def learn(self, params: Any, state: Any, x: Any, feedback: Feedback) -> Any:
        return self.learner.learn({}, state, features(self.filters, params, x), feedback)

    def learned_variables(self, state: Any) -> Any:
        return self.learner.learned_variables(state)


def _nearest_on_filters(group: Sequence[Run], name: str) -> list[Mapping[str, float]]:
    """The nearest neighbour on the filters of each run, on the tasks of an evaluation."""
    found = []
    for run in group:
        algorithm = vsml.load(run.path)
        learner, params = algorithm.learner, algorithm.params
        assert isinstance(learner, VSML)
        assert learner.front_end is not None
        (evaluator,) = (each for each in algorithm.experiment.evaluators if each.name == name)
        scores = evaluator.run(
            _BehindFilters(learner.front_end, NearestNeighbour()), {"front_end": params["front_end"]}
        ).scores
        found.append(statistics(scores["cumulative_accuracy"]))
    return found


@functools.cache
def _nearest(held_out: bool) -> dict[int, np.ndarray]:
    """Whether the nearest neighbour on pixels is right, on the tasks of the evaluations: size -> [lifetimes]."""
    source, learner = Omniglot("background_small1"), NearestNeighbour()
    right = {}
    for size in SIZES:
        tasks = FewShot(source.held_out() if held_out else source, transforms=(Resize((size, size)),))
        params = learner.init(jax.random.key(0), tasks.spec)
        scores = OnlineAccuracy("nearest", tasks, lifetimes=LIFETIMES).run(learner, params).scores
        right[size] = scores["cumulative_accuracy"]
    return right


def _bars(rows: Mapping[str, list[Run]]) -> str:
    """Accuracy on unseen alphabets, and, hollow, on those of meta-training: means, and every seed."""
    names = list(rows)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(names)), layout="constrained")
    axes = tidy(figure.add_subplot())
    for place, label in enumerate(names):
        colour = COLOURS[0] if label.startswith("VSML") else COLOURS[1]
        seen, unseen = (means(rows[label], name) for name in (SEEN, UNSEEN))
        axes.barh(place, np.mean(seen), height=0.7, facecolor="none", edgecolor=colour, linewidth=0.8)
        axes.barh(place, np.mean(unseen), height=0.7, color=colour, alpha=0.75)
        axes.scatter(unseen, [place] * len(unseen), s=12, color=GREY, zorder=3)
        axes.text(1.01, place, f"{np.mean(unseen):.2f}"[1:], transform=axes.get_yaxis_transform(), va="center")
    best = {size: right.mean() for size, right in _nearest(held_out=True).items()}
    for line, (size, value) in enumerate(best.items()):
        style = ("-", "--", ":")[line]
        axes.axvline(value, color=GREY, linestyle=style, linewidth=1, label=f"1-nearest neighbour, {size}x{size}")
    axes.axvline(0.2, color=GREY, linewidth=0.6)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel("accuracy of the query; filled: unseen alphabets, outline: those of meta-training")
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize="small")
    return as_svg(figure)


def _over_time(rows: Mapping[str, list[Run]]) -> str:
    """Accuracy in meta-training of the two estimators, every seed, against the share of the time that each has."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = tidy(figure.add_subplot())
    for colour, (label, name) in zip(COLOURS, ESTIMATORS.items(), strict=False):
        for index, run in enumerate(rows[label]):
            accuracy = np.array([entry["accuracy"] for entry in run.metrics])
            running = smooth(accuracy[None], min(ENTRIES, len(accuracy)))[0]
            share = np.linspace(0, 1, len(accuracy) + 1)[-len(running) :]
            axes.plot(share, running, color=colour, linewidth=1.2, label=name if index == 0 else None)
    axes.axhline(0.2, color=GREY, linewidth=0.6)
    axes.set(xlabel="share of the time", ylabel="accuracy in meta-training", ylim=(0, 1), xlim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    return as_svg(figure)
