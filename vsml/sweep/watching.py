"""The progress of points of a sweep that run in other processes, read from the files that they write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vsml.runs.names import LOG, METRICS
from vsml.training.progress import COMPILING, Pace

STARTING = "starting"
TOLD = ("step ", COMPILING, "evaluat")
"""The beginnings of lines that report progress."""
_TAIL = 8192
"""Bytes to read at the end of a file, enough for its last line."""


def progress(run: Path, steps: int, since: float, log_from: int, width: int) -> str:
    """What a point does now: `step 310/700  44%  loss 1.234`, or the last progress line of its log.

    Args:
      run: its run directory.
      steps: of its meta-training.
      since: when it was started, in seconds since the epoch; metrics that are older are from an earlier start.
      log_from: bytes of its log that are from earlier starts.
      width: columns.
    """
    said = [line for line in _tail(run / LOG, log_from) if line.startswith(TOLD)]
    entry = _last_entry(run / METRICS)
    told_at, logged_at = _written(run / LOG), _written(run / METRICS)
    if entry is not None and logged_at >= since and (logged_at > told_at or not said):
        pace = Pace(steps)
        pace.took(entry["step"])
        return pace.line(entry, None, width)
    return said[-1].rstrip()[:width] if said else STARTING


def shown_name(name: str, width: int) -> str:
    """The name of a point in at most so many columns; its end, where points differ most, stays."""
    return name if len(name) <= width else f"...{name[len(name) - width + 3 :]}"


def _written(path: Path) -> float:
    """When a file was last written to; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _tail(path: Path, start: int = 0) -> list[str]:
    """The last lines of a file, of its content from byte `start` on."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace").splitlines(keepends=True)
    except OSError:
        return []


def _last_entry(path: Path) -> dict[str, Any] | None:
    """The last whole entry of `metrics.jsonl`."""
    for line in reversed(_tail(path)):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and isinstance(entry, dict) and {"step", "loss"} <= entry.keys():
            return {name: float("nan") if value is None else value for name, value in entry.items()}
    return None
