"""What was learned, kept: accuracy after learning is switched off, beside that of going on to learn.

    examples 1..n      predicted, then learned from
    examples n+1..T    predicted from the state after example n, which nothing changes any more; and once more, learning

A learner is frozen by throwing away the state that a prediction leaves. What still comes in with the next example is
then what was in flight after example n: with delayed feedback the answer to example n, at every prediction.

Source: this project's; training and test phase of supervised learning, within one lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure, named_after_data
from vsml.evaluation.rollouts import Outcomes, check_learned, check_sizes, mean_over_steps, outcomes_of, run_lifetimes
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Key, Params


@dataclass(frozen=True)
class FrozenAfter:
    """A lifetime that learns from its first `learned` steps, then lives the others twice: frozen, and learning."""

    learner: Learner
    learned: int

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Outcomes:
        """Outcomes with leaves [2, T]: frozen after `learned` steps, and not."""
        state = self.learner.initial_state(shared, key, spec)
        first, rest = (jax.tree.map(lambda leaf, part=part: leaf[part], task.steps) for part in self._parts())
        begun = unroll(self.learner, shared, state, task, steps=first)

        def live_on(learns: bool) -> Outcomes:
            lived = unroll(self.learner, shared, begun.state, task, world=begun.world, steps=rest, learns=learns)
            whole = jax.tree.map(
                lambda *leaves: jnp.concatenate(leaves),
                (begun.outputs, begun.outcomes),
                (lived.outputs, lived.outcomes),
            )
            return outcomes_of(task, *whole)

        return jax.tree.map(lambda *leaves: jnp.stack(leaves), live_on(learns=False), live_on(learns=True))

    def _parts(self) -> tuple[slice, slice]:
        return slice(None, self.learned), slice(self.learned, None)


@dataclass(frozen=True)
class FrozenAccuracy(Evaluator):
    """Runs lifetimes of classification in which learning stops.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from.
      learned: n, the steps of a lifetime that are learned from.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      chunk: lifetimes at once, which bounds memory; None for all.
    """

    name: str
    tasks: TaskDistribution
    learned: int = 100
    lifetimes: int = 32
    seed: int = 0
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        who = "evaluators.FrozenAccuracy"
        check_sizes(who, self.chunk, lifetimes=self.lifetimes)
        if self.learned < 1:
            raise UserError(f"{who}.learned is {self.learned}: set it to 1 or more")

    def check(self) -> None:
        """Raises `UserError` where the data is missing, the tasks know no accuracy, or nothing is left to predict."""
        check_learned("evaluators.FrozenAccuracy", self.name, self.tasks, self.learned)

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner.

        Returns:
          Scores: `frozen_accuracy` over the steps after `learned` without learning, `learning_accuracy` over the same
          steps with learning, `gain_of_learning`, their difference lifetime by lifetime, and `early_accuracy` over the
          steps before. Curves `frozen` and `learning` [lifetimes, T], which are alike up to `learned`.
        """
        self.check()
        spec = self.tasks.spec
        lifetime = FrozenAfter(learner, self.learned)
        shared = jax.device_get(params)
        outcomes = run_lifetimes(lifetime, shared, self.tasks, self.lifetimes, self.seed, self.chunk)
        frozen, learning = (outcomes.measures["accuracy"][:, which] for which in (0, 1))
        weight, chance = outcomes.weight[:, 0], 1 / spec.num_outputs
        late, early = slice(self.learned, None), slice(None, self.learned)
        accuracies = {
            "frozen_accuracy": mean_over_steps(frozen[:, late], weight[:, late]),
            "learning_accuracy": mean_over_steps(learning[:, late], weight[:, late]),
            "early_accuracy": mean_over_steps(learning[:, early], weight[:, early]),
        }
        share = Measure(limits=(0.0, 1.0), chance=chance)
        return Evaluation(
            self.name,
            {**accuracies, "gain_of_learning": accuracies["learning_accuracy"] - accuracies["frozen_accuracy"]},
            headline="frozen_accuracy",
            curves={"frozen": frozen, "learning": learning},
            facts={"examples": spec.length * spec.batch, "learned": self.learned * spec.batch, "chance": chance},
            measures={
                **dict.fromkeys(accuracies, share),
                "frozen": replace(share, title="accuracy, frozen"),
                "learning": replace(share, title="accuracy, learning"),
            },
            note=(
                f"Early: the first {self.learned * spec.batch} examples, learned from. Frozen and learning: the "
                "others, without and with learning."
            ),
        )

    def interim(self) -> None:
        """Not during meta-training."""
        return
