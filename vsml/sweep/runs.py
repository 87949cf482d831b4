"""One point of a sweep, run anywhere: what a launcher calls, and what it leaves beside the run's own files.

sweep.json           in the sweep directory: the file, the axes, every point
NAME/point.json      which point a run directory is, and its row in TensorBoard's HPARAMS
NAME/failure.txt     why it failed, in one line, until it is run again
NAME/output.log      what it said, where the local launcher ran it
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vsml
from vsml.analysis.tables import aligned
from vsml.config import Config
from vsml.errors import UserError, as_out_of_memory
from vsml.runs import names
from vsml.runs.directory import RunDirectory, differences, hyperparameters, settings
from vsml.runs.files import write_whole
from vsml.runs.lock import Occupied, refuse_where_occupied
from vsml.runs.results import Run, Status
from vsml.runs.saved import newest_step
from vsml.sweep.points import Point, Sweep
from vsml.training import trainer
from vsml.training.distributed import say
from vsml.training.interruption import Interrupted
from vsml.training.writers import is_number

ABSENT = "-"
LAUNCHERS = {"slurm": "launch/slurm.py", "xm": "xm/launch.py"}


def record(sweep: Sweep, directory: Path) -> None:
    """Writes `sweep.json`, which tells a report about runs that do not exist yet; call `check_earlier` before.

    Raises:
      UserError: if it cannot be written.
    """
    content = {
        "file": sweep.file,
        "words": list(sweep.words),
        "recipe": sweep.recipe,
        "tags": list(sweep.tags),
        "axes": [
            {"name": axis.name, "key": axis.key, "labels": [choice.label for choice in axis.choices]}
            for axis in sweep.axes
        ],
        "points": [
            {"name": p.name, "labels": dict(p.labels), "overrides": list(p.overrides), **_asked(p.config)}
            for p in sweep.points
        ],
        "refused": [{"name": point.name, "reason": point.reason} for point in sweep.refused],
    }
    RunDirectory(directory).write_json(names.SWEEP, content)


def check_earlier(points: Sequence[Point], directory: Path, extend: bool) -> None:
    """Compares points with what earlier commands have trained of them; writes nothing.

    Args:
      points: of the sweep.
      directory: of the sweep.
      extend: whether a point may go on to another number of meta-steps than it was trained for.

    Raises:
      UserError: where a point was trained with other settings, or would be extended without `extend`.
    """
    others, lengths = [], []
    for point in points:
        run = RunDirectory(point.run_directory(directory))
        done, steps = newest_step(run.checkpoints), _steps(point.config)
        if done is None:
            continue
        saved = run.saved_config()
        length = f"{point.name} (train.steps: {saved['train']['steps']} -> {steps})"
        if refused := differences(saved, point.config)[1]:
            others.append(f"{point.name} ({refused[0]})")
        elif done > steps:
            others.append(length)
        elif saved["train"]["steps"] != steps:
            lengths.append(length)
    if others:
        raise UserError(
            f"{directory}: holds {_such_as(others)} trained with other settings: choose another --sweep_dir, or the "
            "earlier settings"
        )
    if lengths and not extend:
        raise UserError(
            f"{directory}: holds {_such_as(lengths)} trained for another number of meta-steps: choose another "
            "--sweep_dir, or set sweep.extend=True to train all of them on to the new number"
        )


def _such_as(points: Sequence[str]) -> str:
    return f"{len(points)} point(s), such as {points[0]},"


def launch(sweep: Sweep, directory: Path, launcher: str) -> int:
    """Hands the points to a launcher of this repository's checkout: launch/slurm.py or xm/launch.py.

    Its function `launch(sweep_file, overrides, sweep_dir)` runs `vsml sweep FILE --sweep_dir D --index I` somewhere for
    every point.

    Returns:
      The exit code of the launcher.

    Raises:
      UserError: where there is no such launcher, or what it needs is not installed.
    """
    path = Path(vsml.__file__).resolve().parents[1] / LAUNCHERS[launcher]
    if not path.is_file():
        raise UserError(
            f"--launcher {launcher}: there is no {path}: launchers belong to the repository, not to the installed "
            "package: install from a checkout, as in pip install -e ."
        )
    spec = importlib.util.spec_from_file_location(f"vsml_launcher_{launcher}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UserError(
            f"--launcher {launcher}: {error}; install the extra, as in pip install 'vsml[{launcher}]'"
        ) from None
    check_earlier(sweep.points, directory, sweep.extend)
    record(sweep, directory)
    return module.launch(sweep.file, list(sweep.words), directory)


def run_point(sweep: Sweep, index: int, directory: Path, num_devices: int | None = None) -> dict[str, Any]:
    """Meta-trains one point, or resumes it, or shows that nothing is left to do; then evaluates.

    Args:
      sweep: as `load` reads it.
      index: of the point.
      directory: of the sweep.
      num_devices: as for `trainer.train`.

    Returns:
      The content of its `summary.json`.

    Raises:
      UserError: what stopped it, kept in `failure.txt` unless it was asked to stop.
    """
    point = sweep.point(index)
    run = RunDirectory(point.run_directory(directory))
    check_earlier([point], directory, sweep.extend)
    refuse_where_occupied(run.path, say)
    finished = status(point, directory)[0] == "finished"
    run.create()
    failure = run.path / names.FAILURE
    failure.unlink(missing_ok=True)
    run.write_json(names.POINT, _description(sweep, point))
    try:
        return trainer.train(point.config, run.path, num_devices)
    except (Interrupted, Occupied):
        raise
    except (UserError, MemoryError, RuntimeError) as error:
        if not finished:
            write_whole(failure, f"{as_out_of_memory(error) or error}\n")
        raise


def status(point: Point, directory: Path) -> tuple[Status, str]:
    """How far a point is, and for a failed one why."""
    run = Run(point.run_directory(directory), point.name, steps=_steps(point.config))
    if run.status != "finished":
        return run.status, run.failure
    saved = RunDirectory(run.path).saved_config()
    # A run of an earlier version has no digest.
    same = saved["settings"] == settings(point.config) if "settings" in saved else not point.config.differences(saved)
    if not same and differences(saved, point.config)[1]:
        return "other settings", ""
    return "finished" if same else "unfinished", ""


def show(sweep: Sweep, directory: Path) -> str:
    """The points, one per line: index, name, how far it is, and what it sets beyond what all share."""
    common = shlex.join(("vsml", "train", sweep.recipe, *sweep.shared))
    tags = f"; tags: {', '.join(sweep.tags)}" if sweep.tags else ""
    own = [shlex.join(point.overrides[len(sweep.shared) :]) for point in sweep.points]
    rows = [(str(p.index), p.name, status(p, directory)[0], text) for p, text in zip(sweep.points, own, strict=True)]
    left_out = [f"left out {point.name}: {point.reason}" for point in sweep.refused]
    head = f"{sweep.file}: {len(rows)} points in {directory}{tags}\neach is {common} and"
    return "\n".join([head, *aligned(rows), *left_out])


def _asked(config: Config) -> dict[str, Any]:
    return {"steps": _steps(config), "settings": settings(config)}


def _steps(config: Config) -> int:
    return config.json["train"]["steps"]


def _description(sweep: Sweep, point: Point) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "file": sweep.file,
        "index": point.index,
        "labels": dict(point.labels),
        "tags": list(sweep.tags),
        "overrides": list(point.overrides),
        "hyperparameters": row(sweep, point),
    }


def row(sweep: Sweep, point: Point) -> dict[str, Any]:
    """Hyperparameters of a point, the same names for the whole sweep: TensorBoard drops runs with other names.

    What the axes set comes first.

    What only some points have is `-` at the others; what is a number at all points stays a number.
    """
    rows = {p.index: {**_axis_values(sweep, p), **hyperparameters(p.config)} for p in sweep.points}
    axes = {name for axis in sweep.axes for name in (axis.name, axis.key)}
    names = sorted(dict.fromkeys(n for values in rows.values() for n in values), key=lambda name: name not in axes)
    numbers = {name for name in names if all(is_number(values.get(name)) for values in rows.values())}
    own = rows[point.index]
    return {name: own[name] if name in numbers else str(own.get(name, ABSENT)) for name in names}


def _axis_values(sweep: Sweep, point: Point) -> dict[str, str | int | float]:
    """The labels of the axes, without macros, which are hyperparameters already; numbers where labels are numbers."""
    return {axis.name: _number(point.labels[axis.name]) for axis in sweep.axes if not axis.key.isupper()}


def _number(label: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(label)
        except ValueError:
            continue
    return label
