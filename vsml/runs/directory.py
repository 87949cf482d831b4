"""Writing a run directory: everything needed to rerun, resume, compare and plot a run.

config.gin  operative_config.gin  config.json  environment.json  summary.json  metrics.jsonl  evaluations.jsonl
history.jsonl  checkpoints/  events.*  evaluations/*.npz
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vsml import __version__
from vsml.config import Config, leaves
from vsml.errors import UserError
from vsml.fields import EVALUATES, FOLLOWS_STEPS, MAY_CHANGE
from vsml.runs import names, shapes
from vsml.runs.files import without_non_finite, write_whole

GIT_SECONDS = 10
"""How long git may take; a commit that takes longer is left out."""
SHOWN_FIRST = ("SEED", "STEPS", "LEARNER", "META_OPTIMIZER", "POPULATION")
"""Macros that come first in TensorBoard's HPARAMS tab, which has room for few columns."""
PACKAGES = ("jax", "jaxlib", "optax", "orbax-checkpoint", "gin-config", "numpy")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.config_gin = self.path / names.CONFIG_GIN
        self.config_json = self.path / names.CONFIG_JSON
        self.summary_json = self.path / names.SUMMARY
        self.metrics = self.path / names.METRICS
        self.interim = self.path / names.INTERIM
        self.history = self.path / names.HISTORY
        self.checkpoints = self.path / names.CHECKPOINTS
        self.evaluations = self.path / names.EVALUATIONS

    def create(self) -> None:
        """Makes the directory. Raises `UserError` where it cannot be written to."""
        try:
            self.evaluations.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{self.path}: the run directory cannot be written ({error.strerror}): choose another --run_dir, or "
                "change its permissions"
            ) from error

    def write_config(self, config: Config, remarks: Sequence[str] = ()) -> None:
        """Writes what the run is made of, and where it runs; remarks are comments above the config."""
        head = "".join(f"# {remark}\n" for remark in remarks)
        self.write(names.CONFIG_GIN, head + config.text)
        self.write(names.OPERATIVE_CONFIG, head + config.operative)
        self.write_json(names.CONFIG_JSON, {**config.json, "settings": settings(config)})
        self.write_json(names.ENVIRONMENT, environment())

    def read(self, name: str) -> str:
        """The text of a file. Raises `UserError` where it cannot be read."""
        try:
            return (self.path / name).read_text()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name}: cannot be read ({error}): restore it") from None

    def saved_config(self) -> dict[str, Any]:
        """The content of `config.json`. Raises `UserError` where this is not a run directory."""
        config = shapes.read_json(self.config_json, shapes.CONFIG, "restore it, or choose another --run_dir")
        if config is None:
            raise UserError(f"{self.path}: no config.json in it, so this is not a run directory: check the path")
        return config

    def hyperparameters(self, config: Config) -> dict[str, Any]:
        """What TensorBoard compares runs by: in a sweep the content of `point.json`, else the macros."""
        mend = "restore it, or give the command of its sweep again"
        point = shapes.read_json(self.path / names.POINT, shapes.POINT, mend)
        return hyperparameters(config) if point is None else point["hyperparameters"]

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file; a number that is not finite is null."""
        self.write(name, json.dumps(without_non_finite(content), indent=2, allow_nan=False) + "\n")

    def write(self, name: str, text: str) -> None:
        """Writes a file so that it is there whole or not at all. Raises `UserError` where it cannot be written."""
        write_whole(self.path / name, text)


def differences(saved: Mapping[str, Any], config: Config) -> tuple[list[str], list[str]]:
    """How a config differs from the one a run was started with.

    Returns:
      One line per difference: first those that a resumed run may have, by the marks of `vsml.fields`, then those that
      make it another experiment.
    """
    found = [(key, old, new) for key, new, old in config.differences(saved)]
    lengths = next(((old, new) for key, old, new in found if key == "train.steps"), None)
    allowed, refused = [], []
    for key, old, new in found:
        mark = config.mark(key)
        harmless = mark in (MAY_CHANGE, EVALUATES) or (mark == FOLLOWS_STEPS and (old, new) == lengths)
        (allowed if harmless else refused).append(f"{key}: {old!r} -> {new!r}")
    return allowed, refused


def settings(config: Config) -> str:
    """A digest of the settings that determine the results: the rest is how often to log or save, and chunks."""
    found = leaves(config.json["train"], "train").items()
    kept = {key: value for key, value in found if key == "train.steps" or config.mark(key) != MAY_CHANGE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def hyperparameters(config: Config) -> dict[str, Any]:
    """The public macros that are plain values, and the names of the parts; first those of `SHOWN_FIRST`."""
    macros = {**dict.fromkeys(SHOWN_FIRST), **config.json["macros"]}
    return {name: value for name, value in macros.items() if isinstance(value, str | int | float)}


def peak_memory() -> dict[str, int | None]:
    """The most bytes that this process has had in memory, and those on its first accelerator, None without one."""
    try:  # of this program alone; getrusage also counts the program that started it
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = int(found[1]) * 1024 if found else used * (1 if sys.platform == "darwin" else 1024)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"host": host, "device": on_device}


def environment() -> dict[str, Any]:
    """Versions, machine and command line of this process."""
    devices = jax.devices()
    return {
        "vsml": __version__,
        "commits": commits(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "devices": [str(device) for device in devices],
        "device_kind": devices[0].device_kind,
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "command": _command(sys.argv),
    }


@functools.cache
def commits() -> dict[str, str]:
    """The git commits of this package and of the working directory, where they are kept in git; cut to 12 digits."""
    package = Path(__file__).resolve().parents[1]
    found = {"vsml": _commit(package, package / "__init__.py"), "working directory": _commit(Path.cwd())}
    if found["working directory"] == found["vsml"]:
        del found["working directory"]
    return {name: commit for name, commit in found.items() if commit}


def _commit(directory: Path, file: Path | None = None) -> str:
    """The commit of a directory, `-dirty` with changes; empty without git, or where `file` is not tracked."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    if file is not None and not git("ls-files", str(file)):
        return ""
    return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _command(arguments: Sequence[str]) -> str:
    return " ".join([Path(arguments[0]).name, *arguments[1:]])
