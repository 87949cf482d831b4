"""Reads back what runs have written: one run, or a sweep. Whatever does not exist yet is None or empty."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vsml.errors import UserError
from vsml.runs import names, shapes
from vsml.runs.files import DAMAGE

SEED = "SEED"
Status = Literal["finished", "failed", "unfinished", "not started", "other settings"]


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)  # axis -> label
    steps: int | None = None  # asked for
    settings: str | None = None  # asked for: a digest, as in `config.json`
    lenient: bool = False  # damaged files count as missing, and `damaged` names them

    @property
    def status(self) -> Status:
        """How far it is."""
        if self.failure:
            return "failed"
        if self.config is None:
            return "not started"
        summary = self.summary
        return "finished" if summary and self.steps in (None, summary["meta_steps"]) else "unfinished"

    @property
    def failure(self) -> str:
        """Why it failed, or nothing."""
        try:
            return (self.path / names.FAILURE).read_text(errors="replace").strip()
        except OSError:
            return ""

    @property
    def config(self) -> dict[str, Any] | None:
        """The content of `config.json`. Raises `UserError` if it is damaged, as do the next four, unless `lenient`."""
        return self._read(names.CONFIG_JSON)

    @property
    def summary(self) -> dict[str, Any] | None:
        """The content of `summary.json`, which exists when the run has ended."""
        return self._read(names.SUMMARY)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The entries of `metrics.jsonl`."""
        return self._read(names.METRICS) or []

    @property
    def interim(self) -> list[dict[str, Any]]:
        """The entries of `evaluations.jsonl`: evaluations during meta-training."""
        return self._read(names.INTERIM) or []

    @property
    def history(self) -> list[dict[str, Any]]:
        """The entries of `history.jsonl`, see `vsml.runs.history`; none for a run of an earlier version."""
        return self._read(names.HISTORY) or []

    def curves(self, evaluation: str) -> dict[str, np.ndarray]:
        """The curves of an evaluation, [lifetimes, T] each, and those of its rivals as `RIVAL_CURVE`."""
        return _read_curves(self.path / names.EVALUATIONS / f"{evaluation}.npz") or {}

    @property
    def damaged(self) -> list[str]:
        """Files of results that are there but cannot be read."""
        found = [name for name in _READ if self._is_damaged(name)]
        curves = sorted(self.path.glob(f"{names.EVALUATIONS}/*.npz"))
        return [*found, *(str(path.relative_to(self.path)) for path in curves if _read_curves(path) is None)]

    def _is_damaged(self, name: str) -> bool:
        try:
            _READ[name](self.path / name)
        except UserError:
            return True
        return False

    def _read(self, name: str) -> Any:
        try:
            return _READ[name](self.path / name)
        except UserError:
            if not self.lenient:
                raise
            return None


@dataclass(frozen=True)
class Results:
    """A run directory, or a sweep directory."""

    path: Path
    name: str
    runs: tuple[Run, ...]
    axes: tuple[str, ...] = ()  # without that of the seeds
    seeds: str = ""  # the axis of the seeds, if there is one
    sweep: Mapping[str, Any] | None = None  # the content of sweep.json

    @property
    def rows(self) -> dict[str, list[Run]]:
        """Label of a row -> its runs, which differ only in their seed."""
        rows: dict[str, list[Run]] = {}
        for run in self.runs:
            rows.setdefault(self._row(run), []).append(run)
        return rows

    def _row(self, run: Run) -> str:
        """`Meta RNN`; with its axis where there are several, or where the label alone says little: `size=8`."""
        if len(self.axes) == 1 and not re.fullmatch(r"[\d.e+-]+|True|False|none", run.labels[self.axes[0]]):
            return run.labels[self.axes[0]]
        return ", ".join(f"{axis}={run.labels[axis]}" for axis in self.axes) or self.name


def read_results(path: Path) -> Results:
    """Reads a run or a sweep directory. Raises `UserError` where it is neither."""
    mend = "restore it, or give the command of this sweep again with --list"
    sweep = shapes.read_json(path / names.SWEEP, shapes.SWEEP, mend)
    if sweep is None:
        run = Run(path, path.absolute().name)
        if run.config is None:
            raise UserError(
                f"{path}: neither {names.SWEEP} nor {names.CONFIG_JSON} is in it, so it is neither a sweep nor a run: "
                "check the path"
            )
        return Results(path, run.name, (run,))
    seeds = next((axis["name"] for axis in sweep["axes"] if axis["key"] == SEED), "")
    runs = tuple(
        Run(path / p["name"], p["name"], p["labels"], p["steps"], p.get("settings"), lenient=True)
        for p in sweep["points"]
    )
    axes = tuple(axis["name"] for axis in sweep["axes"] if axis["name"] != seeds)
    return Results(path, Path(sweep["file"]).stem, runs, axes, seeds, sweep)


def read_metrics(path: Path, shape: Any = shapes.METRICS) -> list[dict[str, Any]]:
    """The entries of `metrics.jsonl` or its like, oldest first, as far as they are whole; none without a file.

    Raises:
      UserError: where a line is not what was written, other than the last one, which a crash may have cut.
    """
    try:
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): make it a readable file, or remove it") from None
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break  # being written, or cut by a crash
        try:
            entry = json.loads(line)
            problem = shapes.flaw(entry, shape)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            entry, problem = {}, str(error)
        if problem:
            raise UserError(f"{path} line {number}: cannot be read ({problem}): restore it, or remove this line")
        entries.append(entry)
    return entries


def _read_curves(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as content, np.load(content) as file:  # numpy itself leaves a damaged file open
            return {name: np.atleast_2d(file[name]) for name in file.files}
    except DAMAGE:
        return None


_READ: Mapping[str, Callable[[Path], Any]] = {
    names.CONFIG_JSON: lambda path: shapes.read_json(path, shapes.CONFIG, "restore it"),
    names.SUMMARY: lambda path: shapes.read_json(
        path, shapes.SUMMARY, "restore it, or delete it and give the command of this run again"
    ),
    names.METRICS: read_metrics,
    names.INTERIM: lambda path: read_metrics(path, shapes.INTERIM),
    names.HISTORY: lambda path: read_metrics(path, shapes.HISTORY),
}
"""How each file of results is read; `UserError` where it is damaged."""
