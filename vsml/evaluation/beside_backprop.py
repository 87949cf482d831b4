"""A clone beside the backprop that it is a clone of: the same lifetimes, learning rates and initial weights.

Both predict the examples of a lifetime online. At its end r is Pearson's correlation between the clone's weights w of
all layers and backprop's, and between what has become of them since the start:

    weight_correlation = r(w^, w)      change_correlation = r(w^ - w_0, w - w_0)

Backprop is the exact one of `cells.Bilinear`, in the clone's own network.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.1 and Fig. 4; the measures are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vsml.cells.bilinear import Bilinear
from vsml.evaluation.base import Evaluation, Measure, Rival
from vsml.evaluation.online import Online
from vsml.evaluation.rollouts import Outcomes, online_scores, outcomes_of, run_lifetimes
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.learners.vsml import VSML
from vsml.objectives.cloning import Cloning, clonable
from vsml.sharing.shared import Shared
from vsml.tasks.base import Task, TaskSpec
from vsml.types import Array, Key, Params, State


class Together(NamedTuple):
    """A lifetime of a clone and of backprop."""

    clone: Outcomes
    backprop: Outcomes
    alike: Array  # [T], 1 where both predict the same class
    weight_correlation: Array
    change_correlation: Array


@dataclass(frozen=True)
class Teacher:
    """The backprop that a clone of the objective `cloning` should follow, in a network like that of `clone`."""

    clone: VSML
    cloning: Cloning

    @property
    def learner(self) -> VSML:
        """Exact stochastic gradient descent."""
        cell = Bilinear(
            rank=5,
            start="backprop",
            learning_rate=self.cloning.learning_rate,
            bias_learning_rate=self.cloning.bias_learning_rate,
        )
        return replace(self.clone, cell=cell, sharing=Shared(), micro_ticks=1, feed_label=False, feed_reward=False)

    def weights(self, state: State) -> list[Array]:
        """w of all sub-RNNs of a clone, by layer [B, units]."""
        return [self._read(cells)[0] for cells in state["cells"]]

    def begin(self, params: Params, state: State, spec: TaskSpec) -> State:
        """The teacher's state, with the weights and biases that the clone begins with."""
        own = self.learner.initial_state(params, jax.random.key(0), spec)
        return {**own, "cells": [{"s": jnp.stack(self._read(cells), axis=1)} for cells in state["cells"]]}

    def _read(self, cells: State) -> tuple[Array, Array]:
        return self.cloning.read(cells[self.clone.cell.memory].swapaxes(0, 1))


@dataclass(frozen=True)
class LifetimeTogether:
    """Runs a clone and its teacher on the same task."""

    teacher: Teacher

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Together:
        clone, exact = self.teacher.clone, self.teacher.learner
        state = clone.initial_state(shared, key, spec)
        params = exact.init(key, spec)
        lived = unroll(clone, shared, state, task)
        taught = unroll(exact, params, self.teacher.begin(params, state, spec), task)
        start, own = (_flat(self.teacher.weights(each)) for each in (state, lived.state))
        right = _flat([cells["s"][:, 0] for cells in taught.state["cells"]])
        same = jnp.argmax(lived.outputs, axis=-1) == jnp.argmax(taught.outputs, axis=-1)
        return Together(
            outcomes_of(task, lived.outputs, lived.outcomes),
            outcomes_of(task, taught.outputs, taught.outcomes),
            same.astype(jnp.float32).mean(axis=1),
            correlation(own, right),
            correlation(own - start, right - start),
        )


@dataclass(frozen=True)
class BesideBackprop(Online):
    """Runs lifetimes of classification, each with the clone and with backprop.

    Attributes:
      objective: the cloning, which knows the learning rates: `%OBJECTIVE` where meta-training is cloning.
      hidden: sizes of the hidden layers in place of the learner's own; None for these. A clone is one of a single
        weight: it may serve in any network.
    """

    headline: str = "cumulative_accuracy"
    objective: Cloning = field(default_factory=Cloning)
    hidden: tuple[int, ...] | None = None

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a clone.

        Returns:
          Scores of predictions as by `Online`; `agreement`, the share of examples for which both predict the same
          class; `weight_correlation` and `change_correlation` after the lifetime. Curves `correct` and `agreement`
          [lifetimes, T]. The rival `backprop` has the same, with itself.
        """
        clone = clonable(learner)
        if self.hidden is not None:
            clone = replace(clone, hidden=tuple(self.hidden))
        lifetime = LifetimeTogether(Teacher(clone, self.objective))
        shared = jax.device_get(params)
        told: Any = run_lifetimes(lifetime, shared, self.tasks, self.lifetimes, self.seed, self.chunk)
        likeness = {
            "agreement": told.alike.mean(axis=1, dtype=np.float64),
            "weight_correlation": told.weight_correlation,
            "change_correlation": told.change_correlation,
        }
        chance = 1 / self.tasks.spec.num_outputs
        share = Measure(limits=(0.0, 1.0), chance=chance)
        own = dict.fromkeys(likeness, np.ones(self.lifetimes))
        return Evaluation(
            self.name,
            {**online_scores(told.clone), **likeness},
            headline=self.headline,
            rivals={
                "backprop": Rival(
                    f"backprop (lr {self.objective.learning_rate:g})",
                    {**online_scores(told.backprop), **own},
                    curves={"correct": told.backprop.measures["accuracy"]},
                )
            },
            curves={"correct": told.clone.measures["accuracy"], "agreement": told.alike},
            facts={"examples": self.tasks.spec.length * self.tasks.spec.batch, "chance": chance},
            measures={
                "cumulative_accuracy": share,
                "final_accuracy": share,
                "correct": replace(share, title="accuracy"),
                "loss": Measure("loss (nats)", lower_is_better=True),
                "agreement": Measure(limits=(0.0, 1.0)),
                "weight_correlation": Measure(limits=(-1.0, 1.0)),
                "change_correlation": Measure(limits=(-1.0, 1.0)),
            },
            note="The clone beside the backprop that it was regressed onto: the same examples and initial weights.",
        )


def _flat(weights: list[Array]) -> Array:
    return jnp.concatenate([layer.ravel() for layer in weights])


def correlation(a: Array, b: Array) -> Array:
    """Pearson's, of all entries; 0 where one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = jnp.sqrt(jnp.sum(jnp.square(a)) * jnp.sum(jnp.square(b)))
    return jnp.sum(a * b) / jnp.where(size == 0, 1.0, size)
