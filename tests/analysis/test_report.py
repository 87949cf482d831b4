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
from runs import call
from runs_on_disk import write_run, write_sweep

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
    body = markdown.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
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


def test_names_that_nobody_knows(tmp_path: Path):
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
    assert "summary.json cannot be read" in written(tmp_path)[0].replace("\\", "")


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
