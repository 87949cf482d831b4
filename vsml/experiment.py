"""An experiment: the parts of one meta-training and its numbers. gin's one injected root, `train`, builds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import optax

from vsml.errors import UserError
from vsml.evaluation.base import Evaluator
from vsml.learners.base import Learner
from vsml.meta_optimizers import MetaOptimizer, Truncated
from vsml.objectives import LinearObjective, Objective
from vsml.precision import Precision
from vsml.tasks.base import TaskDistribution, TaskSpec
from vsml.tasks.mixture import Mixture


class Share(NamedTuple):
    """The part of the population that lives on tasks of one distribution."""

    name: str  # "" where there is one distribution only
    tasks: TaskDistribution
    members: int


@dataclass(frozen=True)
class Experiment:
    """What to meta-train, how, and what to measure afterwards.

    Attributes:
      learner: the learning algorithm whose meta-parameters V_M are trained.
      tasks: what its lifetimes are drawn from: one distribution, or several at once.
      objective: loss of a lifetime.
      meta_optimizer: estimator of the meta-gradient.
      optimizer: the update, any optax transformation.
      steps: meta-steps.
      population: lifetimes per meta-step (pairs of lifetimes for ES), spread over all devices.
      seed: of everything random.
      evaluators: run with V_M frozen at the end of meta-training.
      parallel: how the population is spread over devices; both give the same numbers.
      precision: of matrix products, in meta-training and evaluation: `float32` is exact on every device, `bfloat16`
        rounds operands, which accelerators are much faster with.
      log_every: meta-steps between two entries of `metrics.jsonl` and TensorBoard.
      plot_every: meta-steps between two learning-curve images and histograms of V_M in TensorBoard.
      checkpoint_every: meta-steps between two checkpoints.
      evaluate_every: meta-steps between two evaluations of V_M as it is by then, which change nothing of the run; None
        for none before the end.
      max_non_finite: meta-training stops after this many non-finite meta-gradients in a row; until then each is
        skipped.
    """

    learner: Learner
    tasks: TaskDistribution | Mixture
    objective: Objective
    meta_optimizer: MetaOptimizer
    optimizer: optax.GradientTransformation
    steps: int
    population: int
    seed: int = 0
    evaluators: tuple[Evaluator, ...] = ()
    parallel: Literal["pmap", "shard_map"] = "pmap"
    precision: Precision = "float32"
    log_every: int = 10
    plot_every: int = 100
    checkpoint_every: int = 100
    evaluate_every: int | None = None
    max_non_finite: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "population", "log_every", "plot_every", "checkpoint_every", "max_non_finite"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}: set it to 1 or more")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise UserError(f"train.evaluate_every is {self.evaluate_every}: set it to 1 or more, or to None for never")
        if isinstance(self.meta_optimizer, Truncated) and not isinstance(self.objective, LinearObjective):
            raise UserError(
                f"meta_optimizers.{type(self.meta_optimizer).__name__} cuts lifetimes into windows, but the loss of "
                f"objectives.{type(self.objective).__name__} is no weighted sum over predictions: exchange one of them"
            )
        names = [evaluator.name for evaluator in self.evaluators]
        for name in names:
            if not re.fullmatch(r"[\w-]+", name):
                raise UserError(f"an evaluator's name is '{name}', but it names a file: use letters, digits, '_', '-'")
            if names.count(name) > 1:
                raise UserError(f"two evaluators are named '{name}': give each its own name")
        _ = self.shares

    @property
    def shares(self) -> tuple[Share, ...]:
        """Who lives on what. Raises `UserError` where the population is too small for the mixture."""
        if isinstance(self.tasks, Mixture):
            members = self.tasks.deal(self.population)
            return tuple(map(Share, self.tasks.names, self.tasks.tasks, members))
        return (Share("", self.tasks, self.population),)

    @property
    def spec(self) -> TaskSpec:
        """The shape of task that meta-parameters are drawn for: in a mixture they do not depend on it."""
        return self.shares[0].tasks.spec

    def load(self) -> tuple[Any, ...]:
        """The arrays that tasks are drawn from, by share."""
        return tuple(share.tasks.load() for share in self.shares)
