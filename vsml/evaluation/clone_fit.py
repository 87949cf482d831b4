"""How exactly sub-RNNs do what backprop does at a weight, on states that cloning has not seen.

    r2_alone_m   R2 of the term m for sub-RNNs that live alone, on random messages
    r2_met_m     for those of a clone that learns a task, all of its lifetime

Source: the terms of `objectives.Cloning`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from vsml.evaluation.base import Evaluation, Evaluator, Measure, named_after_data
from vsml.evaluation.rollouts import check_sizes, run_lifetimes
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.learners.vsml import VSML
from vsml.objectives.cloning import Cloning, Terms, clonable
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Key, Params


@dataclass(frozen=True)
class FitOfLifetime:
    """Regresses sub-RNNs at the beginning of a lifetime and over all of it."""

    clone: VSML
    cloning: Cloning

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> dict[str, Terms]:
        state_key, *keys = jax.random.split(key, 3)
        state = self.clone.initial_state(shared, state_key, spec)
        lived = {
            "alone": self.cloning.drawn(self.clone, shared, state, keys[0]),
            "met": self.cloning.met(self.clone, shared, state, task, keys[1]),
        }
        return {where: self.cloning.unexplained(self.clone, shared, visits) for where, visits in lived.items()}


@dataclass(frozen=True)
class CloneFit(Evaluator):
    """R2 of each term of cloning, in lifetimes that are all determined by `seed`.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from.
      objective: the cloning: `%OBJECTIVE` where meta-training is cloning.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks, initial states and which sub-RNNs are visited.
      chunk: lifetimes at once, which bounds memory; None for all.
    """

    name: str
    tasks: TaskDistribution
    objective: Cloning
    lifetimes: int = 8
    seed: int = 0
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        check_sizes("evaluators.CloneFit", self.chunk, lifetimes=self.lifetimes)

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a clone.

        Returns:
          Scores `r2_alone_TERM` and `r2_met_TERM`, and `r2`, the lowest of these.
        """
        lifetime = FitOfLifetime(clonable(learner), self.objective)
        told: Any = run_lifetimes(lifetime, jax.device_get(params), self.tasks, self.lifetimes, self.seed, self.chunk)
        scores = {
            f"r2_{where}_{term}": 1 - share.astype(np.float64)
            for where, unexplained in told.items()
            for term, share in unexplained._asdict().items()
        }
        scores = {"r2": np.min(list(scores.values()), axis=0), **scores}
        titles = {name: name.replace("r2", "R2", 1).replace("_", " ") for name in scores}
        return Evaluation(
            self.name,
            scores,
            headline="r2",
            facts={"examples": self.tasks.spec.length * self.tasks.spec.batch},
            measures={name: Measure(title) for name, title in titles.items()} | {"r2": Measure("lowest R2")},
            note="R2 of what sub-RNNs send and change, by term. Alone: on random messages. Met: in a running clone.",
        )
