"""The report of a run or of a sweep, finished or not: report/report.md with its pictures, and report/report.html.

Rows are the points of a sweep without their seeds; every number is a mean over seeds with Student's 95 % interval, and
over the lifetimes of the one run where there is one seed only.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vsml.analysis.document import Block, Cell, Code, Heading, Picture, Table, Text, to_html, to_markdown
from vsml.analysis.likeness import comparable
from vsml.analysis.network_picture import report_section
from vsml.analysis.pictures import by_axis, by_ratio, held_out, learning_curves, over_meta_steps
from vsml.analysis.rivals import against_rivals
from vsml.analysis.rows import end, evaluated, evaluation_names, measured
from vsml.analysis.statistics import estimate, welch
from vsml.analysis.tables import NONE, about, number
from vsml.config import ABSENT, leaves
from vsml.errors import UserError
from vsml.evaluation.summary import Summary
from vsml.metrics import LOSS, title
from vsml.runs import history
from vsml.runs.names import INTROSPECTION, REPORT, SUMMARY
from vsml.runs.results import Results, Run, read_results

NOTE_SEEDS = "Mean over seeds ± Student's 95 % interval; with one seed the interval is over the lifetimes of its run."
NOTE_P = (
    "p: Welch's t test against the first row, two-sided, over seeds, not corrected for the number of comparisons. The "
    "best mean is in bold."
)


def report(path: Path) -> str:
    """Writes the report of a run or a sweep directory.

    Returns:
      What is left out of it, a line each, and the paths of report.md and report.html.

    Raises:
      UserError: there is nothing to report on, or it cannot be written.
    """
    results = read_results(path)
    compared, apart = comparable(results)
    damaged = [(run, file) for run in results.runs for file in run.damaged]
    blocks = describe(results, compared, _left_out(apart, damaged))
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
    left_out = [f"{run.path / file}: damaged, left out" for run, file in damaged]
    left_out += [f"{name}: not compared, {reason}" for name, reason in apart.items()]
    return "\n".join([*left_out, f"{directory / 'report.md'}", f"{directory / 'report.html'}"])


def describe(everything: Results, results: Results, left_out: Sequence[Block]) -> list[Block]:
    """The whole report: of `everything` how far it is, and of the `results` that may be compared what came out."""
    blocks: list[Block] = [Heading(results.name, 1), *_what_was_run(everything), *left_out]
    for name in evaluation_names(results.runs):
        blocks += _evaluation(results, name)
    blocks += [
        *_meta_training(results),
        *by_axis(results),
        *by_ratio(results),
        *_differences(results),
        *_costs(results),
        *_code_and_changes(everything),
    ]
    if results.sweep is None:
        blocks += [*_introspection(results.path), *report_section(results.path)]
    return blocks


def _introspection(run: Path) -> list[Block]:
    """What `vsml introspect` found, if it was asked."""
    if not (run / INTROSPECTION / SUMMARY).exists():
        return []
    inside = read_results(run / INTROSPECTION)
    found = [block for name in evaluation_names(inside.runs) for block in _evaluation(inside, name)]
    return [*found, *held_out(inside)]


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


def _left_out(apart: Mapping[str, str], damaged: Sequence[tuple[Run, str]]) -> list[Block]:
    """Runs that are not compared with the others, and files of results that cannot be read."""
    rows = [[Cell(name), Cell(reason)] for name, reason in apart.items()]
    files = [[Cell(run.name), Cell(f"{file} cannot be read")] for run, file in damaged]
    blocks: list[Block] = []
    if rows:
        note = Text(
            "These runs differ from the others in something that the sweep does not vary: no table or plot has them."
        )
        blocks += [Heading("Not compared"), note, Table(("run", "reason"), rows)]
    if files:
        note = Text("The contents of these files are missing below; vsml eval RUN writes those of an evaluation again.")
        blocks += [Heading("Damaged files"), note, Table(("run", "file"), files)]
    return blocks


def _progress(run: Run) -> str:
    done = run.metrics[-1]["step"] if run.metrics else 0
    return f"{done} of {run.steps}" if run.steps else str(done)


def _evaluation(results: Results, name: str) -> list[Block]:
    """The table of one evaluation and its learning curves."""
    found = {label: evaluated(runs, name) for label, runs in results.rows.items()}
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
        *learning_curves(results, name, first),
    ]


def _header(results: Results, measures: Sequence[str]) -> list[str]:
    return [*(results.axes or ("run",)), "seeds", *(head for title in measures for head in (title, "p"))]


def _column(
    values: Mapping[str, Sequence[float]], lower_is_better: bool | None, alone: Mapping[str, float] | None = None
) -> dict[str, tuple[Cell, Cell]]:
    """Row -> the cells of its mean with interval and of its p value.

    Args:
      values: row -> a value per run; empty where the row has none.
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


def _meta_training(results: Results) -> list[Block]:
    """The outcome of meta-training, and what was measured during it."""
    blocks = [*_outcome(results), *held_out(results), *over_meta_steps(results)]
    return [Heading("Meta-training"), *blocks] if blocks else []


def _outcome(results: Results) -> list[Block]:
    """The table of the outcome of meta-training, for runs that have ended."""
    ended = {label: [run.metrics for run in runs if run.summary] for label, runs in results.rows.items()}
    ended = {label: [metrics for metrics in runs if metrics] for label, runs in ended.items() if any(runs)}
    if not ended:
        return []
    metrics = measured(ended)
    columns = []
    for metric in metrics:
        values = {label: [end(e, metric) for e in runs if metric in e[-1]] for label, runs in ended.items()}
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


def _differences(results: Results) -> list[Block]:
    """The settings in which the resolved configs of the rows differ, without the seed."""
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
        "Seconds of meta-training, compilation included, mean over seeds ± 95 % interval. Memory is the "
        "largest peak of all runs: of the process, and on its first accelerator."
    )
    return [Heading("Time and memory"), Table(header, rows), Text(note)]


def _code_and_changes(results: Results) -> list[Block]:
    """Code and devices of the runs, and what was changed during them."""
    began: dict[str, list[str]] = {}
    rows, exchanged = [], False
    for run in results.runs:
        for index, (step, where, changed) in enumerate(history.describe(run.history)):
            if index == 0 and not changed:
                began.setdefault(where, []).append(run.name)
            else:
                rows.append([Cell(run.name), Cell(str(step)), Cell(where), Cell("; ".join(changed))])
        exchanged |= bool(history.swaps(run.history))
    first = [
        [Cell(", ".join(of) if len(of) <= 3 else f"{len(of)} runs"), Cell("0"), Cell(where), Cell("")]
        for where, of in began.items()
    ]
    if not first and not rows:
        return []
    note = [Text(f"{history.EXCHANGED[0].upper()}{history.EXCHANGED[1:]}.")] if exchanged else []
    return [Heading("History"), Table(("run", "after meta-steps", "code and devices", "changed"), first + rows), *note]


def _mebibytes(summaries: Sequence[Mapping[str, Any]], where: str) -> str:
    found = [size for s in summaries if (size := s.get("peak_memory_bytes", {}).get(where)) is not None]
    return f"{max(found) / 2**20:,.0f}" if found else NONE
