"""A learned algorithm as a scikit-learn classifier: it learns online, one example after the other.

    classifier = VSMLClassifier().fit(x, y)          classifier.partial_fit(more_x, more_y)

Inputs are standardised while they come (`learners.Standardised`), whatever the algorithm itself does. V_M stays as it
was found; what is learned is V_L, the state of one lifetime, which goes on as long as `partial_fit` is called.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

import vsml
from vsml.hardware import products_in
from vsml.learned import LearnedAlgorithm, feedback_of
from vsml.learners.base import Learner
from vsml.learners.standardised import Standardised
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Params, State

ROWS = 64
"""Examples are learned from and predicted in blocks of this size, the last one in part: one compiled program each."""

_validate: Any = validate_data  # scikit-learn has no types here that a checker understands

FAR = 4
"""Data are unlike those of meta-training where a number differs by more than this factor."""


class VSMLClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns by a learned algorithm.

    Args:
      algorithm: `pretrained:NAME`, a run directory, a checkpoint of one, a file of `vsml export`, or what `vsml.load`
        returned.
      max_classes: how many classes there may be in the end; None for those of the first call. With more, `classes_`
        grows with what `partial_fit` is shown.
      passes: how often `fit` goes through the data, each time in another order. `partial_fit` goes through once, in
        the order given.
      random_state: of the initial state and of these orders.

    Attributes:
      classes_: labels so far, sorted.
      n_features_in_: numbers of an input.
      n_seen_: examples learned from in this lifetime.
    """

    classes_: np.ndarray
    n_features_in_: int
    n_seen_: int

    def __init__(
        self,
        algorithm: str | Path | LearnedAlgorithm = "pretrained:broad",
        *,
        max_classes: int | None = None,
        passes: int = 1,
        random_state: Any = None,
    ) -> None:
        self.algorithm = algorithm
        self.max_classes = max_classes
        self.passes = passes
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Begins a lifetime and learns from all examples [n, features] and labels [n], `passes` times."""
        rows, labels = self._checked(X, y, reset=True)
        generator = check_random_state(self.random_state)
        self._begin(unique_labels(labels), generator)
        for _ in range(self.passes):
            order = generator.permutation(len(rows))
            self._learn(rows[order], labels[order])
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Goes on with the lifetime, or begins one.

        Args:
          X: examples [n, features].
          y: labels [n].
          classes: all classes that there are, needed in the first call unless `max_classes` is set.

        Raises:
          ValueError: for a class that there is no room for, and for data of another shape than before.
        """
        first = not hasattr(self, "_state")
        rows, labels = self._checked(X, y, reset=first)
        if first:
            if classes is None and self.max_classes is None:
                raise ValueError("name all classes in the first call to partial_fit, or set max_classes")
            known = labels if classes is None else np.asarray(classes)
            self._begin(unique_labels(known), check_random_state(self.random_state))
        self._learn(rows, labels)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities [n, classes], in the order of `classes_`."""
        check_is_fitted(self)
        rows = np.asarray(_validate(self, X, dtype=np.float32, reset=False))
        blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        with products_in(self._algorithm.experiment.precision):
            logits = [_answers(self._learner, self._params, self._state, _padded(b), len(b))[: len(b)] for b in blocks]
        scores = np.concatenate(logits)[:, self._outputs(self.classes_)].astype(np.float64)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable label of each example, [n]."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def _checked(self, X: ArrayLike, y: ArrayLike, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Examples [n, features] float32 and labels [n]. Raises ValueError for anything else."""
        rows, labels = _validate(self, X, y, dtype=np.float32, reset=reset)
        check_classification_targets(labels)
        return np.asarray(rows), np.asarray(labels)

    def _begin(self, labels: np.ndarray, generator: np.random.RandomState) -> None:
        if self.passes < 1:
            raise ValueError(f"passes is {self.passes}: set it to 1 or more")
        self._algorithm = self.algorithm if isinstance(self.algorithm, LearnedAlgorithm) else vsml.load(self.algorithm)
        self._room = len(labels) if self.max_classes is None else self.max_classes
        self._place: dict[Any, int] = {}
        self.classes_ = labels[:0]
        self.n_seen_ = 0
        self._admit(labels)
        spec = self._algorithm.spec((self.n_features_in_,), max(self._room, 2))
        key = jax.random.key(generator.randint(2**31 - 1))
        self._state: State = _begun(self._learner, spec, self._params, key)
        self._warn("inputs", spec.num_inputs, [trained.num_inputs for trained in self._algorithm.specs])
        self._warn("classes", spec.num_outputs, [trained.num_outputs for trained in self._algorithm.specs])

    def _admit(self, labels: np.ndarray) -> None:
        """Gives each new label an output, in the order in which they come."""
        new = [label for label in labels.tolist() if label not in self._place]
        if len(self._place) + len(new) > self._room:
            raise ValueError(
                f"label {new[0]!r} is not one of the {self._room} classes of the first call: name all of them there, "
                "or make room with max_classes"
            )
        self._place |= {label: len(self._place) + i for i, label in enumerate(new)}
        if new:
            self.classes_ = unique_labels(self.classes_, labels) if len(self.classes_) else labels

    def _outputs(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray([self._place[label] for label in labels.tolist()], np.int32)

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        self._admit(unique_labels(y))
        outputs = self._outputs(y)
        with products_in(self._algorithm.experiment.precision):
            for start in range(0, len(X), ROWS):
                x, labels = X[start : start + ROWS], outputs[start : start + ROWS]
                self._state = _lived(self._learner, self._params, self._state, _padded(x), _padded(labels), len(x))
        before, lengths = self.n_seen_, [trained.length for trained in self._algorithm.specs]
        self.n_seen_ += len(X)
        if before <= FAR * max(lengths) < self.n_seen_:
            self._warn("examples", self.n_seen_, lengths)

    def _warn(self, what: str, own: int, trained: list[int]) -> None:
        """Says where the data are far from those of meta-training."""
        low, high = min(trained), max(trained)
        if own > FAR * high or (own * FAR < low):
            known = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            warnings.warn(f"{own:,} {what}: the algorithm was meta-trained with {known}", stacklevel=4)

    def __getstate__(self) -> dict[str, Any]:
        """With arrays of numpy, which any machine reads."""
        values: dict[str, Any] = dict(cast(Any, super().__getstate__()))
        if "_state" in values:
            values["_state"] = jax.tree.map(np.asarray, values["_state"])
        return values

    @property
    def _learner(self) -> Learner:
        return Standardised(self._algorithm.learner)

    @property
    def _params(self) -> Params:
        return self._algorithm.params


def _padded(rows: np.ndarray) -> np.ndarray:
    block = np.zeros((ROWS, *rows.shape[1:]), rows.dtype)
    block[: len(rows)] = rows
    return block


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begun(learner: Learner, spec: TaskSpec, params: Params, key: Array) -> State:
    return learner.initial_state(params, key, spec)


@functools.partial(jax.jit, static_argnums=0)
def _lived(learner: Learner, params: Params, state: State, rows: Array, labels: Array, count: int) -> State:
    """The state after the first `count` of the rows [ROWS, features]."""

    def step(i: Any, state: State) -> State:
        x = rows[i][None]
        predicted, output = learner.predict(params, state, x)
        return learner.learn(params, predicted, x, feedback_of(labels[i], output))

    return jax.lax.fori_loop(0, count, step, state)


@functools.partial(jax.jit, static_argnums=0)
def _answers(learner: Learner, params: Params, state: State, rows: Array, count: int) -> Array:
    """Logits [ROWS, outputs] of the first `count` rows, one by one: no row changes what another one gets."""
    outputs = jax.eval_shape(lambda: learner.predict(params, state, rows[:1])[1]).shape[1]

    def step(i: Any, logits: Array) -> Array:
        return logits.at[i].set(learner.predict(params, state, rows[i][None])[1][0])

    return jax.lax.fori_loop(0, count, step, jnp.zeros((len(rows), outputs)))
