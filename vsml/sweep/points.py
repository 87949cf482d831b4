"""From a sweep file to its points: the `vsml train` command of each one, in an order that never changes.

    points = product over the axes in the order they are written, the last one fastest; zipped axes count as one, at the
             place of their first

`load` is pure and deterministic: every process, here or on a cluster, gets the same points from the same words.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsml import config as configs
from vsml.config import Axis, Choice, Config, Override, SweepFile
from vsml.errors import UserError

LONGEST_NAME = 200
"""Characters of a point's name, which is that of a directory; file systems take 255 bytes."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep: `vsml train RECIPE OVERRIDES --run_dir DIRECTORY/NAME`."""

    index: int
    name: str  # `learner=vsml,seed=0`: unique, fit for a directory
    labels: Mapping[str, str]  # axis -> label of its point
    recipe: str
    overrides: tuple[str, ...]
    places: tuple[str, ...]  # where each override was written, for messages
    config: Config  # checked

    def run_directory(self, sweep_directory: Path) -> Path:
        """Its run directory."""
        return sweep_directory / self.name


@dataclass(frozen=True)
class Refused:
    """A combination that makes no sense, left out because the sweep file says so."""

    name: str
    labels: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class Sweep:
    """A declared set of runs."""

    file: str
    words: tuple[str, ...]  # of the command line
    recipe: str
    shared: tuple[str, ...]  # the overrides that every point begins with
    tags: tuple[str, ...]
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]  # points[i].index == i
    refused: tuple[Refused, ...]
    extend: bool = False  # whether points trained for another number of meta-steps go on to the one asked for

    @property
    def name(self) -> str:
        """The file's, without folder and suffix."""
        return Path(self.file).stem

    def point(self, index: int) -> Point:
        """The point with this index. Raises `UserError` where there is none."""
        if not 0 <= index < len(self.points):
            raise UserError(f"--index {index}: {self.file} has the points 0..{len(self.points) - 1}; --list shows them")
        return self.points[index]


def load(file: str, words: Sequence[str] = ()) -> Sweep:
    """Reads a sweep file and checks every point: nothing is compiled, no data is read.

    Args:
      file: `sharing`, `sweeps/sharing.gin`, or a path.
      words: gin files and KEY=VALUE for every point; `axes.KEY=[...]` and `sweep.KEY=VALUE` change the sweep itself.

    Raises:
      UserError: the first thing that is wrong, with file, line and point. Where `sweep.skip_refused` is set, a
        combination that is refused, or is the same experiment as an earlier one, is listed in `refused` instead.
    """
    described = configs.read_sweep(file, words)
    points: list[Point] = []
    refused: list[Refused] = []
    seen: dict[str, str] = {}  # the text of a config -> the point that has it
    for choices in _combinations(described):
        labels = {axis: choice.label for axis, choice in choices.items()}
        name = _name(labels)
        overrides = [*described.shared, *(o for choice in choices.values() for o in choice.overrides)]
        try:
            config = _check(described.recipe, overrides)
            if config.text in seen:
                raise UserError(f"{described.path}: it is the same experiment as {seen[config.text]}")
        except UserError as error:
            refused.append(Refused(name, labels, str(error)))
            continue
        seen[config.text] = name
        texts, places = tuple(o.text for o in overrides), tuple(o.place for o in overrides)
        points.append(Point(len(points), name, labels, described.recipe, texts, places, config))
    _complain(points, refused, described.skip_refused)
    return Sweep(
        file=described.path,
        words=tuple(words),
        recipe=described.recipe,
        shared=tuple(override.text for override in described.shared),
        tags=described.tags,
        axes=described.axes,
        points=tuple(points),
        refused=tuple(refused),
        extend=described.extend,
    )


def _complain(points: Sequence[Point], refused: Sequence[Refused], may_skip: bool) -> None:
    """Raises for the first refused point; one may be left out where each of its labels is in some other point."""
    possible = {label for point in points for label in point.labels.items()}
    for point in refused:
        if not possible.issuperset(point.labels.items()):  # a mistake of its own, such as a typo
            raise UserError(f"{point.reason} (in point {point.name})")
    if refused and not may_skip:
        leave_out = "sweep.skip_refused = True leaves such points out"
        raise UserError(f"{refused[0].reason} (in point {refused[0].name}); {leave_out}")


def _combinations(described: SweepFile) -> Iterable[dict[str, Choice]]:
    """Axis -> its choice, for every point in order."""
    groups: dict[str, list[Axis]] = {}
    for axis in described.axes:
        groups.setdefault("/zip" if axis.name in described.zipped else axis.name, []).append(axis)
    steps = [list(zip(*(axis.choices for axis in group), strict=True)) for group in groups.values()]
    names = [[axis.name for axis in group] for group in groups.values()]
    for combination in itertools.product(*steps):
        chosen = {
            name: choice
            for group, choices in zip(names, combination, strict=True)
            for name, choice in zip(group, choices, strict=True)
        }
        yield {axis.name: chosen[axis.name] for axis in described.axes}


def _name(labels: Mapping[str, str]) -> str:
    """A directory name; where it had to be changed, a digest keeps it unique."""
    plain = ",".join(f"{axis}={label}" for axis, label in labels.items())
    name = re.sub(r"[^\w.,=+-]+", "_", plain)
    if len(name) <= LONGEST_NAME and re.sub(r"\s+", "_", plain) == name:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(json.dumps(dict(labels)).encode()).hexdigest()[:8]}"


def _check(recipe: str, overrides: Sequence[Override]) -> Config:
    """The config of a point, built once to check it."""
    config = configs.load(recipe, [o.text for o in overrides], [o.place for o in overrides])
    config.build()
    return config
