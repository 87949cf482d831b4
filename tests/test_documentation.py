"""What README and docs show is run as it stands there, on a small scale: commands, Python, gin files.

Every block of code and every command in a sentence is found; what is not run is listed with its reason, and whatever
is neither fails.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import TINY, call

from vsml import cli, pretrained
from vsml import config as configs
from vsml import sweep as sweeps
from vsml.runs import sources
from vsml.runs.results import read_results
from vsml.sweep.runs import record
from vsml.training.meta_test import _config

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))

SMALL = (*TINY[1:], "evaluators.OnlineAccuracy.interim_lifetimes=2")
"""What stands right after the recipe: what a page sets itself comes later and wins."""
SHORT = ("STEPS=2", "POPULATION=4", "LENGTH=5")
"""What stands at the end."""
ONE_RUN = ("axes.SEED=[0]",)

NOT_RUN = {
    "make train": "tests/test_packaging.py: it is the quickstart at full length",
    "make test": "this is it",
    "make test-slow": "this is it",
    "make lint": "the check beside the tests",
    "make results": "takes hours; tests/test_results.py makes every page on the smallest scale",
    "make scoreboard": "takes an hour; the slow test of the page headline evaluates a slice",
    "make bench": "takes a quarter of an hour; tests/test_benchmarks.py runs its cases",
    "source .venv/bin/activate": "of Python's venv",
    'eval "$(vsml completion': "of a shell; tests/cli/test_completion.py",
    "tensorboard": "a server; tests/training/test_writers.py reads what it would show",
    "docs/screenshots.py": "needs a browser; a slow test of its own runs it",
    "launch/local.py": "tests/training/test_distributed.py starts it",
    "--distributed": "one of several processes; tests/training/test_distributed.py",
    "--launcher": "needs a cluster; tests/launch/test_launchers.py",
    "pip install": "needs a network",
    "recipes/small/improve_clone.gin": "needs a clone: tests/test_results.py makes one and goes on from it",
    "--on tasks/mnist.gin": "needs MNIST: test_transfer",
    "--on tasks/kmnist.gin": "needs KMNIST: test_transfer",
}
"""A part of a command, and why it is not run here."""
PLACEHOLDER = re.compile(
    r"\.\.\.|\b(RUN_DIR|RUN|DIR|FILE|RECIPE|OTHER|VERB|N|I)\b"
    r"|^vsml (train|eval|introspect|sweep|report|compare|export|matrix)$"
)
"""In a sentence: the form of a command, or its name alone."""
SHOWN = {
    "cumulative           final": "what `make train` prints: test_the_table_looks_like_that",
    "recipe                  str    as given": "keys of summary.json: tests/runs/test_run_directory.py",
    "step 310/700": "the line of a run: tests/training/test_display.py",
    "step         int   meta-steps that were done": "keys of history.jsonl: tests/runs/test_history.py",
    "data                  str    as in": "keys of summary.json: tests/tasks/test_held_out.py",
    "examples              int    of one lifetime": "keys of summary.json",
}
"""How a block begins that is neither code nor commands."""
OWN_CELL = """
from dataclasses import dataclass
from vsml.cells import LSTM

@dataclass(frozen=True)
class MyCell(LSTM):
    pass
"""
COMMAND = re.compile(
    r"(\w+=\S+ |eval \"\$\()?(\.venv/bin/)?(vsml|make|python|pip|tensorboard|launch/\S+|source|git)( |$)"
)


@dataclass(frozen=True)
class Block:
    """A block between two fences."""

    page: str
    text: str
    language: str = ""
    named: str = ""  # the file that a page of parts says it is

    @property
    def kind(self) -> str:
        lines = [line for line in self.text.splitlines() if line.strip()]
        if self.named:
            return "file"
        if all(COMMAND.match(line) for line in lines):
            return "commands"
        if any(self.text.lstrip().startswith(start) for start in SHOWN):
            return "shown"
        if "axes." in self.text:
            return "sweep"
        if re.search(r"^include |^[A-Z]+ = ", self.text, flags=re.MULTILINE):
            return "gin"
        return self.language or "unknown"


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    found = re.finditer(
        r"(`(?P<name>\w+\.(?:py|gin))`[^`]*?:\n\n)?```(?P<language>\w*)\n(?P<text>.*?)```", text, flags=re.DOTALL
    )
    return [Block(page, match["text"], match["language"], match["name"] or "") for match in found]


def commands(page: str) -> Iterator[str]:
    """In the order of the page, without comments: those of blocks, and those in sentences."""
    text = (ROOT / page).read_text()
    for match in re.finditer(r"```\w*\n(?P<block>.*?)```|`(?P<inline>[^`\n]+)`", text, flags=re.DOTALL):
        if match["inline"] is not None:
            if COMMAND.match(match["inline"]) and " " in match["inline"] and not PLACEHOLDER.search(match["inline"]):
                yield match["inline"]
            continue
        if Block(page, match["block"]).kind == "commands":
            for line in match["block"].splitlines():
                if line.strip():
                    yield re.sub(r"\s+#.*$|^eval \"\$\(|\)\"|\| source", "", line).strip()


@pytest.fixture(scope="module")
def trained(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of the quickstart."""
    directory = tmp_path_factory.mktemp("documented") / "quickstart"
    tiny = [word for word in TINY if "HeldOut" not in word]
    more = ("TEST_LENGTH=10", "STEPS=2", "train.checkpoint_every=1", "evaluators.OnlineAccuracy.lifetimes=2")
    assert cli.main(["train", *tiny, *more, "--run_dir", str(directory)]) == 0
    return directory


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of someone who has followed the README so far."""
    for name in ("quickstart", "wide"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    rows = np.random.default_rng(0).normal(size=(160, 3)).round(3)
    lines = [f"{a},{b},{c},{i % 2}" for i, (a, b, c) in enumerate(rows)]
    (tmp_path / "mine.csv").write_text("\n".join(["a,b,c,kind", *lines]))
    for name in ("docs", "launch"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith("my_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write_files(page: str, folder: Path) -> None:
    """The files that a page shows."""
    for block in blocks(page):
        name = block.named or {"sweep": "my_sweep.gin"}.get(block.kind)
        if name:
            (folder / name).write_text(block.text)


def small(command: str, dry: bool) -> list[str]:
    """The words of a `vsml` command, shortened: trained for two steps, or only built."""
    words = shlex.split(command.replace("@300", "@1").replace("--checkpoint 300", "--checkpoint 1"))[1:]
    flag = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    if words[0] == "train":
        words = [*words[:2], *SMALL, *words[2:flag], *SHORT, *words[flag:]]
        if dry and "--dry_run" not in words:
            words.append("--dry_run")
    elif words[0] == "eval":
        words = [re.sub(r"LENGTH=\d+", "LENGTH=20", word) for word in words]
    elif words[0] == "sweep" and "--list" not in words:
        if dry or words[1].startswith("sweeps/"):  # tests/sweep/test_shipped.py runs those
            jobs = words.index("--jobs") if "--jobs" in words else len(words)
            words = [*words[:jobs], *words[jobs + 2 :], "--list"]
        else:
            taken = {word.partition("=")[0] for word in words} | set(
                re.findall(r"axes\.(\S+)", Path(words[1]).read_text())
            )
            short = [word for word in (*SMALL[1:], "STEPS=2") if word.partition("=")[0] not in taken]
            words = [*words[:flag], *short, *(ONE_RUN if "axes.SEED" not in taken else ()), *words[flag:]]
    return words


def stand_in(words: list[str], trained: Path, dry: bool) -> None:
    """Leaves behind what a sweep would, with the same run for every point."""
    cut = next(index for index, word in enumerate(words) if word.startswith("--"))
    sweep = sweeps.load(words[1], words[2:cut])
    chosen = words[words.index("--sweep_dir") + 1] if "--sweep_dir" in words else f"runs/{Path(words[1]).stem}"
    record(sweep, Path(chosen))
    if not dry and sweep.recipe.startswith("recipes/remember/"):  # whose evaluators refuse a classifier
        trained = Path("runs", Path(sweep.recipe).stem)
        if not trained.exists():
            assert cli.main(["train", sweep.recipe, "STEPS=1", "EVALUATORS=[]", "--run_dir", str(trained)]) == 0
    for point in sweep.points[:9]:
        if not point.run_directory(Path(chosen)).exists():
            shutil.copytree(trained, point.run_directory(Path(chosen)))


def run(command: str, dry: bool, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if command.startswith("launch/tpu_pod.sh"):
        words = shlex.split(command.replace(" --tpu", " --dry_run --tpu"))
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return
    if command.startswith("python launch/slurm.py"):
        if importlib.util.find_spec("submitit") is None:  # of the extra slurm
            return
        words = [sys.executable, *shlex.split(command)[1:], *([] if "--print" in command else ["--print"])]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return
    assert command.removeprefix(".venv/bin/").startswith("vsml "), f"neither run nor listed: {command}"
    words = small(command, dry)
    if words[0] == "train" and not dry and "--dry_run" not in words:
        words += [] if "--run_dir" in words else ["--run_dir", f"runs/{abs(hash(command))}"]
    if dry and words[0] in ("eval", "introspect"):
        looked_into = ["evaluators/introspection.gin"] if words[0] == "introspect" else []
        path, overrides = pretrained.path_of(words[1]), [*looked_into, *(word for word in words[2:] if word != "--on")]
        _config(path, sources.of_path(path), overrides).build()
        return
    if dry and words[0] == "report":
        read_results(Path(words[1]))
        return
    outcome = call(capfd, *words)
    assert outcome.code == 0, f"{command}\n{outcome.err}"
    if words[0] == "sweep" and (dry or words[1].startswith("sweeps/")):
        stand_in(words, trained, dry)


def follow(page: str, dry: bool, trained: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Does all that a page says, in its order."""
    write_files(page, here)
    for command in commands(page):
        if not any(part in command for part in NOT_RUN):
            run(command, dry, trained, capfd)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_right(page: str, trained: Path, here: Path, capfd: pytest.CaptureFixture[str]):
    """Runs, sweeps and evaluations are built and no more."""
    follow(page, True, trained, here, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, trained: Path, here: Path, capfd: pytest.CaptureFixture[str]):
    """Runs and sweeps take two steps."""
    shutil.rmtree("runs/wide")
    follow(page, False, trained, here, capfd)


def test_nothing_is_listed_that_is_not_there():
    said = "\n".join(command for page in PAGES for command in commands(page))
    assert [part for part in NOT_RUN if part not in said] == []
    shown = [block.text.lstrip() for page in PAGES for block in blocks(page) if block.kind == "shown"]
    assert len(shown) == len(SHOWN)


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page: str, here: Path, capfd: pytest.CaptureFixture[str]):
    """The blocks of a page that are no files, one after the other."""
    kinds = {block.kind for block in blocks(page)}
    assert kinds <= {"commands", "file", "gin", "python", "shown", "sweep"}, "neither run nor listed"
    code = [block.text for block in blocks(page) if block.kind == "python"]
    exec(compile("\n".join(code), page, "exec"), {"__name__": "__main__"})
    if page == "README.md":
        assert len(code) == 4
        assert 0 <= float(capfd.readouterr().out.split()[-1]) <= 1


@pytest.mark.parametrize("page", PAGES)
def test_gin_files_are_right(page: str, here: Path):
    """Each is built as a recipe, or on top of the quickstart; so are sweeps, in the test of commands."""
    for block in blocks(page):
        if block.kind == "gin":
            (here / "shown.gin").write_text(block.text)
            (here / "my_cells.py").write_text(OWN_CELL)
            whole = "include" in block.text
            config = configs.load("shown.gin") if whole else configs.load("recipes/quickstart.gin", ["shown.gin"])
            assert config.build().steps > 1


def test_the_table_looks_like_that(trained: Path, capfd: pytest.CaptureFixture[str]):
    """The README shows what the command line prints."""
    (shown,) = [block.text.splitlines() for block in blocks("README.md") if block.kind == "shown"]
    outcome = call(capfd, "train", str(trained / "config.gin"), "--run_dir", trained)
    printed = outcome.out.splitlines()
    assert outcome.code == 0, outcome.err
    heads = [re.sub(r"\d+", "#", " ".join(line.split())) for line in printed]
    same = ("cumulative", "accuracy", "digits_projected:", "digits_plain:", "Mean over", "Predictions made")
    for line in shown:
        if line.strip().startswith(same):
            assert re.sub(r"\d+", "#", " ".join(line.split())) in heads


def test_the_picture_is_drawn(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """From curves of the shape of the quickstart's; a run without baselines is one line."""
    picture = runpy.run_path(str(ROOT / "docs" / "quickstart_picture.py"))
    monkeypatch.setattr(sys, "argv", ["quickstart_picture.py", "runs/quickstart", "--out", "new/picture.svg"])
    assert picture["main"]() == 2
    assert "has no best_sgd_correct: evaluate it with its baselines" in capfd.readouterr().err
    for name in picture["TITLES"]:
        correct = np.random.default_rng(0).uniform(size=(4, 60)) < np.linspace(0.1, 0.9, 60)
        curves: dict[str, Any] = dict.fromkeys(picture["LINES"], correct)
        np.savez(here / f"runs/quickstart/evaluations/{name}.npz", **curves)
    assert picture["main"]() == 0
    assert "</svg>" in Path("new/picture.svg").read_text()
    assert (ROOT / "docs" / "quickstart.svg").stat().st_size < 100_000


@pytest.mark.parametrize("data", ["mnist", "kmnist"])
def test_transfer(data: str, data_dir: Path, here: Path, capfd: pytest.CaptureFixture[str]):
    words = ["TEST_LENGTH=10", "evaluators.OnlineAccuracy.baselines=None", "evaluators.OnlineAccuracy.lifetimes=2"]
    outcome = call(capfd, "eval", "runs/quickstart", "--on", f"tasks/{data}.gin", *words)
    assert outcome.code == 0, outcome.err
    assert f"{data}_plain: 2 lifetimes" in outcome.out
    assert f"{data}_projected: 2 lifetimes" in outcome.out
