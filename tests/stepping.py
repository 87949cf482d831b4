"""Learners led by hand through examples of a classification task."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from vsml.learners.base import Learner
from vsml.learners.unroll import Unrolled, unroll
from vsml.tasks import ClassificationTask


def labelled(x: Any, y: Any) -> ClassificationTask:
    """Examples with labels [..., classes], all of which count."""
    return ClassificationTask(x, y, jnp.ones(y.shape[:-1]))


def step(learner: Learner, params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Predicts x [B, ...], then learns from y [B, classes]: the new state and the prediction."""
    example = labelled(x, y)
    outcome = learner.step(params, state, example, (), example)
    return outcome.state, outcome.output


def live(learner: Learner, params: Any, state: Any, x: Any, y: Any, **options: Any) -> Unrolled:
    """Unrolls over x [T, B, ...] and y [T, B, classes]."""
    return unroll(learner, params, state, labelled(x, y), **options)
