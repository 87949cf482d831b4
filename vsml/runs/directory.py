"""Writing a run directory: everything needed to rerun, resume, compare and plot a run.

config.gin  operative_config.gin  config.json  environment.json  summary.json  metrics.jsonl  evaluations.jsonl
checkpoints/  events.*  evaluations/*.npz
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import resource
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vsml import __version__
from vsml.config import Config
from vsml.errors import UserError
from vsml.fields import EVALUATES, FOLLOWS_STEPS, MAY_CHANGE
from vsml.runs import names
from vsml.runs.files import without_non_finite, write_whole

SHOWN_FIRST = ("SEED", "STEPS", "LEARNER", "META_OPTIMIZER", "POPULATION")
"""In TensorBoard's HPARAMS tab, which has room for few columns."""
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

    def write_config(self, config: Config) -> None:
        """Writes what the run is made of, and where it runs."""
        self.write(names.CONFIG_GIN, config.text)
        self.write(names.OPERATIVE_CONFIG, config.operative)
        self.write_json(names.CONFIG_JSON, config.json)
        self.write_json(names.ENVIRONMENT, environment())

    def read(self, name: str) -> str:
        """The text of a file. Raises `UserError` where it cannot be read."""
        try:
            return (self.path / name).read_text()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name}: cannot be read ({error}): restore it") from None

    def saved_config(self) -> dict[str, Any]:
        """The content of `config.json`. Raises `UserError` where this is no run directory."""
        try:
            config = json.loads(self.config_json.read_text())
            if missing := [name for name in ("recipe", "macros", "train") if name not in config]:
                raise ValueError(f"it has no {missing[0]}")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{self.path}: no config.json in it, so this is no run directory: check the path") from None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.config_json}: cannot be read ({error}): restore it, or choose another --run_dir"
            ) from error
        return config

    def hyperparameters(self, config: Config) -> dict[str, Any]:
        """What TensorBoard tells runs apart by: in a sweep the row it wrote, one schema for all, else the macros."""
        try:
            return json.loads((self.path / names.POINT).read_text())["hyperparameters"]
        except (OSError, ValueError):
            return hyperparameters(config)

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


def hyperparameters(config: Config) -> dict[str, Any]:
    """The public macros that are plain values, and the names of the parts; first what TensorBoard is to show first."""
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
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "devices": [str(device) for device in devices],
        "device_kind": devices[0].device_kind,
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "command": _command(sys.argv),
    }


def _command(arguments: Sequence[str]) -> str:
    return " ".join([Path(arguments[0]).name, *arguments[1:]])
