"""The history of a run: `history.jsonl`, a line for each start after which something was different.

    {"step": 60, "time": "2026-11-21 12:00:00 +0000", "changes": [{"key", "old", "new", "schedule"}], "data": {...},
     "environment": {...}}

`config.gin` holds from the last change on. Where a schedule was changed during the run (`schedule`), a run of
`config.gin` from the start gives other numbers; `swaps` finds these changes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from vsml.config import Config, leaves
from vsml.fields import EVALUATES, FOLLOWS_STEPS
from vsml.runs import names
from vsml.runs.directory import RunDirectory, environment
from vsml.runs.meta_parameters import MetaParameters
from vsml.runs.results import Run

Entry = Mapping[str, Any]
EXCHANGED = "a schedule was changed during the run: a run of its config from the start gives other numbers"


@dataclass(frozen=True)
class Change:
    """A setting that has changed since the last start of the run."""

    key: str
    old: Any
    new: Any
    schedule: bool  # it follows the number of meta-steps, as the length of a schedule does
    evaluates: bool  # it says what is measured, not what is trained


def changes(saved: Mapping[str, Any], config: Config) -> list[Change]:
    """The settings in which a config differs from a saved one, the content of `config.json`."""
    found = config.differences(saved)
    return [Change(k, old, new, config.mark(k) == FOLLOWS_STEPS, config.mark(k) == EVALUATES) for k, new, old in found]


def about_schedule(saved: Mapping[str, Any], config: Config, start: int) -> str:
    """What happens to the schedule where a run goes on after `start` meta-steps to another number; or nothing."""
    lengths = saved["train"].get("steps"), config.json["train"]["steps"]
    if lengths[0] == lengths[1]:
        return ""
    now, before = (leaves(c["train"]["optimizer"], "train.optimizer") for c in (config.json, saved))
    own = [key for key, value in before.items() if value == lengths[0] and not isinstance(value, bool)]
    keys = ", ".join(key.removeprefix("train.optimizer.") for key in own)
    if not own:
        return ""
    where = "had ended" if start >= lengths[0] else f"was at {start}"
    restart = f"to restart it, begin another run with train.start_from and STEPS={lengths[1] - start}"
    if all(now.get(key) == before[key] for key in own):
        ended = "has ended" if start >= lengths[0] else f"ends after {lengths[0]} meta-steps"
        return f"the schedule ({keys} = {lengths[0]}) {ended}, and its last value holds for what follows; {restart}"
    return (
        f"the schedule of {lengths[0]} meta-steps ({keys}) {where} and is now one of {lengths[1]}: a run of "
        f"{lengths[1]} meta-steps from the start would give other numbers; {restart}"
    )


def fingerprints(shares: Sequence[str], data: Sequence[Any]) -> dict[str, str]:
    """A digest of the arrays that tasks are drawn from, by share of the population."""
    arrays = [MetaParameters.of(jax.tree.leaves(of_share)) for of_share in data]
    return {name: content.sha256 for name, content in zip(shares, arrays, strict=True)}


def note(run: RunDirectory, step: int, changed: Sequence[Change], data: Mapping[str, str], num_devices: int) -> None:
    """Adds a start after `step` meta-steps to the history, unless it says nothing that the last entry does not."""
    before = Run(run.path, run.path.name).history
    # What came after an earlier checkpoint is trained again; a run from the start has no history.
    entries = [{**entry, "step": min(entry["step"], step)} for entry in before] if step else []
    now = {
        "step": step,
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "changes": [{"key": c.key, "old": c.old, "new": c.new, "schedule": c.schedule} for c in changed],
        "data": dict(data),
        "environment": {**environment(), "devices_used": num_devices},
    }
    if not entries or _adds(now, entries[-1]):
        entries.append(now)
    if entries != before:
        run.write(names.HISTORY, "".join(json.dumps(entry) + "\n" for entry in entries))


def _adds(now: Entry, last: Entry) -> bool:
    """Whether an entry says anything that the last one does not."""
    noted_already = (last["step"], last["changes"]) == (now["step"], now["changes"])
    return _lasting(now) != _lasting(last) or not (noted_already or not now["changes"])


def _lasting(entry: Entry) -> Any:
    return entry["data"], {key: value for key, value in entry["environment"].items() if key != "command"}


def swaps(entries: Sequence[Entry]) -> list[str]:
    """Changes of schedules during the run, a line each: a run of the config from the start gives other numbers."""
    return [
        f"after {entry['step']} meta-steps {_shown(change)}"
        for entry in entries
        if entry["step"]
        for change in entry["changes"]
        if change["schedule"]
    ]


def describe(entries: Sequence[Entry]) -> list[tuple[int, str, list[str]]]:
    """For each entry: meta-steps done, code and devices from there on, and what was changed."""
    return [
        (
            entry["step"],
            _where(entry["environment"]),
            [_shown(change) for change in entry["changes"]],
        )
        for entry in entries
    ]


def _shown(change: Mapping[str, Any]) -> str:
    return f"{change['key']}: {change['old']!r} -> {change['new']!r}"


def _where(environment: Mapping[str, Any]) -> str:
    """`vsml 0.9.0 (12ab34cd), jax 0.10.2, 2 cpu device(s)`."""
    commits = ", ".join(environment.get("commits", {}).values())
    version = f"vsml {environment['vsml']}" + (f" ({commits})" if commits else "")
    processes = environment.get("processes", 1)
    devices = f"{environment['devices_used']} {environment['device_kind']} device(s)"
    devices += f" of {processes} processes" if processes > 1 else ""
    return f"{version}, jax {environment['packages']['jax']}, {devices}"
