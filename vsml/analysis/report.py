"""The report of a run or of a sweep, finished or not: report/report.md with its pictures, and report/report.html.

Rows are the points of a sweep without their seeds; every number is a mean over seeds with Student's 95 % interval, and
over the lifetimes of the one run where there is one seed only.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsml.analysis import plots
from vsml.analysis.document import Block, Cell, Code, Heading, Picture, Table, Text, to_html, to_markdown
from vsml.analysis.network_picture import report_section
from vsml.analysis.plots import Curve, Scored
from vsml.analysis.rivals import against_rivals
from vsml.analysis.statistics import estimate, welch
from vsml.analysis.tables import NONE, about, number
from vsml.config import ABSENT, leaves
from vsml.errors import UserError
from vsml.evaluation.base import LEARNED, Measure
from vsml.evaluation.statistics import smooth
from vsml.evaluation.summary import Spread, Summary
from vsml.metrics import LOSS, of_the_objective, title
from vsml.runs.names import REPORT
from vsml.runs.results import Results, Run, read_results

LAST_SHARE = 0.1
"""Share of the logged meta-steps whose mean is the outcome of meta-training."""
ABSENT_SPREAD = Spread(math.nan, math.nan, math.nan)
NOTE_SEEDS = "Mean over seeds ± Student's 95 % interval; with one seed the interval is over the lifetimes of its run."
NOTE_P = (
    "p: Welch's t test against the first row, two-sided, over seeds, not corrected for the number of comparisons. The "
    "best mean is in bold."
)


def report(path: Path) -> str:
    """Writes the report of a run or a sweep directory.

    Returns:
      Where it is. Raises `UserError` where there is nothing to report on, or it cannot be written.
    """
    results = read_results(path)
    blocks = describe(results)
    directory = path / REPORT
    try:
        directory.mkdir(exist_ok=True)
        for old in directory.glob("*.svg"):
            old.unlink()
        for block in blocks:
            if isinstance(block, Picture):
                (directory / f"{block.name}.svg").write_text(block.svg, encoding="utf-8")
        (directory / "report.md").write_text(to_markdown(blocks), encoding="utf-8")
        (directory / "report.html").write_text(to_html(results.name, blocks), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}): free space or make it writable") from error
    return f"{directory / 'report.md'}\n{directory / 'report.html'}"


def describe(results: Results) -> list[Block]:
    """The whole report."""
    blocks: list[Block] = [Heading(results.name, 1), *_what_was_run(results)]
    for name in _evaluations(results.runs):
        blocks += _evaluation(results, name)
    blocks += [*_meta_training(results), *_axes(results), *_scale(results), *_differences(results), *_costs(results)]
    if results.sweep is None:
        blocks += report_section(results.path)
    return blocks


def _what_was_run(results: Results) -> list[Block]:
    states = [run.status for run in results.runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    first = next((run.config for run in results.runs if run.config), None)
    recipe = (results.sweep or first or {}).get("recipe", "")
    blocks: list[Block] = [Text(f"Recipe {recipe}. Runs: {counts}.")]
    if results.sweep is not None:
        tags = ", ".join(results.sweep["tags"])
        axes = "; ".join(f"{axis['name']}: {', '.join(axis['labels'])}" for axis in results.sweep["axes"])
        blocks += [Text(f"Axes: {axes}." + (f" Tags: {tags}." if tags else ""))]
        blocks += [Code(shlex.join(["vsml", "sweep", results.sweep["file"], *results.sweep["words"]]))]
        if results.sweep["refused"]:
            left_out = [[Cell(point["name"]), Cell(point["reason"])] for point in results.sweep["refused"]]
            blocks += [Text("Combinations that make no sense, left out:"), Table(("point", "reason"), left_out)]
    unfinished = [run for run in results.runs if run.status != "finished"]
    if unfinished:
        rows = [[Cell(r.name), Cell(r.status), Cell(_progress(r)), Cell(r.failure)] for r in unfinished]
        blocks += [Heading("Not finished", 2), Table(("run", "state", "meta-steps", "reason"), rows)]
    return blocks


def _progress(run: Run) -> str:
    done = run.metrics[-1]["step"] if run.metrics else 0
    return f"{done} of {run.steps}" if run.steps else str(done)


def _evaluations(runs: Iterable[Run]) -> list[str]:
    """Names of all evaluations, in the order of the runs."""
    return list(dict.fromkeys(name for run in runs for name in (run.summary or {}).get("evaluations", {})))


def _evaluation(results: Results, name: str) -> list[Block]:
    """The table of one evaluation and its learning curves."""
    found = {label: _evaluated(runs, name) for label, runs in results.rows.items()}
    found = {label: summaries for label, summaries in found.items() if summaries}
    first = next(iter(found.values()))[0]
    columns = []
    for score, measure in first.scores.items():
        spreads = {label: [s.spread(score) for s in summaries] for label, summaries in found.items()}
        values = {label: [spread.mean for spread in own if spread] for label, own in spreads.items()}
        alone = {label: own[0].interval95 for label, own in spreads.items() if len(own) == 1 and own[0]}
        columns.append(_column(values, measure.lower_is_better, alone))
    rows = [
        [
            *_row_head(results, label),
            Cell(str(len(found[label]))),
            *(cell for column in columns for cell in column[label]),
        ]
        for label in found
    ]
    rows += [_rival_row(results, rival, list(first.scores)) for rival in first.rivals.values()]
    header = _header(results, [measure.title for measure in first.scores.values()])
    over_lifetimes = "Rows without seeds: mean over lifetimes ± 95 % interval." if first.rivals else ""
    notes = Text(" ".join(filter(None, [first.note, NOTE_SEEDS, NOTE_P, over_lifetimes])))
    heads = {label: _row_head(results, label) for label in found}
    return [
        *(Heading(f"Evaluation: {title(name)}"), Text(f"{about(first)}."), Table(header, rows), notes),
        *against_rivals(found, heads, results.axes or ("run",)),
        *_learning_curves(results, name, first),
    ]


def _header(results: Results, measures: Sequence[str]) -> list[str]:
    return [*(results.axes or ("run",)), "seeds", *(head for title in measures for head in (title, "p"))]


def _evaluated(runs: Sequence[Run], name: str) -> list[Summary]:
    """The summaries of an evaluation, as far as they are there."""
    summaries = [(run.summary or {}).get("evaluations", {}).get(name) for run in runs]
    return [Summary(name, summary) for summary in summaries if summary]


def _means(summaries: Sequence[Summary], headline: str) -> list[float]:
    """The mean of a score in each evaluation that has it."""
    return [spread.mean for summary in summaries if (spread := summary.spread(headline))]


def _column(
    values: Mapping[str, Sequence[float]], lower_is_better: bool | None, alone: Mapping[str, float] | None = None
) -> dict[str, tuple[Cell, Cell]]:
    """Row -> the cells of its mean with interval and of its p value.

    Args:
      values: one per run of a row; none where the row has none.
      lower_is_better: the direction in which one is the best; None where that is not known.
      alone: intervals of rows of a single run.
    """
    means = {label: estimate(found).mean for label, found in values.items() if found}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    best = None if lower_is_better is None or not finite else (min if lower_is_better else max)(finite)
    reference = next(iter(values))
    cells = {}
    for label, found in values.items():
        if not found:
            cells[label] = (Cell(NONE), Cell(NONE))
            continue
        mean, interval = estimate(found)
        interval = (alone or {}).get(label) if interval is None else interval
        p = None if label == reference else welch(found, values[reference])
        bold = len(values) > 1 and mean == best
        cells[label] = (Cell(number(mean, interval), bold), Cell(NONE if p is None else f"{p:.2g}"))
    return cells


def _row_head(results: Results, label: str) -> list[Cell]:
    """The cells that say which row it is: a label per axis."""
    run = results.rows[label][0]
    return [Cell(run.labels[axis]) for axis in results.axes] or [Cell(label)]


def _rival_row(results: Results, rival: Summary, scores: Sequence[str]) -> list[Cell]:
    row = [Cell(rival.name), *(Cell(NONE) for _ in results.axes[1:]), Cell(NONE)]
    for score in scores:
        spread = rival.spread(score)
        row += [Cell(NONE if spread is None else number(spread.mean, spread.interval95)), Cell(NONE)]
    return row


def _learning_curves(results: Results, name: str, summary: Summary) -> list[Block]:
    """The curves of an evaluation over a lifetime, a picture each with one line per row."""
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
        lines = {_shown(results, label): _curve(arrays, batch) for label, arrays in alike.items() if arrays}
        present = {rival.name: first.get(f"{key}_{curve}") for key, rival in summary.rivals.items()}
        references = {label: _curve([array], batch) for label, array in present.items() if array is not None}
        measure = summary.curves.get(curve, Measure(title(curve)))
        axes = ("examples seen" if examples else "steps of a lifetime", measure.title)
        svg = plots.curves(lines, references, axes, measure.limits, measure.chance)
        caption = (
            f"{title(name)}: {measure.title} over a lifetime, a running mean over {plots.window(length)} step(s)."
            f"{'' if measure.chance is None else ' The thin line is chance.'}"
            f"{_about_bands(lines, ', or lifetimes where there is one seed')}"
        )
        pictures.append(Picture(_file(f"curve_{name}", curve if pictures else ""), caption, svg))
    return pictures


def _file(kind: str, what: str) -> str:
    """The name of a picture's file, without its ending."""
    return re.sub(r"[^\w-]", "_", f"{kind}_{what}" if what else kind)


def _shown(results: Results, label: str) -> str:
    """A row as a legend names it."""
    return LEARNED if results.sweep is None else label


def _about_bands(lines: Mapping[str, Curve], otherwise: str = "") -> str:
    """What stands around the means."""
    if len(lines) > plots.MAX_BANDS:
        return ""
    few = [curve.single is not None for curve in lines.values()]
    if all(few):
        return f" Pale: each seed{otherwise}."
    each = f", or, pale, each where there are fewer than {plots.ENOUGH}" if any(few) else ""
    return f" Bands are 95 % intervals over seeds{otherwise}{each}."


def _curve(runs: Sequence[np.ndarray], batch: int) -> Curve:
    """From runs of [lifetimes, T]."""
    width = plots.window(runs[0].shape[1])
    smoothed = [smooth(run.astype(np.float64), width) for run in runs]
    with np.errstate(invalid="ignore"):
        each = np.asarray([run.mean(axis=0) for run in smoothed]) if len(runs) > 1 else smoothed[0]
    return plots.of_means((np.arange(each.shape[1]) + width) * batch, each)


def _meta_training(results: Results) -> list[Block]:
    """The outcome of meta-training, and what the objective measures, over the meta-steps."""
    logged = {label: [run.metrics for run in runs if run.metrics] for label, runs in results.rows.items()}
    logged = {label: runs for label, runs in logged.items() if runs}
    if not logged:
        return []
    blocks = [Heading("Meta-training"), *_outcome(results), *_held_out(results)]
    for metric in _metrics(logged):
        lines = {label: _training_curve(runs, metric) for label, runs in logged.items() if metric in runs[0][-1]}
        shown = "objective (mean loss)" if metric == LOSS else title(metric)
        measure = _measure(results, metric)
        svg = plots.curves(lines, {}, ("meta-steps", shown), measure.limits, measure.chance)
        about_it = (
            f"Meta-training: the {shown} over meta-steps, a running mean."
            f"{'' if measure.chance is None else ' The thin line is chance in the evaluations.'}{_about_bands(lines)}"
        )
        blocks.append(Picture(_file("meta_training", "" if metric == LOSS else metric), about_it, svg))
    return blocks


def _measure(results: Results, metric: str) -> Measure:
    """How a metric of meta-training is shown: as the scores that are named after it, as far as they agree."""
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
    """Whether a score is that of a metric, by its name: `cumulative_accuracy` of `accuracy`."""
    return f"_{score}".endswith(f"_{metric}")


def _outcome(results: Results) -> list[Block]:
    """The table of what meta-training came to, where it has come to its end."""
    ended = {label: [run.metrics for run in runs if run.summary] for label, runs in results.rows.items()}
    ended = {label: [metrics for metrics in runs if metrics] for label, runs in ended.items() if any(runs)}
    if not ended:
        return []
    metrics = _metrics(ended)
    columns = []
    for metric in metrics:
        values = {label: [_end(e, metric) for e in runs if metric in e[-1]] for label, runs in ended.items()}
        columns.append(_column(values, lower_is_better=True if metric == LOSS else None))
    rows = [
        [
            *_row_head(results, label),
            Cell(str(len(ended[label]))),
            *(cell for column in columns for cell in column[label]),
        ]
        for label in ended
    ]
    note = "Means over the last tenth of the logged meta-steps. Mean over seeds ± Student's 95 % interval. " + NOTE_P
    return [Table(_header(results, list(map(title, metrics))), rows), Text(note)]


def _metrics(logged: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> list[str]:
    """What the objectives of any run measure; runs are entries of `metrics.jsonl`."""
    return of_the_objective(dict.fromkeys(name for runs in logged.values() for run in runs for name in run[-1]))


def _held_out(results: Results) -> list[Block]:
    """The headline of each evaluation over meta-steps, where evaluators ran during meta-training."""
    interim = {label: [run for run in runs if run.interim] for label, runs in results.rows.items()}
    names = dict.fromkeys(name for runs in interim.values() for run in runs for name in run.interim[0]["evaluations"])
    pictures: list[Block] = []
    for name in names:
        histories = {label: [_history(run, name) for run in runs] for label, runs in interim.items()}
        histories = {label: [found for found in runs if found] for label, runs in histories.items() if any(runs)}
        summary = next(iter(histories.values()))[0][0][1]
        measure = summary.scores[summary.headline]
        lines = {label: _held_out_curve(runs, summary.headline) for label, runs in histories.items()}
        svg = plots.curves(lines, {}, ("meta-steps", measure.title), measure.limits, measure.chance)
        caption = (
            f"{title(name)}: held-out {measure.title} over meta-steps, in {summary.content['lifetimes']} lifetimes; "
            "where a run has ended, the last point is the evaluation above."
            f"{'' if measure.chance is None else ' The thin line is chance.'}"
            f"{_about_bands(lines, ', or lifetimes where there is one seed')}"
        )
        pictures.append(Picture(_file("held_out", name), caption, svg))
    return pictures


def _history(run: Run, name: str) -> list[tuple[int, Summary]]:
    """An evaluation by meta-steps, during meta-training and after it."""
    found = [(e["step"], Summary(name, e["evaluations"][name])) for e in run.interim if name in e["evaluations"]]
    return found + [((run.summary or {})["meta_steps"], summary) for summary in _evaluated([run], name)]


def _held_out_curve(histories: Sequence[Sequence[tuple[int, Summary]]], headline: str) -> Curve:
    """A score over meta-steps as far as all runs have come, with its interval over them, or over lifetimes of one."""
    spreads = [{step: s.spread(headline) or ABSENT_SPREAD for step, s in history} for history in histories]
    steps = [step for step in spreads[0] if all(step in own for own in spreads)]
    means = np.asarray([[own[step].mean for step in steps] for own in spreads])
    curve = plots.of_means(np.asarray(steps), means)
    if len(histories) == 1:
        curve = curve._replace(interval95=np.nan_to_num([spreads[0][step].interval95 for step in steps]))
    return curve


def _end(metrics: Sequence[Mapping[str, Any]], metric: str) -> float:
    last = metrics[-max(1, int(len(metrics) * LAST_SHARE)) :]
    return float(np.mean([_logged(entry, metric) for entry in last]))


def _logged(entry: Mapping[str, Any], metric: str) -> float:
    value = entry.get(metric)
    return math.nan if value is None else value


def _training_curve(runs: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> Curve:
    """A metric of runs as far as all of them have come."""
    length = min(map(len, runs))
    values = [[_logged(entry, metric) for entry in metrics[:length]] for metrics in runs]
    width = max(1, length // 50)
    steps = np.asarray([entry["step"] for entry in runs[0][:length]])
    return plots.of_means(steps[width - 1 :], smooth(np.asarray(values, np.float64), width))


def _axes(results: Results) -> list[Block]:
    """Bars per axis: what each of its points comes to, over all runs that have it."""
    panels, limits, chances = [], [], []
    for name in _evaluations(results.runs):
        first = _evaluated(results.runs, name)[0]
        measure = first.scores[first.headline]
        for axis in results.axes:
            by_label: dict[str, list[float]] = {}
            for run in results.runs:
                if values := _means(_evaluated([run], name), first.headline):
                    by_label.setdefault(run.labels[axis], []).extend(values)
            panels.append((f"{title(name)}, by {title(axis)}", measure.title, by_label))
            limits.append(measure.limits)
            chances.append(measure.chance)
    if not panels:
        return []
    svg = plots.bars(panels, limits, chances)
    caption = (
        "What each point of an axis comes to: mean over all runs that have it, whatever their other axes, with the "
        f"95 % interval over these runs, or with each of them where they are fewer than {plots.ENOUGH}."
        f"{'' if chances == [None] * len(chances) else ' The vertical line is chance.'}"
    )
    return [Heading("By axis"), Picture("axes", caption, svg)]


def _scale(results: Results) -> list[Block]:
    """Headlines against how many learned variables share a meta-parameter, where the rows differ in that.

    Evaluations with the same headline share a picture. What the objective measures stands beside where the names say
    that it is the same: `accuracy` beside `cumulative_accuracy`.
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
        for name in _evaluations(ended):
            found = _evaluated(ended, name)
            headline = found[0].headline
            measures.setdefault(headline, found[0].scores[headline])
            panel = lines.setdefault(headline, {})
            metrics = [entries for run in ended if (entries := run.metrics)]
            for metric in of_the_objective(metrics[0][-1]) if metrics and headline not in trained else ():
                if _measures(headline, metric):
                    ends = [_end(entries, metric) for entries in metrics]
                    panel.setdefault("meta-training", []).append(Scored(ratio, label, ends))
            trained.add(headline)
            panel.setdefault(title(name), []).append(Scored(ratio, label, _means(found, headline)))
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


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _differences(results: Results) -> list[Block]:
    """What the resolved configs of the rows differ in, the seed left out."""
    configs = {label: next((run.config for run in runs if run.config), None) for label, runs in results.rows.items()}
    trees = {label: leaves(config["train"], "train") for label, config in configs.items() if config}
    keys = dict.fromkeys(key for tree in trees.values() for key in tree if key != "train.seed")
    differing = [key for key in keys if len({repr(tree.get(key, ABSENT)) for tree in trees.values()}) > 1]
    if not differing:
        return []
    rows = [[Cell(key), *(Cell(str(tree.get(key, ABSENT))) for tree in trees.values())] for key in differing]
    return [
        Heading("How the configs differ"),
        Text("Resolved settings that are not the same in all rows, by their path in config.json."),
        Table(("setting", *trees), rows),
    ]


def _costs(results: Results) -> list[Block]:
    """Time, memory and sizes."""
    rows = []
    for label, runs in results.rows.items():
        ended = [summary for run in runs if (summary := run.summary)]
        if not ended:
            continue
        seconds = estimate([summary["seconds"] for summary in ended])
        rows.append(
            [
                *_row_head(results, label),
                Cell(f"{seconds.mean:.1f}" + ("" if seconds.interval95 is None else f" ± {seconds.interval95:.1f}")),
                Cell(_mebibytes(ended, "host")),
                Cell(_mebibytes(ended, "device")),
                Cell(str(ended[0]["devices"])),
                Cell(f"{ended[0]['num_meta_parameters']:,}"),
                Cell(f"{ended[0]['num_learned_variables']:,}"),
            ]
        )
    if not rows:
        return []
    header = (
        *(results.axes or ("run",)),
        *("meta-training (s)", "peak memory (MiB)", "on the accelerator (MiB)", "devices", "|V_M|", "|V_L|"),
    )
    note = (
        "Seconds of meta-training, compilation included, mean over seeds ± 95 % interval. Memory is the most of any "
        "run, of its process and of its first accelerator."
    )
    return [Heading("Time and memory"), Table(header, rows), Text(note)]


def _mebibytes(summaries: Sequence[Mapping[str, Any]], where: str) -> str:
    found = [size for s in summaries if (size := s.get("peak_memory_bytes", {}).get(where)) is not None]
    return f"{max(found) / 2**20:,.0f}" if found else NONE
