"""Reading V_M of a run, of one of its checkpoints, or of an exported file, to go on from it, without Orbax.

    RUN_DIR  RUN_DIR@300  RUN_DIR@best  FILE.npz  pretrained:NAME

What comes with the numbers (`MetaParameters.about`): the text of the config that rebuilds the learner, the recipe, the
step, the shapes of the tasks it was trained on, the seconds of training, where it was started from, and versions.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsml import config as configs
from vsml import pretrained
from vsml.config import Config
from vsml.errors import UserError
from vsml.runs import names, shapes
from vsml.runs.directory import RunDirectory
from vsml.runs.files import write_whole
from vsml.runs.meta_parameters import MetaParameters
from vsml.runs.saved import Which, find_step, read_meta, read_params
from vsml.tasks.base import TaskSpec


def of_run(directory: Path, which: Which = "newest") -> MetaParameters:
    """The meta-parameters of a run directory. Raises `UserError` where there is no such run or checkpoint."""
    run = RunDirectory(directory)
    recipe = run.saved_config()["recipe"]
    step = find_step(run.checkpoints, which)
    meta = read_meta(run.checkpoints, step, shapes.OF_CHECKPOINT)
    about = {
        "recipe": recipe,
        "step": step,
        "config": run.read(names.CONFIG_GIN),
        "versions": _versions(run),
        **{key: meta[key] for key in shapes.OF_CHECKPOINT},  # as in the checkpoint
    }
    return MetaParameters(read_params(run.checkpoints, step).arrays, about)


def of_file(path: Path) -> MetaParameters:
    """The meta-parameters of an exported file. Raises `UserError` where it is damaged or of another kind."""
    try:
        found = MetaParameters.read(path)
        if problem := shapes.flaw(found.about, {"recipe": str, "step": int, "config": str, **shapes.OF_CHECKPOINT}):
            raise ValueError(problem)
    except ValueError as error:
        raise UserError(
            f"{path}: this is not a file of meta-parameters, or it is damaged ({error}): `vsml export RUN_DIR FILE` "
            "writes one"
        ) from None
    return found


def find(source: str, asked_by: str) -> tuple[Path, Which]:
    """Where meta-parameters named as above are: a run directory or a file, and which checkpoint of it.

    Raises `UserError`, which begins with `asked_by`, where there is neither.
    """
    if pretrained.is_name(source):
        return pretrained.path_of(source), "newest"
    found = None if Path(source).exists() else re.fullmatch(r"(.+)@(newest|best|\d+)", source)
    path = Path(found[1] if found else source)
    if not (path.is_dir() or path.is_file()):
        choices = (
            ": name a run directory, a checkpoint of one as RUN_DIR@300 or RUN_DIR@best, a file of `vsml export`, or "
            "pretrained:NAME"
        )
        near = pretrained.suggest(path)
        raise UserError(f"{asked_by}: there is no {path} (relative to the working directory){near or choices}")
    if found and path.is_file():
        raise UserError(f"{asked_by}: {path} is a file and holds one set of meta-parameters: leave out @{found[2]}")
    which = found[2] if found else "newest"
    return path, int(which) if which.isdecimal() else which  # pyright: ignore[reportReturnType]


def of_path(path: Path, which: Which = "newest") -> MetaParameters:
    """The meta-parameters of a run directory, of an exported file or of `pretrained:NAME`.

    Raises `UserError` where there are none.
    """
    there = pretrained.path_of(path)
    if not there.exists():
        step = re.fullmatch(r"(.+)@(newest|best|\d+)", str(path))
        hint = f"; a checkpoint is named by a flag, as in `{step[1]} --checkpoint {step[2]}`" if step else ""
        choices = f": name a run directory or a file of `vsml export`, or pretrained:NAME{hint}"
        raise UserError(f"there is no {path}{pretrained.suggest(path) or choices}")
    if there.is_dir():
        return of_run(there, which)
    if which != "newest":
        raise UserError(f"{path}: a file holds one set of meta-parameters: leave out --checkpoint")
    return of_file(there)


def of(source: str) -> MetaParameters:
    """The meta-parameters that `train.start_from` names. Raises `UserError` where there are none."""
    return of_path(*find(source, "train.start_from"))


@contextmanager
def config_file(path: Path, saved: MetaParameters) -> Iterator[Path]:
    """The gin file that rebuilds the learner: that of the run, or a temporary one."""
    if path.is_dir():
        yield RunDirectory(path).config_gin
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / names.CONFIG_GIN
        copy.write_text(saved.about["config"])
        yield copy


def config_of(path: Path, saved: MetaParameters) -> Config:
    """The config that rebuilds the learner; its recipe is that of meta-training."""
    with config_file(path, saved) as file:
        return replace(configs.load(str(file)), recipe=saved.about["recipe"])


def export(source: Path, path: Path, which: Which = "newest") -> MetaParameters:
    """Writes the meta-parameters that `of_path` reads as one file, whole or not at all.

    Raises `UserError` where that fails.
    """
    if path.suffix != names.EXPORTED:
        raise UserError(f"{path}: exported meta-parameters are a numpy file: let its name end in {names.EXPORTED}")
    found = of_path(source, which)
    write_whole(path, found.to_bytes())
    return found


def task_specs(about: Mapping[str, Any]) -> list[TaskSpec]:
    """The shapes of tasks that meta-parameters were trained on, so that their data need not be there."""

    def from_json(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return [TaskSpec(**{name: from_json(value) for name, value in spec.items()}) for spec in about["specs"]]


def _versions(run: RunDirectory) -> dict[str, Any]:
    try:
        saved = json.loads(run.read(names.ENVIRONMENT))
        return {"vsml": saved["vsml"], "python": saved["python"], **saved["packages"]}
    except (UserError, ValueError, KeyError, TypeError):
        return {}
