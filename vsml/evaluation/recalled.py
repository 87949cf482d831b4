"""What is recalled of snippets, beside the best answer that needs no memory, and pictures of some recalls.

    mean snippet    y^ = mean over all recalls of all lifetimes of y, number by number; binary: its sign and log-odds

It is chosen in hindsight, on the very lifetimes: who is above it has remembered something of a lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Picture, Rival
from vsml.evaluation.online import Online
from vsml.evaluation.rollouts import Outcomes, measures_of, online_scores, outcomes_of, run_lifetimes
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskSpec
from vsml.tasks.remember import BinaryRememberTask, RememberTask
from vsml.types import Array, Key, Params

CERTAIN = 0.01
"""A mean snippet says nothing with a probability nearer to 0 or 1 than this."""


class Recalls(NamedTuple):
    """The first recalls of the first stream of a lifetime, and what is asked for in all of them."""

    cue: Array  # [recalls, n], 0 where nothing is shown
    wanted: Array  # [recalls, n]
    output: Array  # [recalls, n]
    mean: Array  # [n], of all that is asked for in the lifetime


@dataclass(frozen=True)
class Recalling:
    """A lifetime that is unrolled and keeps its first recalls."""

    learner: Learner
    pictured: int

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> tuple[Outcomes, Recalls]:
        """`Outcomes` with leaves [T], and the recalls."""
        assert isinstance(task, RememberTask)
        lived = unroll(self.learner, shared, self.learner.initial_state(shared, key, spec), task)
        asked = jnp.sort(task.recalled.ravel())[: self.pictured]
        frames, weight = task.frames, task.weight[..., None]
        x = frames.x.reshape(frames.y.shape)
        mean = (frames.y * weight).sum((0, 1)) / jnp.maximum(weight.sum(), 1)
        recalls = Recalls(x[asked, 0], frames.y[asked, 0], lived.outputs[asked, 0], mean)
        return outcomes_of(task, lived.outputs, lived.outcomes), recalls


@dataclass(frozen=True)
class Answering:
    """A lifetime in which every output is the same: what all lifetimes share."""

    def __call__(self, spec: TaskSpec, shared: Array, task: Task, key: Key) -> Outcomes:
        """`Outcomes` with leaves [T]."""
        output = shared
        if isinstance(task, BinaryRememberTask):
            share = jnp.clip(0.5 * (1 + shared), CERTAIN, 1 - CERTAIN)
            output = jnp.log(share / (1 - share))
        outputs = jnp.broadcast_to(output, (*task.weight.shape, *output.shape))
        return outcomes_of(task, outputs, ())


@dataclass(frozen=True)
class Recalled(Online):
    """Runs lifetimes of `tasks.Remember`.

    Attributes:
      mean_snippet: whether the mean snippet stands beside.
      pictured: recalls that are shown as pictures: what was written, the cue, and what is recalled.
    """

    headline: str = "cumulative_recalled"
    mean_snippet: bool = True
    pictured: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pictured < 1:
            raise UserError(f"evaluators.Recalled.pictured is {self.pictured}: set it to 1 or more")

    def check(self) -> None:
        """Raises `UserError` where the data is missing or does not fit, or the tasks are no streams of snippets."""
        super().check()
        if not isinstance(jax.eval_shape(self.tasks.sample, self.tasks.load(), jax.random.key(0)), RememberTask):
            raise UserError(
                f"evaluators.Recalled: the tasks of {self.name} are no streams of snippets: use evaluators.Online, or "
                "tasks/remember.gin"
            )

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner; scores and curves as by `Online`."""
        given = (self.tasks, self.lifetimes, self.seed, self.chunk)
        outcomes, recalls = run_lifetimes(Recalling(learner, self.pictured), jax.device_get(params), *given)
        found = self.evaluation(outcomes)
        rivals = {}
        if self.mean_snippet:
            rivals["mean_snippet"] = _rival(run_lifetimes(Answering(), recalls.mean.mean(0), *given))
        return replace(found, rivals=rivals, pictures={"recalls": self._picture(recalls)})

    def interim(self) -> Self:
        """On fewer lifetimes and without the rival, which does not depend on V_M."""
        return replace(super().interim(), mean_snippet=False)

    def _picture(self, recalls: Any) -> Picture:
        """Of the first lifetime: images as they are, other snippets as a row of numbers."""
        shape = self.tasks.spec.input_shape
        size = (shape[0], -1) if len(shape) > 1 else (1, -1)
        cue, wanted, output = (np.asarray(leaf[0]) for leaf in (recalls.cue, recalls.wanted, recalls.output))
        is_binary = "recalled" in measures_of(self.tasks)
        rows = {"written": wanted, "cue": cue, "recalled": np.tanh(output / 2) if is_binary else output}
        values = np.stack([values.reshape(len(values), *size) for values in rows.values()])
        return Picture(values, tuple(rows))


def _rival(outcomes: Outcomes) -> Rival:
    return Rival("mean snippet", online_scores(outcomes), curves={**outcomes.measures, "loss": outcomes.loss})
