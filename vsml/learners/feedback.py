"""Feedback as numbers that a network reads: its kinds side by side, in the order of `Feedback`."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import Feedback, FeedbackKind, TaskSpec
from vsml.types import Array


def feedback_size(spec: TaskSpec) -> int:
    """Numbers that answer one output: `num_outputs` of error and of target, one of reward."""
    return sum(1 if kind == "reward" else spec.num_outputs for kind in spec.feedback)


def no_feedback(spec: TaskSpec) -> Array:
    """What a learner reads where nothing answered yet: zeros [B, feedback_size]."""
    return jnp.zeros((spec.batch, feedback_size(spec)), jnp.float32)


def as_vector(feedback: Feedback, batch: int) -> Array:
    """Error, target and reward, as far as the task gives them: [B, feedback_size]."""
    reward = None if feedback.reward is None else feedback.reward[:, None]
    kinds = [kind for kind in (feedback.error, feedback.target, reward) if kind is not None]
    return jnp.concatenate(kinds, axis=1) if kinds else jnp.zeros((batch, 0), jnp.float32)


def check_feedback(name: str, wanted: Sequence[FeedbackKind], spec: TaskSpec, mend: str) -> None:
    """Raises `UserError` where a learner needs a kind of feedback that tasks of this shape do not give."""
    for kind in wanted:
        if kind not in spec.feedback:
            given = " and ".join(spec.feedback) or "nothing"
            raise UserError(f"{name} learns from the {kind}, but these tasks give {given}: {mend}")
