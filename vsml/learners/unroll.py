"""A lifetime: a learner unrolled over the steps of one task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.tasks.base import Task, World
from vsml.types import MESSAGES, Array, Params, State

KEPT = 2**28
"""Bytes of states that a differentiated unroll keeps without being asked to."""

Observe = Callable[[State, State], Any]
"""(state after a prediction, state after the step) -> what to keep of them."""


class Unrolled(NamedTuple):
    """What came of the steps of a lifetime, or of a window of it."""

    state: State  # of the learner, afterwards
    world: World  # of the task, afterwards
    outputs: Array  # [T, B, num_outputs], each made before its answer
    outcomes: Any  # of the task, leaves [T, ...]
    observed: Any  # leaves [T, ...], () where nothing was asked for


def auto_segment(length: int, state_bytes: int) -> int:
    """The segment length of a differentiated unroll, unless it is chosen.

    A single segment, which is fastest, where the states after all examples take no more than `KEPT`; else about the
    square root of T, which makes their memory smallest.
    """
    return length if length * state_bytes <= KEPT else max(1, round(math.sqrt(length)))


def unroll(
    learner: Learner,
    params: Params,
    state: State,
    task: Task,
    *,
    world: World | None = None,
    steps: Any = None,
    segment: int | None = None,
    observe: Observe | None = None,
    learns: bool = True,
) -> Unrolled:
    """Runs a learner over the steps of a task in order.

    Args:
      learner: the learning algorithm.
      params: its meta-parameters.
      state: where its lifetime stands.
      task: what it lives on.
      world: where the task stands; None for its start.
      steps: the rows of `task.steps` to run; None for all of them.
      segment: where given, differentiation keeps the states at the borders of segments of that many steps, within the
        segment at hand the states of its steps, and within the step at hand everything: memory grows as T / segment +
        segment states, at the price of running forward twice more. T or more is a single segment: T states, one more
        run forward. None keeps everything of all steps.
      observe: looks inside: what it makes of the states of every step, the messages or the weights of some layer, say,
        is stacked.
      learns: False: learning is off. Every prediction starts from `state`; only the world of the task moves on.
    """

    def live(carry: tuple[State, World], step: Any) -> tuple[tuple[State, World], Any]:
        before, world = carry
        predicted, after, world, *told = learner.step(params, before, task, world, step)
        after = after if learns else before
        return (after, world), (*told, () if observe is None else observe(predicted, after))

    start = (state, task.world if world is None else world)
    steps = task.steps if steps is None else steps
    length = jax.tree.leaves(steps)[0].shape[0]
    if segment is not None:
        live = jax.checkpoint(live, policy=jax.checkpoint_policies.save_only_these_names(MESSAGES))
    if segment is None or segment >= length:
        end, told = jax.lax.scan(live, start, steps)
        return Unrolled(*end, *told)

    @jax.checkpoint
    def run_segment(carry: tuple[State, World], rows: Any) -> tuple[tuple[State, World], Any]:
        return jax.lax.scan(live, carry, rows)

    whole = length - length % segment
    cut = jax.tree.map(lambda leaf: leaf[:whole].reshape(whole // segment, segment, *leaf.shape[1:]), steps)
    end, told = jax.lax.scan(run_segment, start, cut)
    told = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), told)
    if whole < length:
        end, rest = run_segment(end, jax.tree.map(lambda leaf: leaf[whole:], steps))
        told = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), told, rest)
    return Unrolled(*end, *told)
