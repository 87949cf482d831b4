"""Remembering, by short-term backprop: gradients through the steps that wrote a snippet and those that recall it.

    s_a .. s_b     the state while the snippet is written, from s_a          V: the part of a state that is V_L
    s_r            the state when its cue is shown, whatever happened since

    short_term     recall from s_r, with V(s_r) + V(s_b) - stop(V(s_b))      s_a and s_r are constants
    read_only      recall from s_r                                          s_r is a constant
    full           backprop through the whole stream

All three have the same loss. `short_term` supposes that what was written is still there when it is asked for: the
written change passes straight to the recall, and what all other steps do to it is not seen. So backprop never goes
further than the 2 F steps of a snippet, however long it was held, and keeps the states of a single snippet. `read_only`
learns what to do with what happens to be written.

Source: Gregor 2020, arXiv 2003.03124, for remembering and short-term backprop; the paper gives no equations, these are
our reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.held import learned_leaves, with_leaves
from vsml.learners.unroll import unroll
from vsml.objectives.base import Objective, curves, means
from vsml.objectives.weights import weighted_mean
from vsml.tasks.base import Task
from vsml.tasks.remember import RememberTask
from vsml.types import Array, Key, Metrics, Params, State


@dataclass(frozen=True)
class Remember(Objective):
    """The mean loss of all recalls.

    Attributes:
      gradient: what its gradient goes through. Meta-optimizers that differentiate nothing, such as ES, do not care.
      elsewhere: the objective of tasks that are no streams of snippets, as a mixture may have beside them; None
        refuses such tasks.
    """

    gradient: Literal["short_term", "read_only", "full"] = "short_term"
    elsewhere: Objective | None = None

    def evaluate(
        self, learner: Learner, params: Params, state: State, task: Task, key: Key, segment: int | None = None
    ) -> tuple[Array, Metrics]:
        """The loss, and the measures of the task."""
        if not isinstance(task, RememberTask):
            if self.elsewhere is not None:
                return self.elsewhere.evaluate(learner, params, state, task, key, segment)
            raise UserError(
                f"objectives.Remember needs streams of snippets, but the tasks are {type(task).__name__}: choose "
                "tasks/remember.gin, or set objectives.Remember.elsewhere"
            )
        if self.gradient == "full":
            lived = unroll(learner, params, state, task, segment=segment)
            scores = task.score(task.steps, lived.outputs, lived.outcomes)
            loss = weighted_mean(scores.loss, task.weight)
        else:
            outputs, writing, recalling = _lived(learner, *jax.lax.stop_gradient((params, state)), task)
            scores = task.score(task.steps, outputs, ())
            loss = self._recalled(learner, params, task, writing, recalling)
        return loss, {**means(scores.measures, task.weight), **curves(scores.measures), "loss": loss}

    def _recalled(
        self, learner: Learner, params: Params, task: RememberTask, writing: State, recalling: State
    ) -> Array:
        """The loss, snippet by snippet from the states [snippets, ...] in which each is written and recalled."""

        @jax.checkpoint
        def outputs(snippet: Any) -> Array:
            before, start, written, recalled = snippet
            if self.gradient == "short_term":
                start = _written(learner, params, before, start, task, _rows(task.steps, written))
            return _answers(learner, params, start, task, _rows(task.steps, recalled))

        found = jax.lax.map(outputs, (writing, recalling, task.written, task.recalled))
        asked = _rows(task.steps, task.recalled)
        scores = jax.vmap(lambda rows, output: task.score(rows, output, ()))(asked, found)
        return weighted_mean(scores.loss, asked.asked)


def _rows(steps: Any, index: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], steps)


def _written(learner: Learner, params: Params, before: State, start: State, task: Task, rows: Any) -> State:
    """`start`, whose V_L has the slope of what writing `rows` from `before` leaves in V_L, and its own value."""
    after = jax.tree.leaves(unroll(learner, params, before, task, steps=rows).state)
    which, leaves = learned_leaves(learner, start), jax.tree.leaves(start)
    return with_leaves(start, which, [leaves[k] + after[k] - jax.lax.stop_gradient(after[k]) for k in which])


def _answers(learner: Learner, params: Params, start: State, task: Task, rows: Any) -> Array:
    """The outputs [F, B, n] from `start`. What is learned after the last one changes none of them."""
    before, last = jax.tree.map(lambda leaf: leaf[:-1], rows), jax.tree.map(lambda leaf: leaf[-1], rows)
    lived = unroll(learner, params, start, task, steps=before)
    output = learner.predict(params, lived.state, task.see(task.world, last))[1]
    return jnp.concatenate([lived.outputs, output[None]])


def _lived(learner: Learner, params: Params, state: State, task: RememberTask) -> tuple[Array, State, State]:
    """The outputs of a lifetime, and the states before each snippet is written and before it is recalled."""
    count, length = len(task.written), len(task.weight)
    nowhere = jnp.full(length, count)
    places = [nowhere.at[steps[:, 0]].set(jnp.arange(count)) for steps in (task.written, task.recalled)]
    empty = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), state)

    def live(carry: Any, row: Any) -> tuple[Any, Array]:
        state, kept = carry
        step, to = row
        kept = [
            jax.tree.map(lambda all, leaf, place=place: all.at[place].set(leaf, mode="drop"), store, state)
            for store, place in zip(kept, to, strict=True)
        ]
        lived = learner.step(params, state, task, (), step)
        return (lived.state, kept), lived.output

    (_, (writing, recalling)), outputs = jax.lax.scan(live, (state, [empty, empty]), (task.steps, places))
    return outputs, writing, recalling
