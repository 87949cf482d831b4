"""Accuracy of the predictions that a frozen learning algorithm makes over a lifetime, each before it sees the label.

    correct_t = [argmax y^_t = argmax y_t]      cumulative accuracy = mean_t correct_t      t over the T examples
    final accuracy = mean of correct_t over the last tenth of them

Source: the metric of Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from vsml.evaluation.base import Evaluation, Measure
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.online import Online
from vsml.learners.base import Learner
from vsml.types import Params

NOTE = "Predictions made before their label is seen. Cumulative: all examples of a lifetime. Final: its last tenth."


@dataclass(frozen=True)
class OnlineAccuracy(Online):
    """Runs lifetimes of classification on tasks of one distribution, all determined by `seed`.

    Attributes:
      baselines: run on the very same tasks, shown beside; None for none.
    """

    headline: str = "cumulative_accuracy"
    baselines: Baselines | None = None

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner, and the baselines beside it.

        Returns:
          Scores `cumulative_accuracy`, `final_accuracy` and `loss` in nats, as by `Online`. Curves `correct` and
          `loss` [lifetimes, T], means over the batch, NaN where no prediction counts. Facts: examples (of one lifetime,
          T * B) and chance (accuracy of guessing). Rivals as by `Baselines.run`.
        """
        online = super().run(learner, params)
        rivals = {} if self.baselines is None else self.baselines.run(self.tasks, self.lifetimes, self.seed)
        chance = 1 / self.tasks.spec.num_outputs
        share = Measure(limits=(0.0, 1.0), chance=chance)
        return replace(
            online,
            rivals=rivals,
            curves={"correct": online.curves["accuracy"], "loss": online.curves["loss"]},
            facts={**online.facts, "chance": chance},
            measures={
                **online.measures,
                "cumulative_accuracy": share,
                "final_accuracy": share,
                "correct": replace(share, title="accuracy"),
                "loss": Measure("loss (nats)", lower_is_better=True),
            },
            note=self._note(),
        )

    def _note(self) -> str:
        if self.baselines is None or not self.baselines.tuned:
            return NOTE
        *others, last = self.baselines.tuned
        tuned = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return f"{NOTE} {tuned} tuned on these very lifetimes."

    def interim(self) -> Self:
        """Without baselines, on `interim_lifetimes`."""
        return replace(super().interim(), baselines=None)
