"""What is shipped and how it is installed: the wheel, the pinned versions, BUILD, and the first thing `make` does."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vsml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    requirement
    for lines in (PROJECT["dependencies"], *EXTRAS.values())
    for requirement in map(Requirement, lines)
    if requirement.name != PROJECT["name"]
]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.11", "3.12")
# Modules whose distribution has another name, as labels in BUILD spell it.
DISTRIBUTIONS = {
    **{"absl": "absl_py", "gin": "gin_config", "google": "protobuf"},
    **{"orbax": "orbax_checkpoint", "sklearn": "scikit_learn"},
}

# What a target imports only when it is called, and so leaves to whoever calls it.
LATE = {"core": {":estimator", ":learned"}}


def pinned(name: str, python: str) -> list[str]:
    """The versions that the constraints give for `name` on Linux with that Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    return [
        str(pin.specifier).removeprefix("==")
        for pin in PINS
        if canonicalize_name(pin.name) == canonicalize_name(name)
        and (pin.marker is None or pin.marker.evaluate({**environment, "implementation_name": "cpython"}))
    ]


def targets() -> dict[str, dict[str, list[str]]]:
    """The library targets of BUILD: name -> the sources (globs too) and dependencies."""
    found = {}
    for statement in ast.parse((ROOT / "BUILD").read_text()).body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if isinstance(call.func, ast.Name) and call.func.id == "py_library":
                fields = {keyword.arg: keyword.value for keyword in call.keywords}
                sources = fields["srcs"].args[0] if isinstance(fields["srcs"], ast.Call) else fields["srcs"]
                name = ast.literal_eval(fields["name"])
                found[name] = {"srcs": ast.literal_eval(sources), "deps": ast.literal_eval(fields["deps"])}
    return found


def label(module: str) -> str | None:
    """The label in BUILD of what `module` belongs to; None for the standard library."""
    top, *rest = module.split(".")
    if top in sys.stdlib_module_names:
        return None
    if top != "vsml":
        return f"@pip//{DISTRIBUTIONS.get(top, top.lower())}"
    return f":{rest[0]}" if rest and rest[0] not in ("__version__", "errors", "types") else ":core"


def imported(path: Path) -> set[str]:
    """The labels of all that a source file imports."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            submodules = node.module == "vsml"
            modules += [f"vsml.{alias.name}" for alias in node.names] if submodules else [node.module or ""]
    return {found for found in map(label, modules) if found}


def test_constraints_hold_pins_and_no_host():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert "--" not in text
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in PINS)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_requirement_is_pinned_once_within_its_range(requirement: Requirement, python: str):
    versions = pinned(requirement.name, python)
    assert len(versions) == 1
    assert requirement.specifier.contains(versions[0])


def test_jax_is_the_newest_that_each_python_can_have():
    assert pinned("jax", "3.11") == pinned("jaxlib", "3.11") == ["0.10.2"]
    assert pinned("jax", "3.12") == pinned("jaxlib", "3.12")
    assert pinned("jax", "3.12")[0].startswith("0.12.")


def test_extras_are_the_promised_ones():
    assert set(EXTRAS) == {"dev", "docs", "slurm", "xm", "evosax", "profile"}


def test_wheel_holds_the_package_and_the_gin_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build = pytest.importorskip("hatchling.build", reason="hatchling, of the extra dev, is not installed")
    monkeypatch.chdir(ROOT)
    wheel = zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path)))
    names = set(wheel.namelist())
    gin_files = {f"vsml/_gin/{path.relative_to(ROOT / 'gin').as_posix()}" for path in (ROOT / "gin").rglob("*.gin")}
    assert gin_files
    assert {name for name in names if name.startswith("vsml/_gin/")} == gin_files
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "vsml").rglob("*.py")} == {
        name for name in names if name.endswith(".py")
    }
    info = f"vsml-{vsml.__version__}.dist-info"
    assert "vsml = vsml.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()


def test_gin_folder_does_not_hide_gin_config():
    assert not list((ROOT / "gin").rglob("__init__.py"))


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (ROOT / "vsml").glob("*/__init__.py")))
def test_every_room_is_a_target(room: str):
    assert targets()[room]["srcs"] == [f"vsml/{room}/**/*.py"]


@pytest.mark.parametrize("name", sorted(set(targets()) - {"testing"}))
def test_targets_list_what_their_sources_import(name: str):
    target = targets()[name]
    sources = [path for pattern in target["srcs"] for path in ROOT.glob(pattern)]
    used = set().union(*map(imported, sources)) - {f":{name}"} - LATE.get(name, set())
    assert used <= set(target["deps"]) | {":core"}, (
        f"BUILD: add {sorted(used - set(target['deps']))} to the deps of {name}"
    )


def test_package_imports_only_what_it_requires():
    required = {
        f"@pip//{canonicalize_name(Requirement(line).name).replace('-', '_')}" for line in PROJECT["dependencies"]
    }
    used = set().union(*(imported(path) for path in (ROOT / "vsml").rglob("*.py")))
    assert {name for name in used if name.startswith("@pip//")} <= required


def test_targets_depend_downwards_only():
    reached: dict[str, set[str]] = {}

    def reach(name: str, path: tuple[str, ...]) -> set[str]:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in reached:
            below = [dep[1:] for dep in targets()[name]["deps"] if dep.startswith(":")]
            reached[name] = set(below).union(*(reach(dep, (*path, name)) for dep in below))
        return reached[name]

    assert {"cells", "learners", "tasks", "training"} <= reach("cli", ())
    assert not {"training", "config", "cli"} & reach("learners", ())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMake:
    def make(self, *args: str) -> subprocess.CompletedProcess[str]:
        # A make above this one would hand down its own flags.
        environment = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        }
        return subprocess.run(["make", *args], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    def test_help_is_the_default_and_lists_the_targets(self):
        result = self.make()
        assert result.returncode == 0
        listed = re.findall(r"^  make (\S+)", result.stdout, re.MULTILINE)
        assert {"help", "train", "test", "test-slow", "lint"} <= set(listed)

    def test_train_runs_the_quickstart_and_hands_on_args(self, tmp_path: Path):
        result = self.make("-n", "train", f"VENV={tmp_path / 'venv'}", "ARGS=STEPS=200")
        assert "vsml train recipes/quickstart.gin --run_dir runs/quickstart STEPS=200" in result.stdout

    def test_too_old_a_python_ends_in_one_line(self, tmp_path: Path):
        old = tmp_path / "python3.9"
        old.write_text("#!/bin/sh\necho 3.9 0\n")
        old.chmod(old.stat().st_mode | stat.S_IXUSR)
        result = self.make("test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
        assert result.returncode != 0
        errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        assert errors == [
            f"error: '{old}' is Python 3.9, vsml needs 3.11 or newer: choose one, as with make PYTHON=python3.12"
        ]
        assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff, of the extra dev, is not installed")
def test_the_folder_that_training_makes_does_not_disturb_the_linter(tmp_path: Path):
    """`tests/runs.py` is imported as `runs`, and runs are kept in `runs/`."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "tests").mkdir()
    for name in ("pyproject.toml", "tests/test_manual.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ci_script_is_executable_and_parses():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
