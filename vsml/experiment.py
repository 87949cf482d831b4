"""An experiment: the parts of one meta-training and its numbers. gin's one injected root, `train`, builds it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import optax

from vsml.errors import UserError
from vsml.evaluation.base import Evaluator
from vsml.fields import EVALUATES, FOLLOWS_STEPS, MAY_CHANGE
from vsml.hardware import Precision
from vsml.learners.base import Learner
from vsml.meta_optimizers import MetaOptimizer
from vsml.objectives import LinearObjective, Objective
from vsml.tasks.base import Share, TaskDistribution, TaskSpec
from vsml.tasks.mixture import Mixture


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
      start_from: the meta-parameters to begin with: a run directory (its newest checkpoint), a checkpoint of one
        (`runs/quickstart@300`, `runs/quickstart@best`) or a file of `vsml export`, relative to the working directory,
        or `pretrained:NAME`; None for fresh ones. Optimizer and estimator are fresh.
      evaluators: run with V_M frozen at the end of meta-training.
      deployed: the learner that evaluations, `vsml.load` and the estimator give V_M to: what is meta-trained small, or
        with other settings, is used at full size. Its meta-parameters have the shapes of those of `learner`, and None
        stands for that one.
      parallel: how the population is spread over devices; both give the same numbers.
      precision: of matrix products, in meta-training and evaluation: `float32` is exact on every device, `bfloat16`
        rounds operands, which accelerators are much faster with.
      log_every: meta-steps between two entries of `metrics.jsonl` and TensorBoard.
      plot_every: meta-steps between two learning-curve images and histograms of V_M in TensorBoard.
      checkpoint_every: meta-steps between two checkpoints, of which the newest two and the best are kept.
      keep_every: meta-steps between two checkpoints that are kept beside these, a multiple of `checkpoint_every`: what
        `vsml introspect` looks at over meta-training. None keeps no others.
      evaluate_every: meta-steps between two evaluations of V_M as it is by then, which change nothing of the run; None
        for none before the end.
      max_non_finite: meta-training stops after this many non-finite meta-gradients in a row; until then each is
        skipped.
      profile_steps: [first, last], counted from 1: these meta-steps are traced for TensorBoard's PROFILE tab (extra
        `profile`); None traces none. A few are enough: a trace of many is too large to be shown.
    """

    learner: Learner
    tasks: TaskDistribution | Mixture
    objective: Objective
    meta_optimizer: MetaOptimizer
    optimizer: optax.GradientTransformation = field(metadata=FOLLOWS_STEPS)
    steps: int = field(metadata=MAY_CHANGE)
    population: int
    seed: int = 0
    start_from: str | None = None
    evaluators: tuple[Evaluator, ...] = field(default=(), metadata=EVALUATES)
    deployed: Learner | None = field(default=None, metadata=EVALUATES)
    parallel: Literal["pmap", "shard_map"] = field(default="pmap", metadata=MAY_CHANGE)
    precision: Precision = "float32"
    log_every: int = field(default=10, metadata=MAY_CHANGE)
    plot_every: int = field(default=100, metadata=MAY_CHANGE)
    checkpoint_every: int = field(default=100, metadata=MAY_CHANGE)
    keep_every: int | None = field(default=None, metadata=MAY_CHANGE)
    evaluate_every: int | None = field(default=None, metadata=MAY_CHANGE)
    max_non_finite: int = field(default=20, metadata=MAY_CHANGE)
    profile_steps: tuple[int, int] | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        for name in ("steps", "population", "log_every", "plot_every", "checkpoint_every", "max_non_finite"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}: set it to 1 or more")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise UserError(f"train.evaluate_every is {self.evaluate_every}: set it to 1 or more, or to None for never")
        if self.keep_every is not None and (self.keep_every < 1 or self.keep_every % self.checkpoint_every):
            raise UserError(
                f"train.keep_every is {self.keep_every}: set it to a multiple of train.checkpoint_every, which is "
                f"{self.checkpoint_every}, or to None"
            )
        if self.profile_steps is not None:
            first, last = self.profile_steps
            if not 1 <= first <= last <= self.steps:
                raise UserError(
                    f"train.profile_steps is {[first, last]}: give the first and the last meta-step to trace, of 1 to "
                    f"{self.steps}"
                )
        if self.meta_optimizer.cuts_lifetimes and not isinstance(self.objective, LinearObjective):
            raise UserError(
                f"meta_optimizers.{type(self.meta_optimizer).__name__} cuts lifetimes into windows, but the loss of "
                f"objectives.{type(self.objective).__name__} is not a weighted sum over predictions: change one of "
                "the two"
            )
        names = [evaluator.name for evaluator in self.evaluators]
        for name in names:
            if not re.fullmatch(r"[\w-]+", name):
                raise UserError(f"an evaluator's name is '{name}', but it names a file: use letters, digits, '_', '-'")
            if names.count(name) > 1:
                raise UserError(f"two evaluators are named '{name}': give each its own name")
        _ = self.shares

    @property
    def learner_in_use(self) -> Learner:
        """What learns with V_M once it is meta-trained."""
        return self.learner if self.deployed is None else self.deployed

    @property
    def shares(self) -> tuple[Share, ...]:
        """Who lives on what. Raises `UserError` where the population is too small for the mixture."""
        return self.tasks.share_out(self.population)

    @property
    def spec(self) -> TaskSpec:
        """The shape of task that meta-parameters are drawn for: in a mixture they do not depend on it."""
        return self.shares[0].tasks.spec

    @property
    def specs(self) -> tuple[TaskSpec, ...]:
        """The shape of the tasks of each share."""
        return tuple(share.tasks.spec for share in self.shares)

    def load(self) -> tuple[Any, ...]:
        """The arrays that tasks are drawn from, by share."""
        return tuple(share.tasks.load() for share in self.shares)
