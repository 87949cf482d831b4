"""A lifetime: a learner unrolled over the examples of one task."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.types import MESSAGES, Array, Params, State

KEPT = 2**28
"""Bytes of states that a differentiated unroll keeps without being asked to."""


def auto_segment(length: int, state_bytes: int) -> int:
    """The segment length of a differentiated unroll, unless it is chosen.

    A single segment, which is fastest, where the states after all examples take no more than `KEPT`; else about the
    square root of T, which makes their memory smallest.
    """
    return length if length * state_bytes <= KEPT else max(1, round(math.sqrt(length)))


def unroll(
    learner: Learner, params: Params, state: State, x: Array, y: Array, segment: int | None = None
) -> tuple[State, Array]:
    """Runs a learner over examples in order.

    Args:
      learner: the learning algorithm.
      params: its meta-parameters.
      state: where its lifetime stands.
      x: [T, B, *input_shape].
      y: [T, B, num_classes].
      segment: where given, differentiation keeps the states at the borders of segments of that many examples, within
        the segment at hand the states of its examples, and within the example at hand everything: memory grows as T /
        segment + segment states, at the price of running forward twice more. T or more is a single segment: T states,
        one more run forward. None keeps everything of all examples.

    Returns:
      The state afterwards and the predictions [T, B, num_classes], each made before its label was seen.
    """

    def example(carry: State, xy: tuple[Array, Array]) -> tuple[State, Array]:
        return learner.step(params, carry, *xy)

    if segment is None:
        return jax.lax.scan(example, state, (x, y))

    example = jax.checkpoint(example, policy=jax.checkpoint_policies.save_only_these_names(MESSAGES))
    length = x.shape[0]
    if segment >= length:
        return jax.lax.scan(example, state, (x, y))
    whole = length - length % segment

    @jax.checkpoint
    def run_segment(carry: State, xy: tuple[Array, Array]) -> tuple[State, Array]:
        return jax.lax.scan(example, carry, xy)

    def segments(array: Array) -> Array:
        return array[:whole].reshape(whole // segment, segment, *array.shape[1:])

    state, predictions = jax.lax.scan(run_segment, state, (segments(x), segments(y)))
    predictions = predictions.reshape(whole, *predictions.shape[2:])
    if whole < length:
        state, rest = run_segment(state, (x[whole:], y[whole:]))
        predictions = jnp.concatenate([predictions, rest])
    return state, predictions
