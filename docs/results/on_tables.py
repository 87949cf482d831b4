"""Small tables, one example after the other: a learned algorithm as an estimator beside those of scikit-learn.

    python docs/results/on_tables.py ALGORITHM FILE [LIFETIMES]

ALGORITHM is what `vsml.VSMLClassifier` takes. Every lifetime is a random order of wine, breast cancer or iris; each of
its first 100 examples is predicted, then given to `partial_fit`; estimators without one are fitted again to all
examples so far. Inputs are standardised while they come, for all
alike: by the mean and the deviation of the examples so far, as in `learners.Standardised`. FILE is JSON: data set ->
estimator -> the accuracy of each lifetime.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier

from vsml import VSMLClassifier
from vsml.learners.standardised import Moments, Standardised

LIFETIMES, EXAMPLES = 32, 100
DATA: Mapping[str, Callable[..., Any]] = {"wine": load_wine, "breast cancer": load_breast_cancer, "iris": load_iris}


class Refitted:
    """An estimator that is fitted to all examples so far when a prediction is asked for."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.x: list[np.ndarray] = []
        self.y: list[int] = []

    def partial_fit(self, x: np.ndarray, y: np.ndarray, classes: np.ndarray) -> None:
        """Keeps an example [1, features] and its label [1]."""
        self.x.append(x[0])
        self.y.append(y[0])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """A label [1]; the only one, as long as there is one."""
        if len(set(self.y)) == 1:
            return np.array(self.y[:1])
        return self.estimator.fit(np.asarray(self.x), self.y).predict(x)


def estimators(algorithm: str, seed: int) -> dict[str, Any]:
    """All of them, at the settings that they come with, but for the loss of SGD and the number of neighbours."""
    return {
        "VSMLClassifier": VSMLClassifier(algorithm, random_state=seed),
        "SGDClassifier": SGDClassifier(loss="log_loss", random_state=seed),
        "MLPClassifier": MLPClassifier(random_state=seed),
        "GaussianNB": GaussianNB(),
        "1-nearest neighbour": Refitted(KNeighborsClassifier(1)),
        "1-NN by angle": Refitted(KNeighborsClassifier(1, metric="cosine")),
        "NearestCentroid": Refitted(NearestCentroid()),
        "RidgeClassifier": Refitted(RidgeClassifier()),
    }


def standardised(x: np.ndarray) -> np.ndarray:
    """Each row by the mean and the deviation of all rows up to it, [T, features]."""
    bound = Standardised.bound

    def step(moments: Moments, row: jax.Array) -> tuple[Moments, jax.Array]:
        moments = moments.with_batch(row[None])
        return moments, moments.standardised(row[None], bound)[0]

    none = jnp.zeros(x.shape[1])
    return np.asarray(jax.lax.scan(step, Moments(jnp.zeros(()), none, none), jnp.asarray(x, jnp.float32))[1])


def accuracy(estimator: Any, x: np.ndarray, y: np.ndarray, classes: np.ndarray) -> float:
    """Share of the examples that are predicted right before they are learned from; the first one counts as wrong."""
    right = 0
    for step, (row, label) in enumerate(zip(x[:, None], y[:, None], strict=True)):
        right += bool(step and estimator.predict(row)[0] == label[0])
        estimator.partial_fit(row, label, classes=classes)
    return right / len(x)


def main() -> None:
    """Reads the command line."""
    warnings.filterwarnings("ignore", message=".*was meta-trained with")
    warnings.filterwarnings("ignore", message=".*zero standard deviation")  # NearestCentroid, at the start
    np.seterr(divide="ignore", invalid="ignore")  # GaussianNB, while a class has a single example
    algorithm, file, *given = sys.argv[1:]
    lifetimes = int(given[0]) if given else LIFETIMES
    found: dict[str, dict[str, list[float]]] = {}
    for name, load in DATA.items():
        x, y = load(return_X_y=True)
        scores = found.setdefault(name, {})
        for seed in range(lifetimes):
            order = np.random.default_rng(seed).permutation(len(x))[:EXAMPLES]
            raw = x[order].astype(np.float64)
            for label, estimator in estimators(algorithm, seed).items():
                rows = raw if label == "VSMLClassifier" else standardised(raw)
                scores.setdefault(label, []).append(accuracy(estimator, rows, y[order], np.unique(y)))
        print(name, {label: round(float(np.mean(values)), 3) for label, values in scores.items()}, flush=True)
    Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
