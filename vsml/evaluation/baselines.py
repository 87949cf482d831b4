"""The oracle beside every evaluation: SGD and Adam, tuned on the very lifetimes that they are scored on.

    best_o = argmax over hidden units h and learning rates r of mean over lifetimes of cumulative accuracy(o, h, r)

Choosing in hindsight gives gradient descent an advantage that no learned algorithm has: being above it means something.

Source: the baselines of Kirsch & Schmidhuber 2021, arXiv 2012.14905 (0 or 160 tanh units); choosing the learning rate
per evaluation is this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vsml.errors import UserError
from vsml.evaluation.base import Rival
from vsml.evaluation.rollouts import Outcomes, online_scores, predict_online, run_lifetimes
from vsml.evaluation.telling import evaluating
from vsml.hardware import NETWORKS_AT_ONCE
from vsml.learners.gradient_descent import GradientDescent
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array, Key

OptimizerName = Literal["sgd", "adam"]
OPTIMIZERS: dict[OptimizerName, Callable[[Any], optax.GradientTransformation]] = {"sgd": optax.sgd, "adam": optax.adam}
NAMES: dict[OptimizerName, str] = {"sgd": "SGD", "adam": "Adam"}
"""What people call them."""


class Best(NamedTuple):
    """The best contender of one optimizer."""

    hidden: int
    learning_rate: float
    at_grid_edge: bool  # the optimum may lie beyond the learning rates that were tried
    outcomes: Outcomes  # leaves [lifetimes, T]

    def rival(self, optimizer: str) -> Rival:
        """It, beside an evaluation; `optimizer` is what people call it."""
        edge = ", the grid's edge" if self.at_grid_edge else ""
        return Rival(
            label=f"best {optimizer} ({self.hidden} hidden, lr {self.learning_rate:g}{edge})",
            scores=online_scores(self.outcomes),
            facts={"hidden": self.hidden, "learning_rate": self.learning_rate, "at_grid_edge": self.at_grid_edge},
            curves={"correct": self.outcomes.measures["accuracy"], "loss": self.outcomes.loss},
        )


@dataclass(frozen=True)
class Baselines:
    """SGD and Adam (optax defaults) on networks with and without a hidden layer, at a grid of learning rates.

    The grids bracket the best on standardised inputs from 8x8 to 28x28 over 300 to 2,000 examples, at steps of about 2
    around it: the best SGD moves from .04 (8x8, 300) to .007 (28x28, 2,000), the best Adam from .003 to .0005.

    Attributes:
      hidden: numbers of tanh units to try; 0 is no hidden layer.
      sgd_learning_rates: to try with SGD, ascending.
      adam_learning_rates: to try with Adam, ascending.
    """

    hidden: tuple[int, ...] = (0, 160)
    sgd_learning_rates: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08)
    adam_learning_rates: tuple[float, ...] = (0.0002, 0.0005, 0.0008, 0.0015, 0.003, 0.01)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 0:
            raise UserError(
                f"evaluators.Baselines.hidden is {self.hidden}: name numbers of units, 0 for no hidden layer"
            )
        for name in ("sgd_learning_rates", "adam_learning_rates"):
            rates = getattr(self, name)
            if not rates or min(rates) <= 0 or list(rates) != sorted(set(rates)):
                raise UserError(f"evaluators.Baselines.{name} is {rates}: name rates above 0, each once, ascending")

    def run(self, tasks: TaskDistribution, lifetimes: int, seed: int) -> dict[str, Rival]:
        """`best_sgd` and `best_adam` on lifetimes 0..n-1 of a seed: the tasks that `run_lifetimes` gives a learner.

        Computed once per process for the same arguments: they do not depend on what is being meta-trained.
        """
        return {
            "best_sgd": _best("sgd", self.hidden, self.sgd_learning_rates, tasks, lifetimes, seed).rival(NAMES["sgd"]),
            "best_adam": _best("adam", self.hidden, self.adam_learning_rates, tasks, lifetimes, seed).rival(
                NAMES["adam"]
            ),
        }


@dataclass(frozen=True)
class Contenders:
    """One optimizer and network at many learning rates, side by side; what lifetimes share is the rates."""

    optimizer: OptimizerName
    hidden: int

    def __call__(self, spec: TaskSpec, shared: Array, task: Task, key: Key) -> Outcomes:
        """Outcomes with leaves [rates, T]. All rates start from the same weights."""

        def at(rate: Array, task: Task) -> Outcomes:
            learner = GradientDescent(OPTIMIZERS[self.optimizer](rate), (self.hidden,) if self.hidden else ())
            return predict_online(learner, {}, learner.initial_state({}, key, spec), task)

        # A copy of the task per rate: a product of one input with many networks would first transpose their weights.
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(shared), *leaf.shape)), task)
        return jax.vmap(at)(shared, copies)


@lru_cache(maxsize=64)
def _best(
    optimizer: OptimizerName,
    hidden: tuple[int, ...],
    rates: tuple[float, ...],
    tasks: TaskDistribution,
    lifetimes: int,
    seed: int,
) -> Best:
    candidates = []
    for units in hidden:
        contenders = Contenders(optimizer, units)
        with evaluating(f"{NAMES[optimizer]}, {units} hidden"):
            outcomes = run_lifetimes(
                contenders, np.asarray(rates, np.float32), tasks, lifetimes, seed, NETWORKS_AT_ONCE
            )
        for i, rate in enumerate(rates):
            at_edge = i in (0, len(rates) - 1)
            candidates.append(Best(units, rate, at_edge, jax.tree.map(lambda leaf, i=i: leaf[:, i], outcomes)))
    return max(candidates, key=lambda best: np.mean(online_scores(best.outcomes)["cumulative_accuracy"]))
