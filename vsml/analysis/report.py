"""The report of a run or of a sweep, finished or not: report/report.md with its pictures, and report/report.html.

Rows are the points of a sweep without their seeds; every number is a mean over seeds with Student's 95 % interval, and
over the lifetimes of the one run where there is one seed only.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsml.analysis import plots
from vsml.analysis.document import Block, Cell, Code, Heading, Picture, Table, Text, to_html, to_markdown
from vsml.analysis.network_picture import report_section
from vsml.analysis.plots import Curve
from vsml.analysis.statistics import Estimate, band, estimate, smooth, welch
from vsml.analysis.tables import BASELINES
from vsml.config import ABSENT, leaves
from vsml.errors import UserError
from vsml.runs.names import REPORT
from vsml.runs.results import Results, Run, read_results

MEASURES = {"cumulative_accuracy": "cumulative accuracy", "final_accuracy": "final accuracy", "loss": "loss (nats)"}
TRAINED = {"loss": "loss", "accuracy": "accuracy"}
LAST_SHARE = 0.1
"""Share of the logged meta-steps whose mean is the outcome of meta-training."""
NONE = "-"
NOTE_SEEDS = "Mean over seeds ± Student's 95 % interval; with one seed the interval is over the lifetimes of its run."
NOTE_P = (
    "p: Welch's t test against the first row, two-sided, over seeds, not corrected for the number of comparisons. The "
    "best mean is in bold."
)
NOTE_MEASURES = (
    "Every prediction is made before its label is seen. Cumulative: all examples of a lifetime. Final: its last tenth."
)
NOTE_ORACLE = "The best SGD and Adam are tuned on these very lifetimes: mean over lifetimes ± 95 % interval."


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
    for measure in MEASURES:
        values = {label: [_mean_of(s, measure) for s in summaries] for label, summaries in found.items()}
        alone = {label: s[0].get(measure, {}).get("interval95") for label, s in found.items() if len(s) == 1}
        columns.append(_column(values, lower_is_better=measure == "loss", alone=alone))
    rows = [
        [
            *_row_head(results, label),
            Cell(str(len(found[label]))),
            *(cell for column in columns for cell in column[label]),
        ]
        for label in found
    ]
    rows += [_baseline_row(results, *baseline) for baseline in first.get("baselines", {}).items()]
    header = [*(results.axes or ("run",)), "seeds", *(h for m in MEASURES.values() for h in (m, "p"))]
    about = f"{first['lifetimes']} lifetimes of {first['examples']} examples; chance {first['chance']:.3f}."
    notes = [NOTE_MEASURES, NOTE_SEEDS, NOTE_P, *([NOTE_ORACLE] if first.get("baselines") else [])]
    picture = _learning_curves(results, name, first)
    return [Heading(f"Evaluation: {name}"), Text(about), Table(header, rows), Text(" ".join(notes)), *picture]


def _evaluated(runs: Sequence[Run], name: str) -> list[dict[str, Any]]:
    """The summaries of an evaluation, as far as they are there."""
    summaries = [(run.summary or {}).get("evaluations", {}).get(name) for run in runs]
    return [summary for summary in summaries if summary]


def _mean_of(summary: Mapping[str, Any], measure: str) -> float:
    value = summary.get(measure, {}).get("mean")
    return math.nan if value is None else value


def _column(
    values: Mapping[str, Sequence[float]], lower_is_better: bool, alone: Mapping[str, float | None] | None = None
) -> dict[str, tuple[Cell, Cell]]:
    """Row -> the cells of its mean with interval and of its p value; `alone` are the intervals of single runs."""
    means = {label: estimate(found).mean for label, found in values.items()}
    sign = -1 if lower_is_better else 1
    best = max((mean for mean in means.values() if math.isfinite(mean)), key=lambda mean: sign * mean, default=None)
    reference = next(iter(values))
    cells = {}
    for label, found in values.items():
        mean, interval = estimate(found)
        interval = (alone or {}).get(label) if interval is None else interval
        p = None if label == reference else welch(found, values[reference])
        bold = len(values) > 1 and mean == best
        cells[label] = (Cell(_number(mean, interval), bold), Cell(NONE if p is None else f"{p:.2g}"))
    return cells


def _number(mean: float, interval: float | None) -> str:
    if not math.isfinite(mean):
        return "not finite"
    return f"{mean:.3f}" if interval is None or not math.isfinite(interval) else f"{mean:.3f} ± {interval:.3f}"


def _row_head(results: Results, label: str) -> list[Cell]:
    """The cells that say which row it is: a label per axis."""
    run = results.rows[label][0]
    return [Cell(run.labels[axis]) for axis in results.axes] or [Cell(label)]


def _baseline_row(results: Results, name: str, scores: Mapping[str, Any]) -> list[Cell]:
    settings = f"{scores['hidden']} hidden, lr {scores['learning_rate']:g}"
    head = [Cell(f"{BASELINES.get(name, name)} ({settings})"), *(Cell(NONE) for _ in results.axes[1:]), Cell(NONE)]
    for measure in MEASURES:
        score = scores.get(measure)
        shown = NONE if score is None else _number(_mean_of(scores, measure), score["interval95"])
        head += [Cell(shown), Cell(NONE)]
    return head


def _learning_curves(results: Results, name: str, summary: Mapping[str, Any]) -> list[Block]:
    """Accuracy over a lifetime, one line per row."""
    lines, references, width = {}, {}, 1
    for label, runs in results.rows.items():
        found = [curves for run in runs if "correct" in (curves := run.curves(name))]
        if not found:
            continue
        length = found[0]["correct"].shape[1]
        batch, width = max(1, summary["examples"] // length), plots.window(length)
        lines[label] = _curve([c["correct"] for c in found if c["correct"].shape[1] == length], batch)
        if not references:
            present = {key: found[0].get(f"{key}_correct") for key in BASELINES}
            references = {BASELINES[key]: _curve([c], batch) for key, c in present.items() if c is not None}
    if not lines:
        return []
    svg = plots.curves(lines, references, ("examples seen", "accuracy"), (0, 1), summary["chance"])
    caption = (
        f"{name}: accuracy over a lifetime, a running mean over {width} step(s). The thin line is chance."
        f"{_about_bands(lines, ', or over lifetimes where there is one seed')}"
    )
    return [Picture(f"curve_{name}", caption, svg)]


def _about_bands(lines: Mapping[str, Curve], otherwise: str = "") -> str:
    return f" Bands are 95 % intervals over seeds{otherwise}." if len(lines) <= plots.MAX_BANDS else ""


def _curve(runs: Sequence[np.ndarray], batch: int) -> Curve:
    """From runs of [lifetimes, T]."""
    width = plots.window(runs[0].shape[1])
    smoothed = [smooth(run.astype(np.float64), width) for run in runs]
    with np.errstate(invalid="ignore"):
        mean, interval = band(np.asarray([run.mean(axis=0) for run in smoothed]) if len(runs) > 1 else smoothed[0])
    return Curve((np.arange(len(mean)) + width) * batch, mean, interval)


def _meta_training(results: Results) -> list[Block]:
    """The outcome of meta-training, and its loss over the meta-steps."""
    logged = {label: [run.metrics for run in runs if run.metrics] for label, runs in results.rows.items()}
    logged = {label: runs for label, runs in logged.items() if runs}
    if not logged:
        return []
    lines = {label: _training_curve(runs) for label, runs in logged.items()}
    svg = plots.curves(lines, {}, ("meta-steps", "objective (mean loss)"))
    caption = f"Meta-training: the objective over meta-steps, a running mean.{_about_bands(lines)}"
    return [Heading("Meta-training"), *_outcome(results), Picture("meta_training", caption, svg)]


def _outcome(results: Results) -> list[Block]:
    """The table of what meta-training came to, where it has come to its end."""
    ended = {label: [run.metrics for run in runs if run.summary] for label, runs in results.rows.items()}
    ended = {label: runs for label, runs in ended.items() if any(runs)}
    if not ended:
        return []
    columns = []
    for measure in TRAINED:
        values = {label: [_end(metrics, measure) for metrics in runs if metrics] for label, runs in ended.items()}
        columns.append(_column(values, lower_is_better=measure == "loss"))
    rows = [
        [
            *_row_head(results, label),
            Cell(str(len(ended[label]))),
            *(cell for column in columns for cell in column[label]),
        ]
        for label in ended
    ]
    header = [*(results.axes or ("run",)), "seeds", *(h for m in TRAINED.values() for h in (m, "p"))]
    note = "Means over the last tenth of the logged meta-steps. Mean over seeds ± Student's 95 % interval. " + NOTE_P
    return [Table(header, rows), Text(note)]


def _end(metrics: Sequence[Mapping[str, Any]], measure: str) -> float:
    last = metrics[-max(1, int(len(metrics) * LAST_SHARE)) :]
    values = [math.nan if entry[measure] is None else entry[measure] for entry in last]
    return float(np.mean(values))


def _training_curve(runs: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """The loss of runs as far as all of them have come."""
    length = min(map(len, runs))
    loss = [[math.nan if e["loss"] is None else e["loss"] for e in metrics[:length]] for metrics in runs]
    width = max(1, length // 50)
    mean, interval = band(smooth(np.asarray(loss, np.float64), width))
    steps = np.asarray([entry["step"] for entry in runs[0][:length]])
    return Curve(steps[width - 1 :], mean, interval)


def _axes(results: Results) -> list[Block]:
    """Bars per axis: what each of its points comes to, over all runs that have it."""
    names = _evaluations(results.runs)
    panels, chances = [], []
    for name in names:
        row = []
        for axis in results.axes:
            by_label: dict[str, list[float]] = {}
            for run in results.runs:
                for summary in _evaluated([run], name):
                    by_label.setdefault(run.labels[axis], []).append(_mean_of(summary, "cumulative_accuracy"))
            row.append((f"{name}, by {axis}", {label: estimate(values) for label, values in by_label.items()}))
        panels.append(row)
        chances.append(_evaluated(results.runs, name)[0]["chance"])
    if not panels or not results.axes:
        return []
    svg = plots.bars(panels, "cumulative accuracy", chances)
    caption = (
        "What each point of an axis comes to: mean over all runs that have it, whatever their other axes, with the "
        "95 % interval over these runs. The vertical line is chance."
    )
    return [Heading("By axis"), Picture("axes", caption, svg)]


def _scale(results: Results) -> list[Block]:
    """Accuracy against how many learned variables share a meta-parameter, where the rows differ in that."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for runs in results.rows.values():
        ended = [run for run in runs if run.summary]
        if not ended:
            continue
        summary = ended[0].summary or {}
        if not summary["num_meta_parameters"] or not summary["num_learned_variables"]:
            return []
        ratio = summary["num_learned_variables"] / summary["num_meta_parameters"]
        if logged := [_end(run.metrics, "accuracy") for run in ended if run.metrics]:
            lines.setdefault("meta-training", []).append((ratio, estimate(logged)))
        for name in _evaluations(ended):
            values = [_mean_of(s, "cumulative_accuracy") for s in _evaluated(ended, name)]
            lines.setdefault(name, []).append((ratio, estimate(values)))
    if len({ratio for line in lines.values() for ratio, _ in line}) < 2:
        return []
    svg = plots.scale(lines, ("learned variables per meta-parameter, |V_L| / |V_M|", "accuracy"))
    caption = (
        "Accuracy against sharing: at the end of meta-training and in each evaluation (cumulative), mean over seeds "
        "with the 95 % interval."
    )
    return [Heading("Sharing: |V_L| / |V_M|"), Picture("sharing", caption, svg)]


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
