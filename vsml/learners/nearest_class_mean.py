"""Nearest class mean: an example is of the class whose mean, of what was seen so far, is nearest.

    y^ = argmin_c |x - m_c|^2           m_c the mean of the examples of class c so far
    z_c = -|x - m_c|^2 / v              v what |x - m_c|^2 is on average within a class, for `confidence`

It is the best there is where classes are spheres of one size around their means: with one Gaussian per class and a
common variance v / n, z is the log-likelihood over n / 2.

Source: Fisher 1936, "The use of multiple measurements in taxonomic problems", with equal variances; the sums of squares
are kept as by Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from vsml.hardware import products_in
from vsml.learners.base import Learner
from vsml.learners.confidence import as_logits, no_evidence, weighed
from vsml.learners.feedback import check_feedback
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Means(NamedTuple):
    """What nearest class mean carries through a lifetime."""

    mean: Array  # [C, n], 0 where nothing was seen
    count: Array  # [C] examples
    scatter: Array  # [] sum of squared distances of the examples from the means of their classes
    evidence: Array  # [K], see `confidence`


@dataclass(frozen=True)
class NearestClassMean(Learner):
    """Predicts the class with the nearest mean; ties go to the first class. Its memory is constant.

    It has no meta-parameters: `params` is {}. The examples of a batch are learned together.
    """

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """No meta-parameters: {}."""
        return {}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Means:
        """Nothing seen. Raises `UserError` where tasks give no target."""
        check_feedback("learners.NearestClassMean", ("target",), spec, "use another learner")
        mean = jnp.zeros((spec.num_outputs, spec.num_inputs), jnp.float32)
        return Means(mean, jnp.zeros(spec.num_outputs), jnp.zeros(()), no_evidence())

    def predict(self, params: Params, state: Means, x: Array) -> tuple[Means, Array]:
        return state, as_logits(state.evidence, _scores(state, _flat(x)), state.count > 0)

    def learn(self, params: Params, state: Means, x: Array, feedback: Feedback) -> Means:
        """Takes in the examples that have a target."""
        assert feedback.target is not None  # `initial_state` refuses other tasks
        x, target = _flat(x), feedback.target
        more = target.sum(0)
        count = state.count + more
        with products_in("float32"):
            mean = target.T @ x / jnp.maximum(more, 1)[:, None]
        step = mean - state.mean
        scatter = jnp.sum(target * _distances(x, mean))
        scatter += jnp.sum(state.count * more / jnp.maximum(count, 1) * jnp.sum(step**2, 1))
        return Means(
            mean=state.mean + step * (more / jnp.maximum(count, 1))[:, None],
            count=count,
            scatter=state.scatter + scatter,
            evidence=weighed(state.evidence, _scores(state, x), state.count > 0, target),
        )

    def learned_variables(self, state: Means) -> State:
        """The means."""
        return state.mean


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _distances(x: Array, mean: Array) -> Array:
    """Squared, [B, C]."""
    return jnp.sum((x[:, None] - mean[None]) ** 2, axis=2)


def _scores(state: Means, x: Array) -> Array:
    distances, seen = _distances(x, state.mean), state.count > 0
    within = state.scatter / jnp.maximum(state.count.sum() - seen.sum(), 1)
    # Before a class was seen twice, the distances themselves are all that is known of their size.
    size = jnp.sum(distances * seen[None], 1, keepdims=True) / jnp.maximum(seen.sum(), 1)
    size = jnp.where(within > 0, within, size)
    return -distances / jnp.where(size > 0, size, 1)
