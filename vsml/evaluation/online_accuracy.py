"""Accuracy of the predictions that a frozen learning algorithm makes over a lifetime, each before it sees the label.

    correct_t = [argmax y^_t = argmax y_t]      cumulative accuracy = mean_t correct_t      t over the T examples
    final accuracy = mean of correct_t over the last tenth of them

Source: the metric of Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import jax

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.lifetimes import Online, accuracies, run_lifetimes
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.tasks.base import TaskDistribution
from vsml.types import Params


@dataclass(frozen=True)
class OnlineAccuracy(Evaluator):
    """Runs lifetimes on tasks of one distribution, all determined by `seed`.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names.
      tasks: what each lifetime's task is drawn from.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      baselines: run on the very same tasks, shown beside; None for none.
      chunk: lifetimes at once, which bounds memory; None for all.
    """

    name: str
    tasks: TaskDistribution
    lifetimes: int = 32
    seed: int = 0
    baselines: Baselines | None = None
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise UserError(
                f"evaluators.OnlineAccuracy.name is '{self.name}', but it names a file: use letters, digits, '_', '-'"
            )
        if self.lifetimes < 2:
            raise UserError(
                f"evaluators.OnlineAccuracy.lifetimes is {self.lifetimes}: set it to 2 or more, or there is no spread"
            )
        if self.chunk is not None and self.chunk < 1:
            raise UserError(f"evaluators.OnlineAccuracy.chunk is {self.chunk}: set it to 1 or more, or to None for all")

    def check(self) -> None:
        """Raises `UserError` where the data is missing or does not fit the tasks."""
        _ = self.tasks.spec

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner, and the baselines beside it.

        Returns:
          `summary`: examples (of one lifetime, T * B), lifetimes, `cumulative_accuracy`, `final_accuracy` and `loss`
          (mean, std and interval95 as by `lifetimes.statistics`), chance (accuracy of guessing), and baselines:
          `best_sgd` and `best_adam` (see `Baselines`), {} without any.
          `curves`: `correct` and `loss` [lifetimes, T], means over the batch, NaN where no prediction counts; the same
          of each baseline as `best_sgd_correct`, `best_sgd_loss`, ...
        """
        spec = self.tasks.spec
        outcomes = run_lifetimes(
            Online(learner), jax.device_get(params), self.tasks, self.lifetimes, self.seed, self.chunk
        )
        rivals = {} if self.baselines is None else self.baselines.run(self.tasks, self.lifetimes, self.seed)
        summary = {
            "examples": spec.length * spec.batch,
            "lifetimes": self.lifetimes,
            **accuracies(outcomes),
            "chance": 1 / spec.num_outputs,
            "baselines": {name: best.summary for name, best in rivals.items()},
        }
        curves = {"correct": outcomes.correct, "loss": outcomes.loss}
        for name, best in rivals.items():
            curves |= {f"{name}_correct": best.outcomes.correct, f"{name}_loss": best.outcomes.loss}
        return Evaluation(self.name, summary, curves)
