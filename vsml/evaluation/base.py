"""Contract of an evaluator: a frozen learning algorithm goes in, scores per lifetime and curves come out."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vsml.errors import UserError
from vsml.evaluation.statistics import paired, statistics
from vsml.learners.base import Learner
from vsml.metrics import LOSS, title
from vsml.tasks.base import TaskDistribution
from vsml.types import Params

RESERVED = ("lifetimes", "headline", "scores", "curves", "note", "baselines", "label", "fingerprint")
"""Keys of an evaluation in `summary.json` that are no score and no fact."""

LEARNED = "learned algorithm"
"""What an evaluation's own scores and curves are called beside its rivals'."""


@dataclass(frozen=True)
class Measure:
    """How a score or a curve is shown.

    Attributes:
      title: what people are shown; "" for the name with spaces.
      lower_is_better: the lowest is the best, as of a loss.
      limits: lowest and highest possible value, which plots then show; None: plots fit the values.
      chance: what guessing gives, a thin line in plots; None for none.
      places: of a curve that is not over the steps of a lifetime: where its values stand, as numbers on the horizontal
        axis, or as names; () for the steps.
      axis: what the places are.
    """

    title: str = ""
    lower_is_better: bool = False
    limits: tuple[float, float] | None = None
    chance: float | None = None
    places: tuple[float, ...] | tuple[str, ...] = ()
    axis: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The places, where these are names."""
        return tuple(place for place in self.places if isinstance(place, str))

    def positions(self) -> np.ndarray:
        """Where on a horizontal axis the places are [n]."""
        return np.arange(len(self.names)) if self.names else np.asarray(self.places, np.float64)


@dataclass(frozen=True)
class Picture:
    """Rows of small images, as TensorBoard and pages show them.

    Attributes:
      values: [rows, columns, height, width], -1 is black and 1 is white.
      rows: what each row is.
    """

    values: np.ndarray
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Rival:
    """What an evaluation is compared with, on the very same lifetimes.

    Attributes:
      label: what people are shown.
      scores: the same names as the evaluation's, each [lifetimes].
      facts: plain JSON data.
      curves: some or all names of the evaluation's, each [lifetimes, T].
    """

    label: str
    scores: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one evaluator.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names.
      scores: one value per lifetime each: name -> [lifetimes].
      headline: the score that runs are compared by, one of `scores`.
      rivals: others on the same lifetimes, by a name that is a key of `summary.json`.
      curves: name -> [lifetimes, T], or [T]; kept in `evaluations/NAME.npz`.
      facts: plain JSON data, shown beside the scores. `examples` of a lifetime and accuracy of `chance` are usual.
      measures: how scores and curves are shown, by name. What is not named here is better when higher, but for `loss`.
      note: a sentence that says what the scores mean, shown below tables.
      pictures: by name; their values are kept beside the curves as `picture_NAME`.

    Raises:
      UserError: these do not go together.
    """

    name: str
    scores: Mapping[str, np.ndarray]
    headline: str
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    note: str = ""
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def __post_init__(self) -> None:
        who = f"the evaluation '{self.name}'"
        if self.headline not in self.scores:
            raise UserError(f"{who} has no score '{self.headline}', its headline: it has {', '.join(self.scores)}")
        rows = {who: self.scores, **{f"'{key}' in {who}": rival.scores for key, rival in self.rivals.items()}}
        for row, scores in rows.items():
            if set(scores) != set(self.scores):
                raise UserError(f"{row} has the scores {', '.join(scores)}: give all of {', '.join(self.scores)}")
            for name, values in scores.items():
                if np.shape(values) != (self.lifetimes,) or not self.lifetimes:
                    raise UserError(
                        f"{row}: the score '{name}' has the shape {list(np.shape(values))}: give one value for each of "
                        f"{self.lifetimes or 'one or more'} lifetimes, as for '{self.headline}'"
                    )
        for curve in (f for f in ("file", "allow_pickle") if f in self.curves):
            raise UserError(f"{who}: a curve must not be named '{curve}', which numpy takes for itself: rename it")
        for curve, values in self.curves.items():
            if (places := self.measure(curve).places) and len(places) != np.shape(values)[-1]:
                raise UserError(f"{who}: the curve '{curve}' has {np.shape(values)[-1]} values at {len(places)} places")
        for facts in (self.facts, *(rival.facts for rival in self.rivals.values())):
            if taken := sorted(({*facts, *self.scores} & {*RESERVED}) | ({*facts} & {*self.scores})):
                raise UserError(f"{who}: the name '{taken[0]}' is taken: give the score or fact another one")
            try:
                json.dumps(facts)
            except (TypeError, ValueError) as error:
                raise UserError(f"{who}: its facts are not plain JSON data ({error}): convert them") from None

    @property
    def lifetimes(self) -> int:
        """How many there were."""
        return np.size(self.scores[self.headline])

    def measure(self, name: str) -> Measure:
        """How a score or a curve is shown, with its title."""
        measure = self.measures.get(name, Measure(lower_is_better=name == LOSS))
        return measure if measure.title else replace(measure, title=title(name))

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds of it: plain data, scores as by `statistics`, those of rivals also `paired`."""
        return {
            "lifetimes": self.lifetimes,
            **self.facts,
            **_statistics(self.scores),
            "headline": self.headline,
            "scores": {name: asdict(self.measure(name)) for name in self.scores},
            "curves": {name: asdict(self.measure(name)) for name in self.curves},
            "note": self.note,
            "baselines": {
                key: {"label": rival.label, **rival.facts, **self._beside(rival)} for key, rival in self.rivals.items()
            },
        }

    def _beside(self, rival: Rival) -> dict[str, dict[str, Any]]:
        """The scores of a rival, and by how much this evaluation's are above them on the same lifetimes."""
        own, others = ({n: np.asarray(v, np.float64) for n, v in who.scores.items()} for who in (self, rival))
        return {name: {**statistics(others[name]), "paired": paired(own[name], others[name])} for name in own}

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Writes curves and pictures to `directory`/NAME.npz; a failure leaves the file of before, never half of one.

        A rival's curve is named `RIVAL_CURVE`.

        Returns:
          The file. Raises `UserError` where it cannot be written.
        """
        path = Path(directory) / f"{self.name}.npz"
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        curves = dict(self.curves)
        for key, rival in self.rivals.items():
            curves |= {f"{key}_{name}": curve for name, curve in rival.curves.items()}
        curves |= {f"picture_{name}": picture.values for name, picture in self.pictures.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez_compressed(file, **curves)  # pyright: ignore[reportArgumentType]
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            message = f"cannot write {path}: {error.strerror}; make the directory writable or free space"
            raise UserError(message) from error
        return path


class Evaluator(ABC):
    """Meta-test: runs lifetimes with V_M frozen. It names its scores; tables and plots know none of them.

    >>> class Size(Evaluator):
    ...     name = "size"
    ...
    ...     def run(self, learner, params):
    ...         return Evaluation(self.name, {"parameters": np.asarray([len(params), 4])}, headline="parameters")
    >>> Size().run(learner=None, params={"w": 1, "b": 2}).summary["parameters"]["mean"]
    3.0
    """

    name: str

    def check(self) -> None:  # noqa: B027
        """Raises `UserError` for what would stop `run` and shows already, such as missing data.

        Called before meta-training, which may take days.
        """

    @abstractmethod
    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates; the same parameters give the same numbers (an evaluator holds its own seed)."""

    def interim(self) -> Evaluator | None:
        """What runs in its place during meta-training (`train.evaluate_every`): itself, something cheaper, or nothing.

        It has the same name and scores; rivals, which do not depend on V_M, are best left out.
        """
        return self


def named_after_data(name: str, tasks: TaskDistribution) -> str:
    """The name of an evaluator, where `{data}` stands for the data of its tasks."""
    return name.replace("{data}", tasks.data) if "{data}" in name else name


def _statistics(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    return {name: statistics(np.asarray(values, np.float64)) for name, values in scores.items()}
