"""Accuracy of the predictions that a frozen learning algorithm makes over a lifetime, each before it sees the label.

    correct_t = [argmax y^_t = argmax y_t]      cumulative accuracy = mean_t correct_t      t over the T examples
    final accuracy = mean of correct_t over the last tenth of them

Source: the metric of Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.lifetimes import Online, accuracies, run_lifetimes
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.tasks.base import TaskDistribution
from vsml.types import Params

NOTE = "Predictions made before their label is seen. Cumulative: all examples of a lifetime. Final: its last tenth."
ORACLE = "SGD and Adam are tuned on these very lifetimes."


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
      interim_lifetimes: how many during meta-training (`train.evaluate_every`), the first ones; None for all.
    """

    name: str
    tasks: TaskDistribution
    lifetimes: int = 32
    seed: int = 0
    baselines: Baselines | None = None
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)
    interim_lifetimes: int | None = None

    def __post_init__(self) -> None:
        for name in ("lifetimes", "interim_lifetimes"):
            number = getattr(self, name)
            if number is not None and number < 2:
                raise UserError(
                    f"evaluators.OnlineAccuracy.{name} is {number}: set it to 2 or more, or there is no spread"
                )
        if self.chunk is not None and self.chunk < 1:
            raise UserError(f"evaluators.OnlineAccuracy.chunk is {self.chunk}: set it to 1 or more, or to None for all")

    def check(self) -> None:
        """Raises `UserError` where the data is missing or does not fit the tasks."""
        _ = self.tasks.spec

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner, and the baselines beside it.

        Returns:
          Scores `cumulative_accuracy` (the headline), `final_accuracy` and `loss`, as by `lifetimes.accuracies`. Curves
          `correct` and `loss` [lifetimes, T], means over the batch, NaN where no prediction counts. Facts: examples (of
          one lifetime, T * B) and chance (accuracy of guessing). Rivals `best_sgd` and `best_adam` (see `Baselines`).
        """
        spec = self.tasks.spec
        outcomes = run_lifetimes(
            Online(learner), jax.device_get(params), self.tasks, self.lifetimes, self.seed, self.chunk
        )
        rivals = {} if self.baselines is None else self.baselines.run(self.tasks, self.lifetimes, self.seed)
        chance = 1 / spec.num_outputs
        share = Measure(limits=(0.0, 1.0), chance=chance)
        return Evaluation(
            self.name,
            accuracies(outcomes),
            headline="cumulative_accuracy",
            rivals=rivals,
            curves={"correct": outcomes.correct, "loss": outcomes.loss},
            facts={"examples": spec.length * spec.batch, "chance": chance},
            measures={
                "cumulative_accuracy": share,
                "final_accuracy": share,
                "correct": replace(share, title="accuracy"),
                "loss": Measure("loss (nats)", lower_is_better=True),
            },
            note=NOTE + (f" {ORACLE}" if rivals else ""),
        )

    def interim(self) -> OnlineAccuracy:
        """Without baselines, on `interim_lifetimes`."""
        lifetimes = min(self.lifetimes, self.interim_lifetimes or self.lifetimes)
        return replace(self, baselines=None, lifetimes=lifetimes)
