"""What the predictions that a frozen learning algorithm makes over a lifetime are worth, each before its answer.

    cumulative_m = mean_t m_t over the T steps as they count      final_m = the same over the last tenth of them

m is whatever the task measures: accuracy of classification, squared error of regression, reward of a bandit; and its
loss. This evaluator goes with tasks of any kind; `online_accuracy` adds what is special of classification.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import jax

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure, named_after_data
from vsml.evaluation.rollouts import Outcomes, UnrolledLifetime, check_sizes, measures_of, online_scores, run_lifetimes
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.tasks.base import TaskDistribution
from vsml.types import Params


@dataclass(frozen=True)
class Online(Evaluator):
    """Runs lifetimes on tasks of one distribution, all determined by `seed`.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      headline: the score that runs are compared by: `loss`, or `cumulative_` or `final_` before a measure of the task.
      lower_is_better: measures of the task of which less is better; of all others more is, but for the loss.
      chunk: lifetimes at once, which bounds memory; None for all.
      interim_lifetimes: how many during meta-training (`train.evaluate_every`), the first ones; None for all.
    """

    name: str
    tasks: TaskDistribution
    lifetimes: int = 32
    seed: int = 0
    headline: str = "loss"
    lower_is_better: tuple[str, ...] = ("squared_error",)
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)
    interim_lifetimes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        who = f"evaluators.{type(self).__name__}"
        check_sizes(who, self.chunk, lifetimes=self.lifetimes, interim_lifetimes=self.interim_lifetimes)

    def check(self) -> None:
        """Raises `UserError` where the data is missing or does not fit the tasks, or these have no such headline."""
        _ = self.tasks.spec
        scores = [f"{part}_{name}" for name in measures_of(self.tasks) for part in ("cumulative", "final")]
        if self.headline not in (*scores, "loss"):
            raise UserError(
                f"evaluators.{type(self).__name__}.headline is '{self.headline}', but the tasks of {self.name} give "
                f"{', '.join([*scores, 'loss'])}: choose one of these"
            )

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner.

        Returns:
          Scores as by `online_scores`. Curves [lifetimes, T]: `loss` and the measures of the task, means over the
          batch, NaN where no prediction counts. Facts: examples of one lifetime, T * B.
        """
        return self.evaluation(self.outcomes(learner, params))

    def evaluation(self, outcomes: Outcomes) -> Evaluation:
        """What leaves [lifetimes, T] are worth."""
        lower = [f"{part}{name}" for name in self.lower_is_better for part in ("", "cumulative_", "final_")]
        return Evaluation(
            self.name,
            online_scores(outcomes),
            headline=self.headline,
            curves={**outcomes.measures, "loss": outcomes.loss},
            facts={"examples": self.tasks.spec.length * self.tasks.spec.batch},
            measures={name: Measure(lower_is_better=True) for name in (*lower, "loss")},
            note="Predictions made before their answer. Cumulative: all examples of a lifetime. Final: its last tenth.",
        )

    def outcomes(self, learner: Learner, params: Params) -> Outcomes:
        """How the predictions turned out, leaves [lifetimes, T]."""
        shared = jax.device_get(params)
        return run_lifetimes(UnrolledLifetime(learner), shared, self.tasks, self.lifetimes, self.seed, self.chunk)

    def interim(self) -> Self:
        """On `interim_lifetimes`."""
        return replace(self, lifetimes=min(self.lifetimes, self.interim_lifetimes or self.lifetimes))
