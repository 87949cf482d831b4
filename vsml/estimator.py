"""A learned algorithm as a scikit-learn classifier: it learns online, one example after the other.

    classifier = VSMLClassifier().fit(x, y)          classifier.partial_fit(more_x, more_y)

Inputs are standardised while they come (`learners.Standardised`), whatever the algorithm itself does. V_M stays as it
was found; what is learned is V_L, the state of one lifetime, which goes on as long as `partial_fit` is called.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from numbers import Integral
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
"""Data are unlike those of meta-training where their inputs or classes are more or fewer by more than this factor."""
FAR_EXAMPLES = 16
"""For examples: over so many times a lifetime of meta-training, accuracy was measured (docs/results/headline.md)."""


class VSMLClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns by a learned algorithm.

    Where `fit` or `partial_fit` fails, all is as it was before. Both warn where data are far from those of
    meta-training, and once in a lifetime of rows that are far from the data before (see `learners.Standardised`).

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
        with self._all_or_nothing():
            rows, labels = self._checked(X, y, reset=True)
            generator = check_random_state(self.random_state)
            self._begin(labels, generator)
            for _ in range(self.passes):
                order = generator.permutation(len(rows))
                self._learn(rows[order], labels[order])
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Goes on with the lifetime, or begins one.

        Args:
          X: examples [n, features].
          y: labels [n].
          classes: all classes that there are, needed in the first call unless `max_classes` is set. Later the same or
            None.

        Raises:
          ValueError: for a class that there is no room for, for other `classes` than before, and for data of another
            shape than before.
        """
        first = not self.__sklearn_is_fitted__()
        with self._all_or_nothing():
            rows, labels = self._checked(X, y, reset=first)
            if first:
                if classes is None and self.max_classes is None:
                    raise ValueError("name all classes in the first call to partial_fit, or set max_classes")
                self._begin(labels if classes is None else np.asarray(classes), check_random_state(self.random_state))
            elif classes is not None and set(np.ravel(classes).tolist()) not in (self._named, set(self._place)):
                raise ValueError(
                    f"classes is {np.ravel(classes).tolist()}, which is not what the first call named, "
                    f"{sorted(self._named)}: give the same, or leave it out"
                )
            self._learn(rows, labels)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities [n, classes], in the order of `classes_`."""
        check_is_fitted(self)
        rows = self._rows(X)
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

    def __sklearn_is_fitted__(self) -> bool:
        return "_state" in vars(self)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Puts all attributes back where what is done within fails."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _checked(self, X: ArrayLike, y: ArrayLike, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Examples [n, features] float32 and labels [n]. Raises ValueError for anything else."""
        if not reset and type(y) in (np.ndarray, list):
            rows, labels = self._rows(X), np.asarray(y)
            if labels.shape == rows.shape[:1] and labels.dtype.kind != "O" and self._knows(labels):
                return rows, labels
        rows, labels = (np.asarray(each) for each in _validate(self, X, y, dtype=np.float32, reset=reset))
        check_classification_targets(labels)
        return rows, labels

    def _rows(self, X: ArrayLike) -> np.ndarray:
        """Examples [n, features] float32 after the first call. Raises ValueError for anything else.

        What scikit-learn checks is checked here for plain arrays, since it takes a fifth of the time of an example.
        """
        if type(X) is np.ndarray and X.dtype.kind in "fiub" and not hasattr(self, "feature_names_in_"):
            with np.errstate(over="ignore"):
                rows = X.astype(np.float32, copy=False)
            if rows.ndim == 2 and rows.shape[1] == self.n_features_in_ and len(rows) and np.isfinite(rows).all():
                return rows
        return np.asarray(_validate(self, X, dtype=np.float32, reset=False))

    def _knows(self, labels: np.ndarray) -> bool:
        return self._place.keys() >= set(labels.tolist())

    def _begin(self, labels: np.ndarray, generator: np.random.RandomState) -> None:
        if not isinstance(self.passes, Integral) or self.passes < 1:
            raise ValueError(f"passes is {self.passes!r}: set it to a whole number, 1 or more")
        if self.max_classes is not None and (not isinstance(self.max_classes, Integral) or self.max_classes < 1):
            raise ValueError(f"max_classes is {self.max_classes!r}: set it to a whole number, 1 or more, or to None")
        labels = unique_labels(labels)
        self._algorithm = self.algorithm if isinstance(self.algorithm, LearnedAlgorithm) else vsml.load(self.algorithm)
        self._named = set(labels.tolist())
        self._room = len(labels) if self.max_classes is None else int(self.max_classes)
        self._place: dict[Any, int] = {}
        self.classes_ = labels[:0]
        self.n_seen_ = 0
        self._warned = False  # of rows far from those before
        self._admit(labels)
        spec = self._algorithm.spec((self.n_features_in_,), max(self._room, 2))
        key = jax.random.key(generator.randint(2**31 - 1))
        self._params: Params = jax.device_put(self._algorithm.params)
        self._state: State = _begun(self._learner, spec, self._params, key)
        self._warn("inputs", spec.num_inputs, [trained.num_inputs for trained in self._algorithm.specs])
        self._warn("classes", spec.num_outputs, [trained.num_outputs for trained in self._algorithm.specs])

    def _admit(self, labels: np.ndarray) -> None:
        """Gives each new label an output, in the order in which they come."""
        if self._knows(labels):
            return
        labels = unique_labels(labels)
        new = [label for label in labels.tolist() if label not in self._place]
        classes = len(self._place) + len(new)
        if classes > self._room and self.max_classes is None:
            raise ValueError(
                f"label {new[0]!r} is not one of the classes named in the first call: name all of them there, or set "
                "max_classes"
            )
        if classes > self._room:
            raise ValueError(f"{classes} classes, but max_classes is {self._room}: raise it")
        self._place = self._place | {label: len(self._place) + i for i, label in enumerate(new)}
        self.classes_ = unique_labels(self.classes_, labels) if len(self.classes_) else labels

    def _outputs(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray([self._place[label] for label in labels.tolist()], np.int32)

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        self._admit(y)
        outputs = self._outputs(y)
        with products_in(self._algorithm.experiment.precision):
            for start in range(0, len(X), ROWS):
                x, labels = X[start : start + ROWS], outputs[start : start + ROWS]
                self._state = _lived(self._learner, self._params, self._state, _padded(x), _padded(labels), len(x))
        before, lengths = self.n_seen_, [trained.length for trained in self._algorithm.specs]
        self.n_seen_ += len(X)
        if before <= FAR_EXAMPLES * max(lengths) < self.n_seen_:
            self._warn("examples", self.n_seen_, lengths)
        if not self._warned and (far := int(self._state.front.far)):
            self._warned = True
            warnings.warn(
                f"{far} {'row is' if far == 1 else 'rows are'} far from the data before, and bounded to "
                f"{self._learner.bound:g} standard deviations in the statistics of inputs: check units and codes for "
                "missing values",
                stacklevel=3,
            )

    def _warn(self, what: str, own: int, trained: list[int]) -> None:
        """Says where the data are far from those of meta-training."""
        low, high = min(trained), max(trained)
        if own > FAR * high or (own * FAR < low):
            known = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            warnings.warn(
                f"{own:,} {what}: the algorithm was meta-trained with {known}, so it may be less accurate here: "
                "compare it with another classifier on held-out data",
                stacklevel=4,
            )

    def __getstate__(self) -> dict[str, Any]:
        """With arrays of numpy, which any machine reads."""
        values: dict[str, Any] = dict(cast(Any, super().__getstate__()))
        if self.__sklearn_is_fitted__():
            del values["_params"]
            values["_state"] = jax.tree.map(np.asarray, values["_state"])
        return values

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._params, self._state = jax.device_put((self._algorithm.params, self._state))

    @property
    def _learner(self) -> Standardised:
        return Standardised(self._algorithm.learner)


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
