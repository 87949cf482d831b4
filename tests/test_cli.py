"""The command line: its verbs, its flags, and how it says what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs import NO_EVALUATORS, TINY, call, finish, start

from vsml import __version__
from vsml.cli import usage, verbs
from vsml.config import gin_root

VERBS = ("train", "eval", "introspect", "export", "sweep", "report", "compare", "matrix", "parts", "recipes")
RECIPES = sorted(path.relative_to(gin_root()).as_posix() for path in (gin_root() / "recipes").rglob("*.gin"))


@pytest.mark.parametrize("arguments", [["help"], ["--help"], ["-h"]])
def test_help_shows_every_verb(capfd: pytest.CaptureFixture[str], arguments: list[str]):
    outcome = call(capfd, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    for verb in (*VERBS, "doctor", "completion"):
        assert f"  vsml {verb} " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_no_command_shows_the_usage_and_fails(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd)
    assert outcome.code == 2
    assert outcome.out == call(capfd, "--help").out


@pytest.mark.parametrize("verb", usage.VERBS, ids=lambda verb: verb.name)
def test_help_of_a_verb_shows_that_verb_alone(capfd: pytest.CaptureFixture[str], verb: usage.Verb):
    outcome = call(capfd, verb.name, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == call(capfd, "help", verb.name).out
    sentence, usage_line, *_ = outcome.out.split("\n\n")
    assert sentence.replace("\n", " ") == verb.sentence
    assert usage_line.startswith(f"usage: vsml {verb.name}")
    assert max(map(len, outcome.out.splitlines())) <= 80
    examples = outcome.out.partition("examples:\n")[2].splitlines()
    assert len(examples) == 2
    assert all(f"vsml {verb.name}" in example for example in examples)
    for flag in verb.flags:
        assert len(flag.meaning) > 4
        assert f"\n  --{flag.name} " in outcome.out
    others = {other.name for other in usage.VERBS} - {verb.name}
    assert not [other for other in others if f"\n  vsml {other}" in outcome.out]


def test_help_of_a_verb_lists_its_flags(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "train", "--help")
    assert outcome.code == 0
    flags = {line.split()[0] for line in outcome.out.splitlines() if line.startswith("  --")}
    cluster = {"--distributed", "--coordinator", "--num_processes", "--process_index"}
    assert flags == {"--run_dir", "--devices", "--dry_run", "--gin_file", "--gin_bindings"} | cluster
    assert "--checkpoint WHICH" in call(capfd, "eval", "--help").out


def test_every_verb_that_is_described_does_something():
    assert list(verbs.VERBS) == [verb.name for verb in usage.VERBS]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"], ["recipes"], ["completion", "bash"]])
def test_help_is_there_before_anything_heavy_is_imported(arguments: list[str]):
    heavy = ("jax", "numpy", "optax", "gin", "matplotlib")
    program = (
        f"import sys; from vsml.cli import main; main({arguments}); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


def test_parts_are_listed_without_what_only_a_run_needs():
    heavy = ("orbax", "tensorboardX", "matplotlib", "sklearn", "scipy", "pooch", "vsml.training.trainer")
    program = (
        "import sys; from vsml.cli import main; main(['parts', 'cells.LSTM']); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


def test_version(capfd: pytest.CaptureFixture[str]):
    assert call(capfd, "--version").out == f"{__version__}\n"


def test_recipes_lists_all_that_are_shipped_with_what_they_show(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "recipes")
    assert (outcome.code, outcome.err) == (0, "")
    lines = dict(line.split(": ", 1) for line in outcome.out.splitlines())
    assert sorted(lines) == RECIPES
    assert all(lines.values())


def test_parts_of_one_axis_with_their_fields(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "parts", "cells")
    assert (outcome.code, outcome.err) == (0, "")
    parts = [line.split(":")[0] for line in outcome.out.splitlines() if not line.startswith(" ")]
    assert "cells.LSTM" in parts
    assert all(part.startswith("cells.") for part in parts)
    assert any(line.strip().startswith("size") for line in outcome.out.splitlines())


def test_parts_of_every_axis(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "parts")
    named = {line.split(":")[0] for line in outcome.out.splitlines() if not line.startswith(" ")}
    assert {"learners.VSML", "cells.LSTM", "sources.Digits", "meta_optimizers.ES", "evaluators.Baselines"} <= named


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "'trian' is not a command; did you mean train?"),
        (
            ["xyzzy"],
            "'xyzzy' is not a command: commands are train, eval, introspect, export, sweep, report, compare",
        ),
        (["train"], "train needs a recipe, such as `vsml train recipes/quickstart.gin`; `vsml recipes` lists them"),
        (["eval"], "eval needs the directory of a run, such as `vsml eval runs/quickstart`"),
        (["export", "somewhere"], "export needs the directory of a run and a file, as in `vsml export runs/quickstart"),
        (["export", "somewhere", "x.npz", "--checkpoint", "last"], "--checkpoint last: give newest, best, or a number"),
        (["parts", "cels"], "there is no axis cels; did you mean cells?"),
        (["parts", "cells", "tasks"], "parts takes one axis or one part, not cells tasks"),
        (["recipes", "quickstart"], "recipes takes no arguments, not quickstart"),
        (["train", "quickstart", "--dryrun"], "Did you mean: dry_run"),
        (["train", "quickstart", "--checkpoint", "best"], "Unknown command line flag 'checkpoint'"),
        (["train", "quickstart", "--devices", "two"], "--devices"),
        (["train", "quickstart", "--run_dir"], "run_dir"),
        (["eval", "somewhere", "--checkpoint", "last"], "--checkpoint last: give newest, best, or a number of"),
        (["eval", "somewhere", "--checkpoint", "1.5"], "--checkpoint 1.5: give newest, best, or a number of"),
    ],
)
def test_a_wrong_command_ends_in_one_line(capfd: pytest.CaptureFixture[str], arguments: list[str], message: str):
    outcome = call(capfd, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("vsml: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_gin_files_and_overrides_apply_in_order(capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wide.gin").write_text("cells.LSTM.size = 8\nSTEPS = 7\n")

    def of(*arguments: str) -> tuple[str, ...]:
        outcome = call(capfd, "train", *TINY, *NO_EVALUATORS, *arguments, "--dry_run")
        assert (outcome.code, outcome.err) == (0, "")
        lines = outcome.out.splitlines()
        return tuple(line for line in lines if line.startswith(("STEPS", "cells.LSTM.size")))

    assert of("STEPS=3", "cells.LSTM.size=5", "wide.gin") == ("STEPS = 7", "cells.LSTM.size = 8")
    assert of("wide.gin", "STEPS=3", "cells.LSTM.size=5") == ("STEPS = 3", "cells.LSTM.size = 5")
    assert of("STEPS=3", "--gin_file", "wide.gin", "--gin_bindings", "STEPS = 9") == (
        "STEPS = 9",
        "cells.LSTM.size = 8",
    )


def test_flags_alone_name_the_recipe(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "train", "--gin_file", "recipes/quickstart.gin", "--gin_bindings=EVALUATORS=[]", "--dry_run")
    assert outcome.code == 0
    assert "meta-parameters |V_M|    2,384" in outcome.out


def test_compiled_programs_are_kept_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")  # the tests keep nothing
    arguments = ("train", *TINY, *NO_EVALUATORS, "STEPS=1", "--run_dir", str(tmp_path / "run"))
    started = start(*arguments, XDG_CACHE_HOME=str(tmp_path), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert finish(started).code == 0
    assert list((tmp_path / "vsml" / "compiled").glob("*-cache"))


def test_a_reader_that_has_seen_enough_is_no_error():
    process = start("parts")
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    outcome = finish(process)
    assert (outcome.code, outcome.err) == (0, "")


def test_the_module_is_the_command(tmp_path):
    """In a fresh process and another working directory, where JAX is not imported before the verb is known."""
    outcome = finish(start("train", "quickstrat", cwd=tmp_path))
    assert outcome.code == 2
    assert outcome.err == "vsml: command line: there is no recipe quickstrat; did you mean quickstart?\n"
    assert outcome.out == ""


def test_the_console_script_is_the_command():
    script = Path(sys.executable).with_name("vsml")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"
