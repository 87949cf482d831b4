"""The pictures of a report: over a lifetime, over meta-steps, by axis, and by how far meta-parameters are shared."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vsml.analysis import plots
from vsml.analysis.document import Block, Heading, Picture
from vsml.analysis.plots import Curve, Scored
from vsml.analysis.rows import end, evaluated, evaluation_names, logged, means, measured
from vsml.evaluation.base import LEARNED, Measure
from vsml.evaluation.statistics import smooth
from vsml.evaluation.summary import Spread, Summary
from vsml.metrics import LOSS, of_the_objective, title
from vsml.runs.results import Results, Run

ABSENT_SPREAD = Spread(math.nan, math.nan, math.nan)


def learning_curves(results: Results, name: str, summary: Summary) -> list[Block]:
    """The curves of an evaluation over a lifetime: one picture per curve, with one line per row."""
    saved = {label: [run.curves(name) for run in runs] for label, runs in results.rows.items()}
    saved = {label: [curves for curves in runs if curves] for label, runs in saved.items()}
    saved = {label: runs for label, runs in saved.items() if runs}
    if not saved:
        return []
    first = next(iter(saved.values()))[0]
    of_rivals = {f"{key}_{curve}" for key in summary.rivals for curve in first}
    names = [curve for curve in first if curve not in of_rivals]
    pictures: list[Block] = []
    for curve in names:
        length = first[curve].shape[1]
        examples = summary.facts.get("examples")
        batch = max(1, examples // length) if isinstance(examples, int) else 1
        found = {label: [c[curve] for c in runs if curve in c] for label, runs in saved.items()}
        alike = {label: [array for array in arrays if array.shape[1] == length] for label, arrays in found.items()}
        measure = summary.curves.get(curve, Measure(title(curve)))
        x = measure.positions() if measure.places else None
        lines = {_shown(results, label): _curve(arrays, batch, x) for label, arrays in alike.items() if arrays}
        present = {rival.name: first.get(f"{key}_{curve}") for key, rival in summary.rivals.items()}
        references = {label: _curve([array], batch, x) for label, array in present.items() if array is not None}
        steps = "examples seen" if examples else "steps of a lifetime"
        axes = (measure.axis if measure.places else steps, measure.title)
        svg = plots.curves(lines, references, axes, measure.limits, measure.chance, measure.names)
        over = f"over a lifetime, a running mean over {plots.window(length)} step(s)"
        caption = (
            f"{title(name)}: {measure.title} {f'by {measure.axis}' if measure.places else over}."
            f"{'' if measure.chance is None else ' The thin line is chance.'}"
            f"{_about_bands(lines, ', or lifetimes where there is one seed')}"
        )
        pictures.append(Picture(_file(f"curve_{name}", curve if pictures else ""), caption, svg))
    return pictures


def held_out(results: Results) -> list[Block]:
    """The headline of each evaluation over meta-steps, where evaluators ran during meta-training."""
    interim = {label: [run for run in runs if run.interim] for label, runs in results.rows.items()}
    names = dict.fromkeys(name for runs in interim.values() for run in runs for name in run.interim[0]["evaluations"])
    pictures: list[Block] = []
    for name in names:
        histories = {label: [_history(run, name) for run in runs] for label, runs in interim.items()}
        histories = {label: [found for found in runs if found] for label, runs in histories.items() if any(runs)}
        summary = next(iter(histories.values()))[0][0][1]
        measure = summary.scores[summary.headline]
        lines = {_shown(results, label): _held_out_curve(r, summary.headline) for label, r in histories.items()}
        references = _rivals_on_the_way(histories) if len(histories) == 1 else {}
        svg = plots.curves(lines, references, ("meta-steps", measure.title), measure.limits, measure.chance)
        caption = (
            f"{title(name)}: held-out {measure.title} over meta-steps, in {summary.content['lifetimes']} lifetimes; "
            "where a run has ended, the last point is the evaluation above."
            f"{'' if measure.chance is None else ' The thin line is chance.'}"
            f"{_about_bands(lines, ', or lifetimes where there is one seed')}"
        )
        pictures.append(Picture(_file("held_out", name), caption, svg))
    return pictures


def _history(run: Run, name: str) -> list[tuple[int, Summary]]:
    """The results of an evaluation, each with its meta-steps, during meta-training and after it."""
    found = [(e["step"], Summary(name, e["evaluations"][name])) for e in run.interim if name in e["evaluations"]]
    return found + [((run.summary or {})["meta_steps"], summary) for summary in evaluated([run], name)]


def _held_out_curve(histories: Sequence[Sequence[tuple[int, Summary]]], headline: str) -> Curve:
    """A score over the meta-steps that all runs have reached, with its interval over runs, or over lifetimes of one."""
    spreads = [{step: s.spread(headline) or ABSENT_SPREAD for step, s in history} for history in histories]
    steps = [step for step in spreads[0] if all(step in own for own in spreads)]
    means = np.asarray([[own[step].mean for step in steps] for own in spreads])
    curve = plots.of_means(np.asarray(steps), means)
    if len(histories) == 1:
        curve = curve._replace(interval95=np.nan_to_num([spreads[0][step].interval95 for step in steps]))
    return curve


def _rivals_on_the_way(histories: Mapping[str, Sequence[Sequence[tuple[int, Summary]]]]) -> dict[str, Curve]:
    """The headline beside each rival that was there from the first evaluation on, of the only row of a report."""
    (runs,) = histories.values()
    first = runs[0][0][1]
    found = {}
    for key, rival in first.rivals.items():
        own = [[(step, summary.rivals[key]) for step, summary in run if key in summary.rivals] for run in runs]
        found[rival.name] = _held_out_curve(own, first.headline)
    return found


def over_meta_steps(results: Results) -> list[Block]:
    """The metrics of the objective over meta-steps: one picture per metric, with one line per row."""
    entries = {label: [run.metrics for run in runs if run.metrics] for label, runs in results.rows.items()}
    entries = {label: runs for label, runs in entries.items() if runs}
    if not entries:
        return []
    pictures: list[Block] = []
    for metric in measured(entries):
        lines = {label: _training_curve(runs, metric) for label, runs in entries.items() if metric in runs[0][-1]}
        shown = "objective (mean loss)" if metric == LOSS else title(metric)
        measure = _measure(results, metric)
        svg = plots.curves(lines, {}, ("meta-steps", shown), measure.limits, measure.chance)
        about_it = (
            f"Meta-training: the {shown} over meta-steps, a running mean."
            f"{'' if measure.chance is None else ' The thin line is chance in the evaluations.'}{_about_bands(lines)}"
        )
        pictures.append(Picture(_file("meta_training", "" if metric == LOSS else metric), about_it, svg))
    return pictures


def _training_curve(runs: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> Curve:
    """A metric over the meta-steps that all runs have reached."""
    length = min(map(len, runs))
    values = [[logged(entry, metric) for entry in metrics[:length]] for metrics in runs]
    width = max(1, length // 50)
    steps = np.asarray([entry["step"] for entry in runs[0][:length]])
    return plots.of_means(steps[width - 1 :], smooth(np.asarray(values, np.float64), width))


def by_axis(results: Results) -> list[Block]:
    """Bars per axis: the score of each of its points, over all runs that have it."""
    panels, limits, chances = [], [], []
    for name in evaluation_names(results.runs):
        first = evaluated(results.runs, name)[0]
        measure = first.scores[first.headline]
        for axis in results.axes:
            by_label: dict[str, list[float]] = {}
            for run in results.runs:
                if values := means(evaluated([run], name), first.headline):
                    by_label.setdefault(run.labels[axis], []).extend(values)
            panels.append((f"{title(name)}, by {title(axis)}", measure.title, by_label))
            limits.append(measure.limits)
            chances.append(measure.chance)
    if not panels:
        return []
    svg = plots.bars(panels, limits, chances)
    caption = (
        "The score of each point of an axis: mean over all runs that have it, whatever their other axes, with the "
        f"95 % interval over these runs, or with each of them where they are fewer than {plots.ENOUGH}."
        f"{'' if chances == [None] * len(chances) else ' The vertical line is chance.'}"
    )
    return [Heading("By axis"), Picture("axes", caption, svg)]


def by_ratio(results: Results) -> list[Block]:
    """Headlines against how many learned variables share a meta-parameter, where the rows differ in that.

    Evaluations with the same headline share a picture. A metric of the objective is in it too where its name says that
    it measures the same: `accuracy` with `cumulative_accuracy`.
    """
    lines: dict[str, dict[str, list[Scored]]] = {}
    measures: dict[str, Measure] = {}
    for label, runs in results.rows.items():
        ended = [run for run in runs if run.summary]
        if not ended:
            continue
        summary = ended[0].summary or {}
        if not summary["num_meta_parameters"] or not summary["num_learned_variables"]:
            return []
        ratio = summary["num_learned_variables"] / summary["num_meta_parameters"]
        trained = set()
        for name in evaluation_names(ended):
            found = evaluated(ended, name)
            headline = found[0].headline
            measures.setdefault(headline, found[0].scores[headline])
            panel = lines.setdefault(headline, {})
            metrics = [entries for run in ended if (entries := run.metrics)]
            for metric in of_the_objective(metrics[0][-1]) if metrics and headline not in trained else ():
                if _measures(headline, metric):
                    ends = [end(entries, metric) for entries in metrics]
                    panel.setdefault("meta-training", []).append(Scored(ratio, label, ends))
            trained.add(headline)
            panel.setdefault(title(name), []).append(Scored(ratio, label, means(found, headline)))
    if len({scored.x for panel in lines.values() for line in panel.values() for scored in line}) < 2:
        return []
    ordered = len(results.axes) == 1 and all(map(_is_number, (run.labels[results.axes[0]] for run in results.runs)))
    blocks: list[Block] = [Heading("Sharing: |V_L| / |V_M|")]
    for headline, panel in lines.items():
        measure = measures[headline]
        labels = ("learned variables per meta-parameter, |V_L| / |V_M|", measure.title)
        svg = plots.scale(panel, labels, ordered, measure.limits, measure.chance)
        beside = "at the end of meta-training and " if "meta-training" in panel else ""
        caption = (
            f"Sharing and {measure.title}: {beside}in each evaluation, mean over seeds with the 95 % interval, or with "
            f"each seed where they are fewer than {plots.ENOUGH}."
            f"{'' if measure.chance is None else ' The thin line is chance.'}"
        )
        blocks.append(Picture(_file("sharing", headline if len(blocks) > 1 else ""), caption, svg))
    return blocks


def _measure(results: Results, metric: str) -> Measure:
    """Limits and chance of a metric of meta-training: those of the scores named after it, where they agree."""
    evaluations = [
        e for run in results.runs for e in (run.summary or (run.interim or [{}])[-1]).get("evaluations", {}).items()
    ]
    scores = [score for name, content in evaluations for score in Summary(name, content).scores.items()]
    alike = [measure for name, measure in scores if _measures(name, metric)]
    limits, chances = {measure.limits for measure in alike}, {measure.chance for measure in alike}
    return Measure(
        limits=limits.pop() if len(limits) == 1 else None, chance=chances.pop() if len(chances) == 1 else None
    )


def _measures(score: str, metric: str) -> bool:
    """Whether a score measures a metric, judged by its name: `cumulative_accuracy` measures `accuracy`."""
    return f"_{score}".endswith(f"_{metric}")


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _shown(results: Results, label: str) -> str:
    """A row as a legend names it."""
    return LEARNED if results.sweep is None else label


def _curve(runs: Sequence[np.ndarray], batch: int, x: np.ndarray | None = None) -> Curve:
    """From runs of [lifetimes, T]: a running mean over steps, or the values at `x`."""
    width = 1 if x is not None else plots.window(runs[0].shape[1])
    smoothed = [smooth(run.astype(np.float64), width) for run in runs]
    with np.errstate(invalid="ignore"):
        each = np.asarray([run.mean(axis=0) for run in smoothed]) if len(runs) > 1 else smoothed[0]
    return plots.of_means((np.arange(each.shape[1]) + width) * batch if x is None else x, each)


def _about_bands(lines: Mapping[str, Curve], otherwise: str = "") -> str:
    """The sentence of a caption that says what is drawn around the means."""
    if len(lines) > plots.MAX_BANDS:
        return ""
    few = [curve.single is not None for curve in lines.values()]
    if all(few):
        return f" Pale: each seed{otherwise}."
    each = f"; where there are fewer than {plots.ENOUGH}, each is shown pale" if any(few) else ""
    return f" Bands are 95 % intervals over seeds{otherwise}{each}."


def _file(kind: str, what: str) -> str:
    """The name of a picture's file, without its ending."""
    return re.sub(r"[^\w-]", "_", f"{kind}_{what}" if what else kind)
