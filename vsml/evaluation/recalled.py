"""What is recalled of snippets, beside answers that ignore the cue and a memory that needs no learning, and pictures.

    mean snippet          y^ = mean over all recalls of all lifetimes of y, number by number
    mean of the stream    y^ = mean over all recalls of the stream itself; ties go to the first that is asked for
    outer product         h  = sum_t x_t (x_t . cue) over all that was seen before and is no cue
                          y^ = h / (|cue|^2 + P - 1), P of them

Where snippets are binary, y^ is the log-odds of that mean, and of the outer product 2 h / (P - 1), what h says under
crosstalk that is normal. Both means are chosen in hindsight, on the very lifetimes. Who is above the mean snippet has
kept something of a stream; who is above the mean of the stream tells its snippets apart.

The outer product is Hebb's rule with nothing to choose: one step from the cue, nothing forgotten; ties go to what was
seen later. At the f-th frame of a snippet it is that of x_(t + f) and x_t.

Source of the outer product: Hopfield 1982, "Neural networks and physical systems with emergent collective computational
abilities".
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

_TIE = 1e-6
_LATER = 1e-5


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
        frames = task.frames
        x = frames.x.reshape(frames.y.shape)
        recalls = Recalls(x[asked, 0], frames.y[asked, 0], lived.outputs[asked, 0], _mean_of_streams(task).mean(0))
        return outcomes_of(task, lived.outputs, lived.outcomes), recalls


@dataclass(frozen=True)
class Answering:
    """A lifetime in which every output is the same mean: what all lifetimes share, or that of the stream itself."""

    of_stream: bool = False

    def __call__(self, spec: TaskSpec, shared: Array, task: Task, key: Key) -> Outcomes:
        """`Outcomes` with leaves [T]."""
        assert isinstance(task, RememberTask)
        mean = shared
        if self.of_stream:
            mean = _mean_of_streams(task) + _TIE * task.frames.y[task.recalled.min()]
        if isinstance(task, BinaryRememberTask):
            share = jnp.clip(0.5 * (1 + mean), CERTAIN, 1 - CERTAIN)
            mean = jnp.log(share / (1 - share))
        return outcomes_of(task, jnp.broadcast_to(mean, task.frames.y.shape), ())


@dataclass(frozen=True)
class OuterProduct:
    """A lifetime of the outer products of all that was seen."""

    def __call__(self, spec: TaskSpec, shared: Any, task: Task, key: Key) -> Outcomes:
        """`Outcomes` with leaves [T]."""
        assert isinstance(task, RememberTask)
        y = task.frames.y
        seen = task.frames.x.reshape(y.shape).at[task.recalled.ravel()].set(0.0)
        steps = jnp.arange(len(y))

        def answers(asked: Array) -> Array:
            """Of one snippet, whose recall is at the steps `asked` [F]: [F, B, n]."""
            before = seen * (steps < asked[0])[:, None, None]
            cue = task.frames.x.reshape(y.shape)[asked[0]]
            overlaps = jnp.einsum("tbn,bn->tb", before, cue) * (1 + _LATER * steps)[:, None]
            shifted = [jnp.pad(before[f:], ((0, f), (0, 0), (0, 0))) for f in range(len(asked))]
            fields = jnp.stack([jnp.einsum("tb,tbn->bn", overlaps, later) for later in shifted])
            others = jnp.any(before != 0, axis=-1).sum(0)[None, :, None] - 1.0
            if isinstance(task, BinaryRememberTask):
                most = jnp.log((1 - CERTAIN) / CERTAIN)
                return jnp.clip(2 * fields / jnp.maximum(others, 1), -most, most)
            return fields / jnp.maximum(jnp.square(cue).sum(-1)[None, :, None] + others, 1)

        found = jax.vmap(answers)(task.recalled)
        return outcomes_of(task, jnp.zeros_like(y).at[task.recalled].set(found), ())


@dataclass(frozen=True)
class Recalled(Online):
    """Runs lifetimes of `tasks.Remember`.

    Attributes:
      beside: whether the mean snippet, the mean of the stream and the outer product stand beside.
      pictured: recalls that are shown as pictures: what was written, the cue, and what is recalled.
    """

    headline: str = "cumulative_recalled"
    beside: bool = True
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
        if self.beside:
            mean = recalls.mean.mean(0)
            rivals["mean_snippet"] = _rival("mean snippet", run_lifetimes(Answering(), mean, *given))
            of_stream = run_lifetimes(Answering(of_stream=True), mean, *given)
            rivals["mean_of_the_stream"] = _rival("mean of the stream", of_stream)
            rivals["outer_product"] = _rival("outer product", run_lifetimes(OuterProduct(), (), *given))
        return replace(found, rivals=rivals, pictures={"recalls": self._picture(recalls)})

    def interim(self) -> Self:
        """On fewer lifetimes and without the rivals, which do not depend on V_M."""
        return replace(super().interim(), beside=False)

    def _picture(self, recalls: Any) -> Picture:
        """Of the first lifetime: images as they are, other snippets as a row of numbers."""
        shape = self.tasks.spec.input_shape
        size = (shape[0], -1) if len(shape) > 1 else (1, -1)
        cue, wanted, output = (np.asarray(leaf[0]) for leaf in (recalls.cue, recalls.wanted, recalls.output))
        is_binary = "recalled" in measures_of(self.tasks)
        rows = {"written": wanted, "cue": cue, "recalled": np.tanh(output / 2) if is_binary else output}
        values = np.stack([values.reshape(len(values), *size) for values in rows.values()])
        return Picture(values, tuple(rows))


def _mean_of_streams(task: RememberTask) -> Array:
    """The mean of all that each stream is asked for, [B, n]."""
    weight = task.weight[..., None]
    return (task.frames.y * weight).sum(0) / jnp.maximum(weight.sum(0), 1)


def _rival(label: str, outcomes: Outcomes) -> Rival:
    return Rival(label, online_scores(outcomes), curves={**outcomes.measures, "loss": outcomes.loss})
