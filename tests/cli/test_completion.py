"""What a shell offers when Tab is pressed, and that the shells take it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import call

from vsml import pretrained
from vsml.cli import completion
from vsml.cli.completion import complete
from vsml.config import parts

BREAKS = " \t\n\"'@><=;|&(:"
"""COMP_WORDBREAKS of bash."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that knows the parts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        complete(["zsh", "vsml parts "])
    assert (folder / "vsml" / "names.json").is_file()
    return folder


@pytest.fixture(autouse=True)
def here(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run, a sweep, an exported file and gin files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    for run in ("runs/first", "runs/my_sweep/seed=0"):
        Path(run).mkdir(parents=True)
        Path(run, "config.json").write_text("{}")
        Path(run, "config.gin").write_text("MINE = 3\nother/tasks.Classification.length = 7\n")
    Path("runs/my_sweep/sweep.json").write_text("{}")
    Path("runs/.hidden").mkdir()
    for file in ("mine.gin", "learned.npz", "notes.txt"):
        Path(file).touch()
    return tmp_path


def offered(line: str) -> list[str]:
    return complete(["zsh", line]).splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vsml tr", ["train "]),
        ("vsml co", ["compare ", "completion "]),
        ("/some/where/vsml   tr", ["train "]),
        ("vsml trian ", []),
        ("vsml train --de", ["--devices "]),
        ("vsml export --", ["--checkpoint ", "--help "]),
        ("vsml sweep x.gin --launcher ", ["local ", "slurm ", "xm "]),
        ("vsml sweep x.gin --launcher=s", ["--launcher=slurm "]),
        ("vsml eval runs/first --checkpoint b", ["best "]),
        ("vsml train quickstart --run_dir r", ["runs/"]),
        ("vsml eval runs/first --on tasks/w", ["tasks/wine.gin "]),
        ("vsml train recipes/q", ["recipes/quickstart.gin "]),
        ("vsml train m", ["mine.gin "]),
        ("vsml train --dry_run m", ["mine.gin "]),
        ("vsml train --run_dir runs/x m", ["mine.gin "]),
        ("vsml train quickstart cells/gr", ["cells/gru.gin "]),
        ("vsml train quickstart m", ["meta_optimizers/", "meta_optimizers.", "mine.gin "]),
        ("vsml train quickstart STE", ["STEPS="]),
        ("vsml train quickstart cells.", [f"{part.name}." for part in parts("cells")]),
        ("vsml train quickstart cells.LSTM.s", ["cells.LSTM.size="]),
        ("vsml train quickstart mine.gin cells.LSTM.s", ["cells.LSTM.size="]),
        ("vsml train quickstart optax.adam.learning_r", ["optax.adam.learning_rate="]),
        ("vsml train quickstart train.parallel=", ["train.parallel=pmap ", "train.parallel=shard_map "]),
        ("vsml train quickstart CELL=@cells.L", ["CELL=@cells.LSTM "]),
        ("vsml train quickstart projected/tasks.", ["projected/tasks.HeldOut."]),
        ("vsml eval runs/first MI", ["MINE="]),
        ("vsml eval runs/first other/tasks.Classification.l", ["other/tasks.Classification.length="]),
        ("vsml eval ", ["learned.npz ", *(f"pretrained:{name} " for name in pretrained.names()), "runs/"]),
        ("vsml eval runs/", ["runs/first ", "runs/my_sweep/"]),
        ("vsml eval runs/my_sweep/", ["runs/my_sweep/seed=0 "]),
        ("vsml report runs/", ["runs/first ", "runs/my_sweep "]),
        ("vsml compare runs/first runs/f", ["runs/first "]),
        ("vsml compare runs/first runs/first ", []),
        ("vsml parts cells.LS", ["cells.LSTM "]),
        ("vsml parts cell", ["cells ", "cells."]),
        ("vsml recipes ", []),
        ("vsml completion f", ["fish "]),
    ],
)
def test_what_may_come_next(line: str, expected: list[str]):
    assert sorted(offered(line)) == sorted(expected)


def test_every_field_of_every_part_is_offered():
    for part in parts():
        assert set(offered(f"vsml train quickstart {part.name}.")) == {f"{part.name}.{name}=" for name in part.fields}


def test_meanings_are_shown_where_a_shell_can():
    (line,) = complete(["fish", "vsml train quickstart cells.LSTM.s"]).splitlines()
    assert line.startswith("cells.LSTM.size=\tN, the number of hidden units")


def test_bash_gets_what_follows_its_last_break():
    assert complete(["bash", "vsml train quickstart CELL=@cells.L", BREAKS]) == "@cells.LSTM \n"
    assert complete(["bash", "vsml eval runs/my_sweep/seed=", BREAKS]) == "0 \n"
    assert complete(["bash", "vsml train quickstart STE", BREAKS]) == "STEPS=\n"


def test_names_are_kept_until_a_source_file_changes(cache: Path, monkeypatch: pytest.MonkeyPatch):
    kept = cache / "vsml" / "names.json"
    content = json.loads(kept.read_text())
    monkeypatch.setattr(completion, "_catalogue", lambda: pytest.fail("the catalogue was asked"))
    assert offered("vsml parts cells.LS") == ["cells.LSTM "]
    monkeypatch.setattr(completion, "_catalogue", lambda: [("cells.New", {"summary": "", "fields": {}})])
    for stale in (json.dumps({**content, "of": "an older version"}), "{", "[]"):
        kept.write_text(stale)
        assert offered("vsml parts cells.") == ["cells.New "]
    kept.write_text(json.dumps(content))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert offered("vsml parts cells.LS") == ["cells.LSTM "]


def test_nothing_heavy_is_imported(cache: Path):
    program = (
        "import sys; from vsml.cli import main; main(['__complete', 'bash', 'vsml train quickstart cells.LSTM.s']); "
        "print([name for name in ('jax', 'numpy', 'absl', 'gin') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "cells.LSTM.size=\n[]\n"


def test_an_unknown_shell_ends_in_one_line(capfd: pytest.CaptureFixture[str]):
    expected = "vsml: completion tcsh: the shells are bash, zsh, fish\n"
    assert call(capfd, "completion", "tcsh").err == expected
    assert "completion needs the name of a shell" in call(capfd, "completion").err


ASK = {
    "bash": """
        source script; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(vsml); _vsml
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{}}; compadd() {{ [[ $1 == -S ]] && shift 2; shift; (( $# )) && print -l -- "$@" }}
        source ./script; words=({line}); CURRENT=$#words; _vsml
    """,
    "fish": "source script; complete -C '{line}' | string replace -r '\\t.*' ''",
}


@pytest.mark.parametrize("shell", list(completion.SCRIPTS))
def test_a_shell_takes_it(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("HOME", str(here))
    (here / "script").write_text(call(capfd, "completion", shell).out)
    (here / "vsml").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vsml "$@"\n')
    (here / "vsml").chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(Path(completion.__file__).parents[2]))
    for line, expected in {
        "vsml co": {"compare", "completion"},
        "vsml train quickstart cells.LSTM.s": {"cells.LSTM.size="},
        "vsml eval runs/": {"runs/first", "runs/my_sweep/"},
    }.items():
        done = subprocess.run([shell, "-c", ASK[shell].format(line=line)], capture_output=True, text=True)
        assert {word.strip() for word in done.stdout.splitlines()} == expected, done.stderr
