"""What stands beside every evaluation, on its very lifetimes: tuned gradient descent, and classical methods.

    best = argmax over what is tuned of mean over lifetimes of cumulative accuracy

SGD and Adam choose hidden units and learning rate so, recursive least squares the features and the ridge. Choosing in
hindsight is an advantage that no learned algorithm has: being above it means something. Nearest class mean and nearest
neighbour have nothing to tune. Over a few hundred examples these, and not gradient descent, are what has to be beaten.

Source: SGD and Adam are the baselines of Kirsch & Schmidhuber 2021, arXiv 2012.14905 (0 or 160 tanh units); choosing
per evaluation, and the other three, are this project's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vsml.errors import UserError
from vsml.evaluation.base import Rival
from vsml.evaluation.rollouts import Outcomes, UnrolledLifetime, online_scores, predict_online, run_lifetimes
from vsml.evaluation.telling import evaluating
from vsml.hardware import NETWORKS_AT_ONCE, lifetimes_at_once
from vsml.learners.base import Learner
from vsml.learners.gradient_descent import GradientDescent
from vsml.learners.nearest_class_mean import NearestClassMean
from vsml.learners.nearest_neighbour import NearestNeighbour
from vsml.learners.recursive_least_squares import RecursiveLeastSquares
from vsml.learners.unit_length import UnitLength
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array, Key

OptimizerName = Literal["sgd", "adam"]
OPTIMIZERS: dict[OptimizerName, Callable[[Any], optax.GradientTransformation]] = {"sgd": optax.sgd, "adam": optax.adam}
NAMES: dict[OptimizerName, str] = {"sgd": "SGD", "adam": "Adam"}
"""What people call them."""
RLS = "RLS"
MOST_INPUTS = 1024
"""Recursive least squares is tried on so many inputs at most: its time and memory grow with their square."""
MATRICES = 2**30
"""Bytes of what least squares keeps, of all lifetimes and ridges that are computed at once."""


@dataclass(frozen=True)
class Contenders(ABC):
    """Learners that differ in one number, side by side: a `Lifetime`, and what lifetimes share is these numbers."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people are shown while they run."""

    @abstractmethod
    def learner(self, value: Any) -> Learner:
        """The learner with this number, which is traced."""

    @abstractmethod
    def about(self, value: float) -> str:
        """What people are shown of the best of them."""

    @abstractmethod
    def facts(self, value: float) -> dict[str, Any]:
        """Of the best of them."""

    def at_once(self, spec: TaskSpec, values: int, lifetimes: int) -> int:
        """Of how many lifetimes."""
        return NETWORKS_AT_ONCE

    def __call__(self, spec: TaskSpec, shared: Array, task: Task, key: Key) -> Outcomes:
        """Outcomes with leaves [values, T]. All start from the same random numbers."""
        # A copy of the task per value: a product of one input with many networks would first transpose their weights.
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(shared), *leaf.shape)), task)
        return jax.vmap(lambda value, task: self.live(spec, value, task, key))(shared, copies)

    def live(self, spec: TaskSpec, value: Array, task: Task, key: Key) -> Outcomes:
        """The lifetime of one of them, leaves [T]."""
        learner = self.learner(value)
        return predict_online(learner, {}, learner.initial_state({}, key, spec), task)


@dataclass(frozen=True)
class Descents(Contenders):
    """One optimizer and network at many learning rates."""

    optimizer: OptimizerName
    hidden: int

    @property
    def name(self) -> str:
        return f"{NAMES[self.optimizer]}, {self.hidden} hidden"

    def learner(self, value: Any) -> Learner:
        return GradientDescent(OPTIMIZERS[self.optimizer](value), (self.hidden,) if self.hidden else ())

    def about(self, value: float) -> str:
        return f"{self.hidden} hidden, lr {value:g}"

    def facts(self, value: float) -> dict[str, Any]:
        return {"hidden": self.hidden, "learning_rate": value}


@dataclass(frozen=True)
class Regressions(Contenders):
    """Recursive least squares on the same features with many ridges."""

    features: int

    @property
    def name(self) -> str:
        return f"{RLS}, {self._read}"

    @property
    def _read(self) -> str:
        return f"{self.features} ReLU" if self.features else "inputs"

    def learner(self, value: Any) -> Learner:
        return RecursiveLeastSquares(self.features, value)

    def about(self, value: float) -> str:
        return f"{self._read}, ridge {value:g}"

    def facts(self, value: float) -> dict[str, Any]:
        return {"features": self.features, "ridge": value}

    def at_once(self, spec: TaskSpec, values: int, lifetimes: int) -> int:
        size = 4 * values * ((self.features or spec.num_inputs) + 1) ** 2
        return max(1, min(lifetimes_at_once(lifetimes), MATRICES // size))

    def __call__(self, spec: TaskSpec, shared: Array, task: Task, key: Key) -> Outcomes:
        """Outcomes with leaves [values, T], on a CPU one after the other: a matrix then stays in its cache."""
        at_once = lifetimes_at_once(len(shared))
        return jax.lax.map(lambda value: self.live(spec, value, task, key), shared, batch_size=at_once)


class Best(NamedTuple):
    """The best contender."""

    contenders: Contenders
    value: float
    at_grid_edge: bool  # the optimum may lie beyond the values that were tried
    outcomes: Outcomes  # leaves [lifetimes, T]

    def found(self, name: str) -> Found:
        """It, ready to be shown; `name` is what people call its kind."""
        edge = ", the grid's edge" if self.at_grid_edge else ""
        label = f"best {name} ({self.contenders.about(self.value)}{edge})"
        facts = {**self.contenders.facts(self.value), "at_grid_edge": self.at_grid_edge}
        return Found(label, _learner(self.contenders, self.value), self.outcomes, facts)


class Found(NamedTuple):
    """A baseline, and how it does."""

    label: str  # what people are shown
    learner: Learner  # without meta-parameters
    outcomes: Outcomes  # leaves [lifetimes, T]
    facts: Mapping[str, Any]

    @property
    def rival(self) -> Rival:
        """It, beside an evaluation."""
        return Rival(
            label=self.label,
            scores=online_scores(self.outcomes),
            facts=self.facts,
            curves={"correct": self.outcomes.measures["accuracy"], "loss": self.outcomes.loss},
        )


@dataclass(frozen=True)
class Baselines:
    """SGD and Adam (optax defaults) on networks with and without a hidden layer, nearest class mean, nearest neighbour,
    and recursive least squares with and without random features. Each may be left out.

    The grids bracket the best on standardised inputs from 8x8 to 28x28: over 300 to 2,000 examples the best SGD moves
    from .04 (8x8, 300) to .007 (28x28, 2,000), the best Adam from .003 to .0005; over 88 to 500 the best ridge from 1
    (13 inputs) to 1,000 (28x28 inputs), at steps of about 3; halving these would gain less than .003.

    Attributes:
      hidden: numbers of tanh units to try; 0 is no hidden layer.
      sgd_learning_rates: to try with SGD, ascending; () leaves SGD out.
      adam_learning_rates: to try with Adam, ascending; () leaves Adam out.
      nearest_class_mean: whether it is there.
      nearest_neighbour: whether it is there.
      nearest_by_angle: whether nearest neighbour on inputs of one length is there as well.
      rls_features: numbers of random ReLU features to try with recursive least squares; 0 is the inputs themselves,
        tried where they are at most 1,024; () leaves it out.
      ridges: to try with recursive least squares, ascending; () leaves it out.
    """

    hidden: tuple[int, ...] = (0, 160)
    sgd_learning_rates: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08)
    adam_learning_rates: tuple[float, ...] = (0.0002, 0.0005, 0.0008, 0.0015, 0.003, 0.01)
    nearest_class_mean: bool = True
    nearest_neighbour: bool = True
    nearest_by_angle: bool = False
    rls_features: tuple[int, ...] = (0, 512)
    ridges: tuple[float, ...] = (0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 0:
            raise UserError(
                f"evaluators.Baselines.hidden is {self.hidden}: name numbers of units, 0 for no hidden layer"
            )
        if min(self.rls_features, default=0) < 0:
            raise UserError(
                f"evaluators.Baselines.rls_features is {self.rls_features}: name numbers of features, 0 for the inputs"
            )
        for name in ("sgd_learning_rates", "adam_learning_rates", "ridges"):
            values = getattr(self, name)
            if min(values, default=1) <= 0 or list(values) != sorted(set(values)):
                raise UserError(
                    f"evaluators.Baselines.{name} is {values}: name numbers above 0, each once, ascending, or () to "
                    "leave it out"
                )

    @property
    def tuned(self) -> list[str]:
        """What people call those that choose in hindsight."""
        grids = {NAMES["sgd"]: self.sgd_learning_rates, NAMES["adam"]: self.adam_learning_rates}
        return [name for name, values in {**grids, RLS: self.ridges if self.rls_features else ()}.items() if values]

    def run(self, tasks: TaskDistribution, lifetimes: int, seed: int) -> dict[str, Rival]:
        """Rivals on lifetimes 0..n-1 of a seed: the tasks that `run_lifetimes` gives a learner.

        Computed once per process for the same arguments: they do not depend on what is being meta-trained.

        Returns:
          `best_sgd`, `best_adam`, `nearest_class_mean`, `nearest_neighbour`, `nearest_by_angle`, `best_rls`, as far as
          they are asked for.
        """
        return {key: found.rival for key, found in self.found(tasks, lifetimes, seed).items()}

    def found(self, tasks: TaskDistribution, lifetimes: int, seed: int) -> dict[str, Found]:
        """The same with their learners, to be looked at in other ways than by their accuracy."""
        given = (tasks, lifetimes, seed)
        found = {}
        rates: dict[OptimizerName, tuple[float, ...]] = {
            "sgd": self.sgd_learning_rates,
            "adam": self.adam_learning_rates,
        }
        for optimizer, values in rates.items():
            if values:
                contenders = tuple(Descents(optimizer, units) for units in self.hidden)
                found[f"best_{optimizer}"] = _best(contenders, values, *given).found(NAMES[optimizer])
        if self.nearest_class_mean:
            found["nearest_class_mean"] = _alone("nearest class mean", NearestClassMean(), *given)
        if self.nearest_neighbour:
            found["nearest_neighbour"] = _alone("1-nearest neighbour", NearestNeighbour(), *given)
        if self.nearest_by_angle:
            found["nearest_by_angle"] = _alone("1-NN by angle", UnitLength(NearestNeighbour()), *given)
        regressions = tuple(
            Regressions(features) for features in self.rls_features if features or tasks.spec.num_inputs <= MOST_INPUTS
        )
        if regressions and self.ridges:
            found["best_rls"] = _best(regressions, self.ridges, *given).found(RLS)
        return found


@lru_cache(maxsize=64)
def _best(
    contenders: tuple[Contenders, ...], values: tuple[float, ...], tasks: TaskDistribution, lifetimes: int, seed: int
) -> Best:
    candidates = []
    for some in contenders:
        at_once = some.at_once(tasks.spec, len(values), lifetimes)
        with evaluating(some.name):
            outcomes = run_lifetimes(some, np.asarray(values, np.float32), tasks, lifetimes, seed, at_once)
        for i, value in enumerate(values):
            at_edge = i in (0, len(values) - 1)
            candidates.append(Best(some, value, at_edge, jax.tree.map(lambda leaf, i=i: leaf[:, i], outcomes)))
    return max(candidates, key=lambda best: np.mean(online_scores(best.outcomes)["cumulative_accuracy"]))


@lru_cache(maxsize=64)
def _alone(name: str, learner: Learner, tasks: TaskDistribution, lifetimes: int, seed: int) -> Found:
    with evaluating(name):
        outcomes = run_lifetimes(UnrolledLifetime(learner), {}, tasks, lifetimes, seed, NETWORKS_AT_ONCE)
    return Found(name, learner, outcomes, {})


@lru_cache(maxsize=64)
def _learner(contenders: Contenders, value: float) -> Learner:
    """The same one each time: compiled programs are found again by it."""
    return contenders.learner(value)
