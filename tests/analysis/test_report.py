"""Reports of made-up runs: what is in the tables, that the page stands alone, and what is half-finished."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from runs import call
from runs_on_disk import write_run, write_sweep

from vsml.analysis import plots
from vsml.analysis.report import report
from vsml.errors import UserError
from vsml.evaluation import Evaluation
from vsml.runs.results import read_results

ACCURACIES = {
    ("4", "error"): [0.5, 0.52],
    ("4", "label"): [0.6, 0.62],
    ("8", "error"): [0.7, 0.72],
    ("8", "label"): [0.5, 0.52],
}
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that every tag is closed, and keeps what refers to something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(directory: Path) -> tuple[str, str]:
    report(directory)
    return tuple((directory / "report" / name).read_text() for name in ("report.md", "report.html"))  # type: ignore


def rows(markdown: str, section: str) -> list[list[str]]:
    """The cells of the table of a section, header first."""
    body = markdown.split(f"## {section}\n", 1)[1].split("\n##", 1)[0]
    lines = [line for line in body.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_of_a_sweep(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    markdown, _ = written(tmp_path)
    header, *found = rows(markdown, "Evaluation: digits")
    assert header[:5] == ["size", "feedback", "seeds", "cumulative accuracy", "p"]
    # Two seeds .01 around their mean: std .01 sqrt(2), interval 12.706 * .01 = .127
    assert found[0][:5] == ["4", "error", "2", "0.510 ± 0.127", "-"]
    # Means .2 apart, standard error .01 sqrt(2), 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2), t = 14.142
    assert found[2][:5] == ["8", "error", "2", "**0.710 ± 0.127**", "0.005"]
    assert found[3][4] == "1"
    assert found[2][-2] == "**0.290 ± 0.127**", "of losses the lowest is the best"
    assert sum("**" in row[3] for row in found) == 1
    assert found[4] == ["best sgd", "-", "-", "0.700 ± 0.010", "-", "0.750 ± 0.010", "-", "0.300 ± 0.010", "-"]
    assert "Made up. Mean over seeds" in markdown


def test_the_learner_against_its_rivals_with_several_seeds(tmp_path: Path):
    """The unit is the seed: two of them, whatever the lifetimes."""
    write_sweep(tmp_path, {**ACCURACIES, ("8", "error"): [0.7, 0.74], ("8", "label"): [0.5]})
    markdown, _ = written(tmp_path)
    found = rows(markdown, "Differences to the rivals")
    assert found[0][:6] == ["size", "feedback", "against", "n", "cumulative accuracy", "p"]
    # .7 - .7 and .74 - .7: mean .02, std .04 / sqrt(2), t = 1 with one degree of freedom: p = .5
    assert found[5][:6] == ["8", "error", "best sgd", "2 seeds", "0.020 ± 0.254", "0.5"]
    # One seed, lifetimes that differ from the rival's by -.2 in each: nothing varies, so that there is no test.
    assert found[7][:6] == ["8", "label", "best sgd", "4 lifetimes", "-0.200 ± 0.000", "-"]
    assert "With several seeds the unit is V\\_M of a seed" in markdown


def test_the_learner_against_its_rivals_with_one_seed(tmp_path: Path):
    """The unit is the lifetime."""
    write_run(tmp_path / "run", 0.5)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    rivals = summary["evaluations"]["digits"]["baselines"]
    rivals["best_sgd"]["cumulative_accuracy"]["paired"] = {"difference": 0.1, "interval95": 0.05, "p": 0.0123}
    del rivals["best_adam"]["cumulative_accuracy"]["paired"], rivals["best_adam"]["loss"]["paired"]
    path.write_text(json.dumps(summary))
    _, first, second = rows(written(tmp_path / "run")[0], "Differences to the rivals")
    assert first[:5] == ["run", "best sgd", "4 lifetimes", "0.100 ± 0.050", "0.012"]
    assert second[3:5] == ["-", "-"], "of a run of before"


def test_runs_of_before_have_no_paired_test(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    for rival in summary["evaluations"]["digits"]["baselines"].values():
        for score in ("cumulative_accuracy", "final_accuracy", "loss"):
            del rival[score]["paired"]
    path.write_text(json.dumps(summary))
    assert "rivals" not in written(tmp_path / "run")[0]


def test_facts_that_nobody_knows(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    found = summary["evaluations"].pop("digits")
    found |= {"data": "wine", "transfer": True, "repeats": 2, "odd": False, "shape": [2, 3], "of": {"a": 1}, "x": None}
    summary["evaluations"]["training_tasks"] = found
    path.write_text(json.dumps(summary))
    markdown, text = written(tmp_path / "run")
    assert "4 lifetimes of 40 examples, chance 0.100, transfer, repeats 2, wine." in markdown
    assert "## Evaluation: training tasks\n" in markdown
    assert "training_tasks" not in re.sub(r"base64,[\w+/=]+", "", text)


def test_a_page_for_phones_and_for_the_dark(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    _, text = written(tmp_path / "run")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    for path in (tmp_path / "run" / "report").glob("*.svg"):
        picture = path.read_text()
        assert "prefers-color-scheme:dark" in picture
        assert "currentColor" in picture
        assert not re.search(r"fill: *#ffffff|#000000", picture), "nothing is white or black for good"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of a report, as they are drawn."""
    found: list[Figure] = []

    def keep(figure: Figure) -> str:
        found.append(figure)
        return "<svg/>"

    monkeypatch.setattr(plots, "as_svg", keep)
    return found


def curve(heights: list[list[float]]) -> plots.Curve:
    return plots.of_means(np.arange(len(heights[0])), np.asarray(heights))


def test_of_few_seeds_each_is_shown(drawn: list[Figure]):
    plots.curves({"two": curve([[0.1] * 40, [0.9] * 40])}, {}, ("x", "y"), (0, 1))
    plots.curves({"five": curve([[0.1 * k] * 40 for k in range(5)])}, {}, ("x", "y"), (0, 1))
    plots.curves({"short": curve([[0.1] * 3, [0.9] * 3])}, {}, ("x", "y"), (0, 1))
    two, five, short = (figure.axes[0] for figure in drawn)
    assert sorted(line.get_ydata()[0] for line in two.get_lines()) == [0.1, 0.5, 0.9]  # type: ignore
    assert not two.collections, "no band of two, which would leave the axis"
    assert len(five.get_lines()) == len(five.collections) == 1
    points = np.asarray(short.collections[0].get_offsets())
    assert points[:, 1].tolist() == [0.1] * 3 + [0.9] * 3


def test_bars_begin_at_zero_and_show_few_values(drawn: list[Figure]):
    plots.bars([("t", "accuracy", {"a": [0.5, 0.6], "b": [0.4] * 4 + [0.5]})], [(0.0, 1.0)], [0.1])
    (axes,) = drawn[0].axes
    assert axes.get_xlim()[0] == 0
    points = [np.asarray(collection.get_offsets()).tolist() for collection in axes.collections]
    assert [[0.5, 0], [0.6, 0]] in points
    assert len(axes.containers) - len(axes.patches) == 1, "an interval of the five, none of the two"


@pytest.mark.parametrize(("labels", "style"), [(("4", "8"), "-"), (("4", "eight"), "None")])
def test_lines_join_numbers_and_not_names(drawn: list[Figure], tmp_path: Path, labels: tuple[str, str], style: str):
    write_sweep(tmp_path, {("4", "x"): [0.5], ("8", "x"): [0.6]})
    path = tmp_path / "sweep.json"
    content = json.loads(path.read_text())
    content["axes"] = [axis for axis in content["axes"] if axis["name"] != "feedback"]
    for point, label in zip(content["points"], labels, strict=True):
        point["labels"]["size"] = label
    path.write_text(json.dumps(content))
    report(tmp_path)
    (axes,) = (figure.axes[0] for figure in drawn if "|V_M|" in figure.axes[0].get_xlabel())
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_label() == "digits"]  # type: ignore
    assert [line.get_linestyle() for line in lines] == [style]
    assert axes.get_ylim()[0] == 0
    assert axes.child_axes[0].get_xticklabels()[0].get_text().endswith(labels[1])


def test_accuracy_of_meta_training_is_shown_as_in_the_evaluations(drawn: list[Figure], tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    report(tmp_path / "run")
    shown = {figure.axes[0].get_ylabel(): figure.axes[0] for figure in drawn}
    assert shown["accuracy"].get_ylim() == (0, 1)
    assert shown["objective (mean loss)"].get_ylim()[0] > 1
    held_out = [axes for label, axes in shown.items() if label in ("accuracy", "cumulative accuracy")]
    assert all(0.1 in line.get_ydata() for axes in held_out for line in axes.get_lines()[-1:])  # type: ignore


def test_what_was_run_and_what_it_took(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    markdown, _ = written(tmp_path)
    assert "Runs: 8 finished." in markdown
    assert "vsml sweep sweeps/made_up.gin STEPS=30" in markdown
    assert "Not finished" not in markdown
    header, *found = rows(markdown, "Time and memory")
    # Seeds 0 and 1 take 10 and 11 s: 10.5 ± 12.706 * .5
    assert found[2] == ["8", "error", "10.5 ± 6.4", "108", "-", "1", "80", "1,000"]
    assert len(header) == len(found[0])
    assert rows(markdown, "How the configs differ")[1] == ["train.learner.size", "4", "4", "8", "8"]
    # The last tenth of 30 entries: accuracies a 28/30, a 29/30, a of seeds .7 and .72, mean .71 * 29/30
    assert rows(markdown, "Meta-training")[0] == ["size", "feedback", "seeds", "loss", "p", "accuracy", "p"]
    assert rows(markdown, "Meta-training")[3][5].startswith("0.686 ±"), "of what is no loss nobody knows the best"


def test_the_page_stands_alone(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    _, text = written(tmp_path)
    page = Page(text)
    assert page.references
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in page.references)
    assert not {"script", "link", "iframe"} & page.tags
    assert "://" not in re.sub(r"base64,[\w+/=]+", "", text)
    assert "url(" not in text
    assert "@import" not in text


def test_pictures_are_whole_and_named_in_the_markdown(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    markdown, _ = written(tmp_path)
    pictures = {path.name for path in (tmp_path / "report").glob("*.svg")}
    assert pictures == {
        *("curve_digits.svg", "axes.svg", "sharing.svg"),
        *("meta_training.svg", "meta_training_accuracy.svg", "held_out_digits.svg"),
    }
    assert set(re.findall(r"\]\((\S+\.svg)\)", markdown)) == pictures
    for name in pictures:
        assert ElementTree.parse(tmp_path / "report" / name).getroot().tag.endswith("svg")


def written_odd(path: Path) -> None:
    """A run of an evaluator with scores and a curve of its own, and of an objective with a metric of its own."""
    write_run(path, 0.5)
    scores = {"bits saved": np.array([-2.0, 4e5, 1.0]), "steps_to_halve": np.array([1, 2, 3])}
    curves = {"bits saved": np.linspace(-5, 5, 9)}
    odd = Evaluation("odd", scores, "steps_to_halve", curves=curves, facts={"world": "maze"})
    odd.save(path / "evaluations")
    content = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps(content | {"evaluations": {"odd": odd.summary}}))
    interim = {"step": 9, "evaluations": {"odd": odd.summary}}
    (path / "evaluations.jsonl").write_text(json.dumps(interim) + "\n")
    entries = [{"step": k, "loss": 1 / k, "bits": 2.0 * k} for k in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_unknown_names(tmp_path: Path):
    written_odd(tmp_path / "run")
    markdown, text = written(tmp_path / "run")
    assert rows(markdown, "Evaluation: odd") == [
        ["run", "seeds", "steps to halve", "p", "bits saved", "p"],
        ["run", "1", "2.000 ± 2.484", "-", "1.33e+05 ± 5.74e+05", "-"],
    ]
    assert "3 lifetimes, world maze." in markdown
    assert rows(markdown, "Meta-training")[0] == ["run", "seeds", "loss", "p", "bits", "p"]
    assert "odd: held-out steps to halve over meta-steps, in 3 lifetimes" in markdown
    names = {"curve_odd.svg", "held_out_odd.svg", "meta_training.svg", "meta_training_bits.svg"}
    assert {path.name for path in (tmp_path / "run" / "report").glob("*.svg")} == names
    assert "chance" not in markdown
    assert "ccuracy" not in markdown
    Page(text)


def test_runs_with_other_scores_are_compared(tmp_path: Path, capfd):
    write_run(tmp_path / "a", 0.5)
    written_odd(tmp_path / "b")
    outcome = call(capfd, "compare", tmp_path / "a", tmp_path / "b")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["meta-training", "bits", "-", "4.000"] in lines
    assert ["meta-training", "accuracy", "0.500", "-"] in lines
    assert ["odd:", "steps", "to", "halve", "-", "2.000", "±", "2.484"] in lines
    assert ["digits:", "loss", "0.500", "±", "0.010", "-"] in lines


def test_training_stands_beside_a_headline_of_the_same_name_alone(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    markdown, _ = written(tmp_path)
    assert "Sharing and cumulative accuracy: at the end of meta-training and in each evaluation" in markdown
    for path in tmp_path.glob("size*/metrics.jsonl"):
        path.write_text(path.read_text().replace("accuracy", "hits"))
    markdown, _ = written(tmp_path)
    assert "Sharing and cumulative accuracy: in each evaluation" in markdown


def test_the_same_runs_give_the_same_report(tmp_path: Path):
    write_sweep(tmp_path, {("4", "error"): [0.5, 0.6]})
    assert written(tmp_path) == written(tmp_path)


def test_a_half_finished_sweep(tmp_path: Path):
    write_sweep(tmp_path, {("4", "error"): [0.5, None], ("8", "error"): [None, None]})
    never = tmp_path / "size=8,feedback=error,seed=1"
    for path in sorted(never.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "size=8,feedback=error,seed=0" / "failure.txt").write_text("out of <memory>\n")
    markdown, text = written(tmp_path)
    assert "Runs: 1 failed, 1 finished, 1 not started, 1 unfinished." in markdown
    _, *found = rows(markdown, "Not finished")
    assert found == [
        ["size=4,feedback=error,seed=1", "unfinished", "15 of 30", ""],
        ["size=8,feedback=error,seed=0", "failed", "15 of 30", r"out of \<memory\>"],
        ["size=8,feedback=error,seed=1", "not started", "0 of 30", ""],
    ]
    assert "out of &lt;memory&gt;" in text
    _, first, *baselines = rows(markdown, "Evaluation: digits")
    assert first[:5] == ["4", "error", "1", "0.500 ± 0.010", "-"], "of one seed: the interval over its lifetimes"
    assert len(baselines) == 2
    Page(text)


def test_one_run(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    markdown, text = written(tmp_path / "run")
    assert markdown.startswith("# run\n")
    assert rows(markdown, "Evaluation: digits")[1][:3] == ["run", "1", "0.500 ± 0.010"]
    assert "**" not in markdown, "nothing is the best of one"
    assert "By axis" not in markdown
    assert "How the configs differ" not in markdown
    Page(text)


def test_a_run_that_is_under_way_shows_how_it_generalises(tmp_path: Path):
    write_run(tmp_path / "run", None)
    markdown, _ = written(tmp_path / "run")
    assert "Evaluation:" not in markdown
    assert "digits: held-out cumulative accuracy over meta-steps, in 4 lifetimes" in markdown
    assert (tmp_path / "run" / "report" / "held_out_digits.svg").exists()


def test_a_run_that_has_only_begun(tmp_path: Path):
    write_run(tmp_path / "run", None)
    (tmp_path / "run" / "evaluations.jsonl").unlink()
    (tmp_path / "run" / "metrics.jsonl").unlink()
    markdown, _ = written(tmp_path / "run")
    assert rows(markdown, "Not finished")[1] == ["run", "unfinished", "0", ""]


def test_numbers_that_are_not_finite(tmp_path: Path):
    write_run(tmp_path / "run", 0.5)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    summary["evaluations"]["digits"]["loss"] = {"mean": None, "std": None, "interval95": None}
    path.write_text(json.dumps(summary))
    entries = (tmp_path / "run" / "metrics.jsonl").read_text().replace('"loss": 2.1', '"loss": null, "was": 2.1')
    (tmp_path / "run" / "metrics.jsonl").write_text(entries)
    assert "not finite" in written(tmp_path / "run")[0]


def change(path: Path, file: str, **changes: Any) -> None:
    content = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(content | changes))


def note_history(path: Path, swap: int | None = None, data: str = "a") -> None:
    """What a run went through: a schedule that was exchanged after so many meta-steps, or nothing."""
    machine = {"vsml": "1.0", "packages": {"jax": "0.10"}, "devices_used": 1, "device_kind": "cpu", "processes": 1}
    start = {"step": 0, "changes": [], "data": {"": data}, "environment": machine}
    changed = {"key": "train.optimizer.decay_steps", "old": swap, "new": 30, "schedule": True}
    entries = [start] if swap is None else [start, start | {"step": swap, "changes": [changed]}]
    (path / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("unlike", ["length", "settings", "schedule", "data"])
def test_points_that_are_unlike_in_what_no_axis_varies_are_never_compared(tmp_path: Path, unlike: str):
    write_sweep(tmp_path, ACCURACIES | {("8", "error"): [0.7, 0.72, 0.99]})
    name = "size=8,feedback=error,seed=2"
    runs = {path.parent.name: path.parent for path in tmp_path.glob("*/config.json")}
    for run in runs.values():
        note_history(run, 20 if unlike == "schedule" and run.name == name else None)
    reason = {
        "length": "it ended after 20 meta-steps, not 30",
        "settings": "it was trained with other settings than the sweep's",
        "schedule": "its schedule is not that of the others: after 20 meta-steps train.optimizer.decay_steps: 20 -> 30",
        "data": "it was trained on other data than others with the same tasks",
    }[unlike]
    if unlike == "length":
        change(runs[name], "summary.json", meta_steps=20)
    if unlike == "settings":
        points = json.loads((tmp_path / "sweep.json").read_text())["points"]
        change(tmp_path, "sweep.json", points=[point | {"settings": "asked for"} for point in points])
        for run in runs.values():
            change(run, "config.json", settings="other" if run.name == name else "asked for")
    if unlike == "data":
        note_history(runs[name], data="b")
    markdown = written(tmp_path)[0].replace("\\", "")
    assert rows(markdown, "Not compared") == [["run", "reason"], [name, reason]]
    found = rows(markdown, "Evaluation: digits")
    assert found[3][:5] == ["8", "error", "2", "**0.710 ± 0.127**", "0.005"]
    assert "0.99" not in markdown
    assert rows(markdown, "Meta-training")[3][2] == "2"


def test_what_an_axis_varies_is_compared(tmp_path: Path):
    write_sweep(tmp_path, ACCURACIES)
    for path in tmp_path.glob("*/config.json"):
        note_history(path.parent, 20)
        axis = path.parent.name.partition(",seed")[0]
        config = json.loads(path.read_text())
        change(path.parent, "config.json", train=config["train"] | {"tasks": axis})
        note_history(path.parent, 20, data=axis)
    markdown, _ = written(tmp_path)
    assert "Not compared" not in markdown
    assert "## History" in markdown


@pytest.mark.parametrize("size", [0, 100, 700])
def test_a_truncated_file_of_curves_is_named_and_the_rest_is_shown(tmp_path: Path, size: int):
    write_sweep(tmp_path, ACCURACIES)
    whole = written(tmp_path)[0]
    path = tmp_path / "size=4,feedback=error,seed=1" / "evaluations" / "digits.npz"
    path.write_bytes(path.read_bytes()[:size])
    markdown = written(tmp_path)[0]
    assert rows(markdown.replace("\\", ""), "Damaged files")[1] == [
        "size=4,feedback=error,seed=1",
        "evaluations/digits.npz cannot be read",
    ]
    assert rows(markdown, "Evaluation: digits") == rows(whole, "Evaluation: digits")
    (path.parents[1] / "summary.json").write_text('{"meta_steps"')
    assert f"{path}: damaged, left out" in report(tmp_path).splitlines()
    assert "summary.json cannot be read" in (tmp_path / "report" / "report.md").read_text().replace("\\", "")


def test_no_run_and_no_sweep(tmp_path: Path):
    with pytest.raises(UserError, match=r"neither sweep\.json nor config\.json is in it"):
        read_results(tmp_path)


def test_the_command(tmp_path: Path, capfd):
    write_run(tmp_path / "run", 0.5)
    outcome = call(capfd, "report", tmp_path / "run")
    assert outcome.code == 0
    assert [Path(line).name for line in outcome.out.splitlines()] == ["report.md", "report.html"]
    assert call(capfd, "report").last_line.startswith("vsml: report needs the directory of a run or a sweep")


def test_compare(tmp_path: Path, capfd):
    write_run(tmp_path / "a", 0.5, size=4)
    write_run(tmp_path / "b", 0.6, size=8, seed=1)
    write_run(tmp_path / "c", None, size=4)
    outcome = call(capfd, "compare", tmp_path / "a", tmp_path / "b")
    assert outcome.code == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[1:3] == [["train.learner.size", "4", "8"], ["train.seed", "0", "1"]]
    assert ["digits:", "cumulative", "accuracy", "0.500", "±", "0.010", "0.600", "±", "0.010"] in lines
    assert ["meta-training", "loss", "1.800", "1.700"] in lines
    outcome = call(capfd, "compare", tmp_path / "a", tmp_path / "c")
    assert outcome.out.startswith("config: no difference\n")
    assert ["state", "finished", "unfinished"] in [line.split() for line in outcome.out.splitlines()]
    assert "no config.json in it" in call(capfd, "compare", tmp_path / "a", tmp_path).last_line
    assert "compare needs the directories of two runs" in call(capfd, "compare", tmp_path / "a").last_line
