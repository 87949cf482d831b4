"""Recursive least squares: ridge regression of the labels on all examples so far, brought up to date by each.

    f = (x, 1), or (relu(x R + b), 1) with R ~ N(0, 1/n), b ~ N(0, 0.3^2)      y^ = f W
    W = argmin sum_i |y_i - f_i W|^2 + ridge |W|^2 = P sum_i f_i y_i^T         P = (sum_i f_i f_i^T + ridge)^-1

    P = S S^T, at first 1 / ridge      u = f S      a = 1 + |u|^2      g = S u
    W <- W + g (y - f W) / a           S <- S - g u^T / (a + sqrt(a))

Single precision is enough for the root S, and not for P, whose small entries are differences of large ones: on 2,000
examples of 28x28 inputs with a ridge of 1 the outputs are wrong by 7e-6, and would be by 4e-4.

Outputs near 0 and 1 for labels are no logits: `confidence` makes them so, which leaves their order as it is.

Source: Plackett 1950, "Some theorems in least squares"; the root is that of Potter 1963 (Kaminski, Bryson & Schmidt
1971, "Discrete square root filtering"); random features: Rahimi & Recht 2008, "Weighted sums of random kitchen sinks".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.hardware import products_in
from vsml.learners.base import Learner
from vsml.learners.confidence import as_logits, no_evidence, weighed
from vsml.learners.feedback import check_feedback
from vsml.learners.random_features import Drawn, draw
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Regression(NamedTuple):
    """What recursive least squares carries through a lifetime; F is the number of features, the constant 1 included."""

    w: Array  # [F, C]
    root: Array  # [F, F], S
    random: Drawn | None  # R [n, F - 1] and b [F - 1]
    evidence: Array  # [K], see `confidence`


@dataclass(frozen=True)
class RecursiveLeastSquares(Learner):
    """Ridge regression of one-hot labels, exact after every example, in constant memory: [F, F] for F features.

    It has no meta-parameters: `params` is {}. After a batch it is the regression on all of its examples.

    Attributes:
      features: random ReLU features, drawn in every lifetime; 0: the inputs themselves.
      ridge: weight of |W|^2 in what is minimised.
    """

    features: int = 512
    ridge: float = 1.0

    def __post_init__(self) -> None:
        if self.features < 0:
            raise UserError(
                f"learners.RecursiveLeastSquares.features is {self.features}: give 1 or more, or 0 for the inputs"
            )
        # A ridge that is traced, as in `evaluators.Baselines`, has no value yet.
        if isinstance(self.ridge, int | float) and not self.ridge > 0:
            raise UserError(f"learners.RecursiveLeastSquares.ridge is {self.ridge}: set it above 0")

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """No meta-parameters: {}."""
        return {}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Regression:
        """Zero weights and the random features of this lifetime. Raises `UserError` where tasks give no target."""
        check_feedback("learners.RecursiveLeastSquares", ("target",), spec, "use another learner")
        n, random = spec.num_inputs, None
        if self.features:
            random = draw(key, n, self.features)
        size = (self.features or n) + 1
        w = jnp.zeros((size, spec.num_outputs), jnp.float32)
        return Regression(w, jnp.eye(size) / jnp.sqrt(self.ridge), random, no_evidence())

    def predict(self, params: Params, state: Regression, x: Array) -> tuple[Regression, Array]:
        return state, as_logits(state.evidence, *_scores(state, _features(state, x)))

    def learn(self, params: Params, state: Regression, x: Array, feedback: Feedback) -> Regression:
        """One update of W and S per example that has a target."""
        assert feedback.target is not None  # `initial_state` refuses other tasks
        features, target = _features(state, x), feedback.target
        # Without features there is nothing to learn: neither W nor S changes.
        learned = features if feedback.given is None else features * feedback.given[:, None]

        def update(so_far: tuple[Array, Array], example: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            (w, root), (f, y) = so_far, example
            u = f @ root
            a = 1 + u @ u
            g = root @ u
            w = w + jnp.outer(g, (y - f @ w) / a)
            return (w, root - jnp.outer(g, u / (a + jnp.sqrt(a)))), None

        with products_in("float32"):
            (w, root), _ = jax.lax.scan(update, (state.w, state.root), (learned, target))
        return state._replace(w=w, root=root, evidence=weighed(state.evidence, *_scores(state, features), target))

    def learned_variables(self, state: Regression) -> State:
        """W; S is bookkeeping."""
        return state.w


def _features(state: Regression, x: Array) -> Array:
    """[B, F]."""
    x = x.reshape(x.shape[0], -1)
    if state.random is not None:
        with products_in("float32"):
            x = state.random(x)
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def _scores(state: Regression, features: Array) -> tuple[Array, Array]:
    """What `confidence` is asked with: outputs, and that all classes can be told."""
    with products_in("float32"):
        return features @ state.w, jnp.ones(state.w.shape[1], bool)
