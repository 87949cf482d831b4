"""`vsml doctor`: what a bug report needs to know of this machine, and what is missing on it.

Of the environment, only the variables named here are shown.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import vsml
from vsml.cli.usage import WIDTH
from vsml.errors import UserError

VARIABLES = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "JAX_PLATFORMS",
    "JAX_NUM_CPU_DEVICES",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_ENABLE_X64",
    "JAX_DISABLE_JIT",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "CUDA_VISIBLE_DEVICES",
    "VSML_DATA_DIR",
)
"""Environment variables that change how vsml runs."""
LITTLE = 1 << 30
"""Bytes of free disk space below which it soon runs out."""
NVIDIA = Path("/proc/driver/nvidia/gpus")

Row = tuple[str, str]


class Doctor:
    """Looks at this machine: `rows` say what is there, `missing` what is not, and how to fix it."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.missing: list[str] = []
        for look in (self._versions, self._extras, self._machine, self._variables, self._folders, self._data):
            self.rows += look()

    def _versions(self) -> Iterator[Row]:
        yield "vsml", f"{vsml.__version__}{_commit()}, in {_home(Path(vsml.__file__).parent)}"
        yield "python", f"{platform.python_version()}, {platform.platform()}"
        yield "packages", ", ".join(f"{name} {_version(name) or 'is not installed'}" for name in _requirements())

    def _extras(self) -> Iterator[Row]:
        for extra in _extras():
            wanted = _requirements(extra)
            there = {name: version for name in wanted if (version := _version(name))}
            shown = ", ".join(f"{name} {version}" for name, version in there.items())
            lacking = [name for name in wanted if name not in there]
            install = f"without {', '.join(lacking)}: pip install 'vsml[{extra}]'" if lacking else ""
            yield f"extra {extra}", "; ".join(filter(None, [shown, install]))

    def _machine(self) -> Iterator[Row]:
        import jax

        try:
            devices = jax.devices()
            kinds = ", ".join(dict.fromkeys(device.device_kind for device in devices))
            yield "devices", f"{len(devices)} {devices[0].platform} ({kinds})"
            if devices[0].platform == "cpu" and NVIDIA.is_dir() and any(NVIDIA.iterdir()):
                self.missing.append("there is a GPU that JAX does not use: pip install 'jax[cuda12]'")
        except RuntimeError as error:
            yield "devices", f"none: {' '.join(str(error).split())}"
            self.missing.append("JAX finds no devices: look at JAX_PLATFORMS, or install JAX for this machine")
        yield "cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        yield "memory", _memory()

    def _variables(self) -> Iterator[Row]:
        for name in VARIABLES:
            if name in os.environ:
                yield name, os.environ[name] or "(empty)"

    def _folders(self) -> Iterator[Row]:
        import jax

        compiled = jax.config.values["jax_compilation_cache_dir"]
        yield "compiled", _size(Path(compiled)) if compiled else "programs are not kept"
        yield "downloads", ", ".join(map(_size, _downloads())) or "none"
        runs = Path("runs")
        there = next(folder for folder in (runs, Path.cwd()) if folder.is_dir())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        yield "runs", f"{runs.absolute()}: {'writable' if writable else 'not writable'}, {_bytes(free)} free"
        if not writable:
            self.missing.append(f"{there.absolute()} cannot be written: work in another folder, or set --run_dir")
        if free < LITTLE:
            self.missing.append(f"only {_bytes(free)} of disk space is free here: a run writes checkpoints")

    def _data(self) -> Iterator[Row]:
        from vsml.config import parts
        from vsml.training.display import display

        folder = os.environ.get("VSML_DATA_DIR")
        if folder and not Path(folder).expanduser().is_dir():
            self.missing.append(f"VSML_DATA_DIR is {folder}, which is not a folder: make it, or set it to another one")
        absent = []
        for part in parts("sources"):
            name = part.name.removeprefix("sources.")
            if display.live:  # all of a large data set takes a while to read
                display.show(f"looking for {name}")
            found = dict(_examples(part.make))
            counts = [f"{split} {count}" for split, count in found.items() if isinstance(count, str)]
            if counts:
                yield f"data {name}", ", ".join(counts)
            self.missing += [str(error) for error in found.values() if isinstance(error, UserError)]
            splits = [split for split, count in found.items() if count is None]
            absent += [f"{name} ({', '.join(splits)})"] if splits else []
        display.close()
        if absent:
            self.missing.append(
                f"data sets that are not on this machine: {', '.join(absent)}; they are downloaded when they are used, "
                "or put them into folders of a folder that VSML_DATA_DIR names"
            )


def report() -> str:
    """All of it as text, no wider than 80 columns where possible."""
    doctor = Doctor()
    indent = max(len(name) for name, _ in doctor.rows) + 2
    lines = [_wrapped(_home(text), f"{name:<{indent}}", " " * indent) for name, text in doctor.rows]
    lines += ["", *(_wrapped(_home(text), "missing: ", "  ") for text in doctor.missing or ["nothing"])]
    return "\n".join(lines)


def _wrapped(text: str, first: str, others: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _home(text: str | Path) -> str:
    """A text in which the home folder, which names a person, is `~`."""
    return str(text).replace(str(Path.home()), "~") if len(Path.home().parts) > 1 else str(text)


def _commit() -> str:
    """`, commit 1a2b3c4 with changes`, where the package is that of a git checkout."""
    root = Path(vsml.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(root)]
        head, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ", of a git checkout"
    return f", commit {head}{' with changes' if changed else ''}"


def _requirements(extra: str = "") -> list[str]:
    """Names of the packages that vsml needs, or an extra of it; none where it is not installed."""
    try:
        lines = metadata.requires("vsml") or []
    except metadata.PackageNotFoundError:
        return [] if extra else ["jax", "jaxlib", "optax", "orbax-checkpoint"]
    found = [] if extra else ["jaxlib"]
    for line in lines:
        requirement, _, marker = line.partition(";")
        if f'"{extra}"' in marker.replace("'", '"') if extra else not marker:
            found.append(re.split(r"[^\w.-]", requirement.strip())[0])
    return sorted(found)


def _extras() -> list[str]:
    try:
        return sorted(metadata.metadata("vsml").get_all("Provides-Extra") or [])
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        return f"{_bytes(sizes['MemTotal'])}, {_bytes(sizes['MemAvailable'])} available"
    except (OSError, ValueError, KeyError, IndexError):
        return "unknown"


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


def _size(folder: Path) -> str:
    """Where a folder is, and what is in it."""
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{_home(folder)}: {len(files)} file(s), {_bytes(sum(files))}"


def _downloads() -> list[Path]:
    """The folders of data sets that were downloaded."""
    import platformdirs

    cache = platformdirs.user_cache_path("vsml")
    folders = sorted(path for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else []
    return [folder for folder in folders if folder.name != "compiled" and any(folder.iterdir())]


def _examples(source: Any) -> Iterator[tuple[str, str | UserError | None]]:
    """How many examples each split of a source has on this machine, None for no file, an error where it is corrupt.

    Sources that need a file of the user's own, or generate their examples, have no splits to look for.
    """
    from vsml.tasks.sources.files import Missing, offline

    if "split" not in source.__dataclass_fields__ or any(f.default is MISSING for f in fields(source)):
        return
    module = vars(sys.modules[source.__module__])
    published = "FILE" in module or "FILES" in module
    named = next((tuple(module[name]) for name in ("FILES", "BATCHES") if isinstance(module.get(name), dict)), None)
    for split in named or (("train", "test") if published else ("all",)):
        try:
            with offline():
                yield split, f"{len(source(split=split).read().y):,}"
        except Missing:
            yield split, None
        except UserError as error:
            yield split, error
