"""Generated mistakes: mutations of shipped gin files, of command lines and of what finished runs hold.

Every one of them works or ends in one line; none ends in a traceback, hangs, or costs anything that was saved. A part
of them is always tested, 300 are by `make test-slow`.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from runs import TINY, Outcome, call, train

from vsml import sweep as sweeps
from vsml.config import gin_root
from vsml.runs.files import write_whole
from vsml.sweep.runs import record

pytestmark = pytest.mark.usefixtures("compiled")

PATIENCE = 120
"""Seconds after which a command hangs."""
VALUES = (
    *("0", "-1", "1", "2", "3.0", "-0.0", ".5", "1_0", "0x10", "1j", "1e300", "-1e300", "1e-300", "1e999"),
    *(
        "99999999999",
        "-99999999999",
        "9223372036854775808",
        "None",
        "True",
        "word",
        "two words",
        "'word'",
        "''",
        "b'x'",
    ),
    *(
        "[]",
        "[0]",
        "[-1]",
        "[1, 'a']",
        "[[1]]",
        "()",
        "{}",
        "{'a': 1}",
        "{1: []}",
        "(",
        "]",
        "'",
        '"""a',
        "\\",
        "#",
        "=",
    ),
    *("@cells.LSTM()", "@cells.LSTM", "@optax.adam()", "@a/b/cells.GRU()", "@nothing.There()", "@train()", "@", "@()"),
    *("%STEPS", "%NOTHING", "%gin.REQUIRED", "%", "%a/b", "lambda: 1", "\x00", "\ud800", "é", "\n", "a\nSEED=1", " "),
    *(
        "../x",
        "/",
        "cells/gru.gin",
        "x.gin",
        "tasks/iris.gin",
        "axes.SEED=[0]",
        "sweep.tags",
        "import os",
        "include 'a'",
    ),
)
KEYS = (
    *("STEPS", "SEED", "LENGTH", "POPULATION", "LEARNING_RATE", "LEARNER", "TASKS", "CELL", "OPTIMIZER", "EVALUATORS"),
    *("train.steps", "train.log_every", "train.profile_steps", "train.start_from", "train.evaluators", "train.nothing"),
    *(
        "cells.LSTM.size",
        "cells.LSTM",
        "cells",
        "a/cells.LSTM.size",
        "learners.VSML.hidden",
        "learners.VSML.micro_ticks",
    ),
    *("learners.VSML.output_bound", "learners.VSML.message_size", "learners.VSML.sparsity", "learners.VSML.cell"),
    *("tasks.Classification.transforms", "tasks.Classification.batch", "tasks.Classification.num_tasks"),
    *("sources.Digits.split", "plain/tasks.Classification.source", "evaluators.OnlineAccuracy.lifetimes"),
    *("evaluators.OnlineAccuracy.name", "evaluators.OnlineAccuracy.headline", "meta_optimizers.BPTT.chunk"),
    *("meta_optimizers.BPTT.clip", "optax.adam.learning_rate", "optax.adam.b1", "optax.clip_by_global_norm.max_norm"),
    *("transforms.RandomProjection.probability", "", "1", "é", "a b", "axes.SEED", "sweep.zip", "step s"),
)
FILES = [path.relative_to(gin_root()).as_posix() for path in sorted(gin_root().rglob("*.gin"))]
RECIPE = "recipes/quickstart.gin"
SMALL = ("STEPS=2", *TINY[2:], "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]")


def generated(quick: int, all_of_them: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Runs a test that asks for a `case` on so many of them, and on all in a slow one."""

    def decorate(test: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("count", [quick, pytest.param(all_of_them, marks=pytest.mark.slow)])
        def run(count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch, request) -> None:
            monkeypatch.chdir(tmp_path)

            # Looking for a smaller example of what fails would take as long as all of them.
            @settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate])
            @given(**strategies)
            def each(**case: Any) -> None:
                shutil.rmtree(tmp_path)
                tmp_path.mkdir()
                monkeypatch.chdir(tmp_path)
                test(capfd=capfd, here=tmp_path, request=request, **case)

            each()

        run.__doc__ = test.__doc__
        return run

    return decorate


@contextmanager
def patience() -> Iterator[None]:
    """Ends what hangs."""

    def end(number: int, frame: Any) -> None:
        raise TimeoutError(f"no end after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _pooch_writes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log handler keeps the standard error of the test that imported it first, which pytest has closed by now."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


def works_or_one_line(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    with patience(), jax.numpy_rank_promotion("allow"):  # as for users: evosax needs it
        outcome = call(capfd, *arguments)
    assert "Traceback" not in outcome.err
    if outcome.code != 0:
        assert outcome.code == 2, outcome
        assert outcome.err.count("vsml: ") == 1, outcome.err
        assert outcome.last_line.startswith("vsml: "), outcome.err
        assert len(outcome.last_line) > len("vsml: ")
    return outcome


# Gin files.


@st.composite
def gin_texts(draw: st.DrawFn) -> str:
    """A shipped file below the recipe, or the recipe itself, with up to three mistakes."""
    lines = (gin_root() / draw(st.sampled_from([RECIPE, *FILES]))).read_text().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, value = lines[at].partition(" = ")
        kind = draw(st.sampled_from(("value", "key", "cut", "character", "drop", "twice", "line", "elsewhere")))
        if kind == "value":
            lines[at] = f"{key} = {draw(st.sampled_from(VALUES))}"
        elif kind == "key":
            lines[at] = f"{draw(st.sampled_from(KEYS))} = {value if equals else draw(st.sampled_from(VALUES))}"
        elif kind == "cut":
            lines[at] = lines[at][: draw(st.integers(0, 40))]
        elif kind == "character":
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + draw(st.characters()) + lines[at][place + 1 :]
        elif kind == "drop":
            lines[at] = ""
        elif kind == "twice":
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == "line":
            lines.insert(at, draw(st.sampled_from(VALUES)))
        else:
            lines.insert(at, f"{draw(st.sampled_from(KEYS))} = {draw(st.sampled_from(VALUES))}")
    return "\n".join(lines) + "\n"


@generated(20, 100, text=gin_texts(), alone=st.booleans())
def test_gin_files(text: str, alone: bool, here: Path, capfd: pytest.CaptureFixture[str], request) -> None:
    """A mutated file as the recipe, or on top of the quickstart."""
    (here / "mine.gin").write_bytes(text.encode(errors="surrogatepass"))
    files = ["mine.gin"] if alone else [RECIPE, "mine.gin"]
    works_or_one_line(capfd, "train", *files, "--dry_run", *(() if alone else SMALL))
    assert [path.name for path in here.iterdir()] == ["mine.gin"]


# Command lines.


COMMANDS = (
    ("train", RECIPE, *SMALL, "--devices", "1"),
    ("train", RECIPE, "learners/meta_rnn.gin", "LENGTH=5", "--gin_bindings", "SEED = 1", "--gin_file", "cells/gru.gin"),
    ("eval", "run", "--checkpoint", "best", "evaluators.OnlineAccuracy.lifetimes=2"),
    ("export", "run", "out.npz", "--checkpoint", "1"),
    ("sweep", "sweeps/sizes.gin", "STEPS=2", "axes.SEED=[0, 1]", "--sweep_dir", "there"),
    ("report", "run"),
    ("compare", "run", "other"),
    ("matrix", RECIPE, "cells.LSTM.size=2", "--out", "matrix.png", "--backward_pass"),
    ("parts", "cells.LSTM"),
    ("recipes",),
)
WORDS = (
    *("--devices", "--run_dir", "--checkpoint", "--nothing", "--", "-", "-x", "--devices=1", "--devices=a", "--index"),
    *(
        "--jobs=0",
        "--jobs",
        "--launcher=none",
        "--out=x/y",
        "--coordinator=a",
        "--num_processes=2",
        "--process_index=0",
    ),
    *("", " ", "run", "nowhere", "x.npz", "train", "eval", "quickstart", "--gin_file", "--gin_bindings=", "newest"),
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    verb, *words = draw(st.sampled_from(COMMANDS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(words)))
        kind = draw(st.sampled_from(("value", "override", "word", "drop", "swap", "text", "verb")))
        if kind == "value" and at < len(words) and "=" in words[at]:
            words[at] = f"{words[at].partition('=')[0]}={draw(st.sampled_from(VALUES))}"
        elif kind in ("value", "override"):
            words.insert(at, f"{draw(st.sampled_from(KEYS))}={draw(st.sampled_from(VALUES))}")
        elif kind == "word":
            words.insert(at, draw(st.sampled_from(WORDS)))
        elif kind == "drop" and at < len(words):
            words.pop(at)
        elif kind == "swap" and len(words) > 1:
            words[at % len(words)], words[0] = words[0], words[at % len(words)]
        elif kind == "text":
            words.insert(at, draw(st.text(max_size=8)))
        else:
            verb = draw(st.sampled_from(("train", "eval", "export", "sweep", "report", "compare", "matrix", "parts")))
    # Nothing is really trained, nor run many times over.
    return [verb, *({"train": ["--dry_run"], "sweep": ["--list"]}.get(verb, [])), *words]


@generated(20, 100, words=command_lines())
def test_command_lines(words: list[str], here: Path, capfd: pytest.CaptureFixture[str], request) -> None:
    works_or_one_line(capfd, *words)
    if words[0] != "matrix":
        assert not list(here.iterdir())


# What runs leave.


@pytest.fixture(scope="module")
def finished(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and a sweep of two points which are copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    often = ("train.log_every=1", "train.checkpoint_every=1", "train.evaluate_every=1")
    train(folder / "run", *SMALL, *often, "STEPS=2", "--devices", "1")
    file = folder / "two.gin"
    file.write_text(f'include "{RECIPE}"\naxes.SEED = [0, 1]\n')
    sweep = sweeps.load(str(file), [*TINY[1:], *SMALL, *often, "STEPS=2"])
    record(sweep, folder / "sweep")
    for point in sweep.points:
        directory = Path(shutil.copytree(folder / "run", point.run_directory(folder / "sweep")))
        write_whole(directory / "point.json", json.dumps({"hyperparameters": {"SEED": point.labels["seed"]}}))
    return folder


JSON = ("null", "7", "-1", "1e999", '"x"', "[]", "[1]", "{}", '{"a": 1}', "true", "99999999999999999999", '""', "[[]]")


@st.composite
def damages(draw: st.DrawFn) -> Callable[[Path, list[Path]], str]:
    """What happens to one file of several."""
    which, kind = (
        draw(st.integers(0, 10_000)),
        draw(st.sampled_from(("leaf", "leaf", "name", "whole", "cut", "flip", "gone"))),
    )
    place, content, name = draw(st.integers(0, 10_000)), draw(st.sampled_from(JSON)), draw(st.sampled_from(KEYS))

    def do(root: Path, files: list[Path]) -> str:
        path = files[which % len(files)]
        raw = path.read_bytes()
        if kind == "whole":
            path.write_text(content + "\n")
        elif kind == "gone":
            path.unlink()
        elif kind == "cut":
            path.write_bytes(raw[: place % (len(raw) + 1)])
        elif kind == "flip" or path.suffix not in (".json", ".jsonl"):
            at = place % max(1, len(raw))
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55] if raw else []) + raw[at + 1 :])
        else:
            leaves = list(re.finditer(r"(?<=: )[^\s,{}\[\]]+" if kind == "leaf" else r'"\w+"(?=: )', raw.decode()))
            if not leaves:
                return f"{path.name}: nothing"
            leaf = leaves[place % len(leaves)]
            text = content if kind == "leaf" else json.dumps(name)
            path.write_text(raw.decode()[: leaf.start()] + text + raw.decode()[leaf.end() :])
        return f"{path.relative_to(root)}: {kind}"

    return do


def content(directory: Path) -> dict[str, bytes]:
    """Of all files but reports, by their paths."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and "report" not in path.parts]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def verbs_on(root: Path, sweep: bool, slow: bool) -> list[tuple[str | Path, ...]]:
    run, other = root / "run", root / "other"
    if sweep:
        return [("report", root / "sweep"), ("sweep", root / "two.gin", *TINY[1:], *SMALL, "--list")]
    reading = [("report", run), ("compare", run, other), ("compare", other, run), ("export", run, root / "out.npz")]
    more = [
        ("eval", run),
        ("matrix", run, "--out", root / "matrix.png"),
        ("train", *TINY, *SMALL, "STEPS=3", "train.log_every=1", "--devices", "1", "--run_dir", run),
    ]
    return reading + more if slow else reading


@generated(6, 100, damage=damages(), verb=st.integers(0, 1000), sweep=st.booleans())
def test_run_directories(
    damage, verb: int, sweep: bool, here: Path, capfd: pytest.CaptureFixture[str], request
) -> None:
    folder: Path = request.getfixturevalue("finished")
    shutil.copytree(folder, here, dirs_exist_ok=True)
    shutil.copytree(folder / "run", here / "other")
    damaged = here / ("sweep" if sweep else "run")
    slow = request.node.callspec.params["count"] >= 100
    what = damage(here, [path for path in sorted(damaged.rglob("*")) if path.is_file()])
    verbs = verbs_on(here, sweep, slow)
    before = content(here)
    arguments = verbs[verb % len(verbs)]
    outcome = works_or_one_line(capfd, *arguments)
    after = content(here)
    if outcome.code == 2 or arguments[0] not in ("eval", "train"):
        lost = [name for name in before if after.get(name) != before[name] and "events.out" not in name]
        assert not lost, (what, arguments, outcome.err)
    jax.clear_caches()
