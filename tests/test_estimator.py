"""`vsml.VSMLClassifier`: a learned algorithm as scikit-learn knows its estimators."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import NO_EVALUATORS, train
from sklearn.datasets import load_iris, make_blobs
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import vsml
from vsml import learned
from vsml.estimator import ROWS, VSMLClassifier
from vsml.runs import sources

_BLOBS: Any = make_blobs(120, 5, centers=3, cluster_std=1.5, random_state=0)
X: np.ndarray = _BLOBS[0]
Y: np.ndarray = _BLOBS[1]
pytestmark = pytest.mark.filterwarnings("ignore:.*was meta-trained with")  # tests have other data than meta-training
NAMES = np.array(["a", "b", "c"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of backprop on random features, as sub-RNNs: good enough to learn blobs."""
    folder = tmp_path_factory.mktemp("backprop")
    parts = ("cells/backprop.gin", "learners/vsml_on_random_features.gin", "learners.RandomFeatures.num=64")
    train(folder, *NO_EVALUATORS, *parts, "LEARNING_RATE=0.0", "STEPS=1")
    return folder


@pytest.fixture(scope="module")
def algorithm(run: Path) -> learned.LearnedAlgorithm:
    """What that run has found."""
    return vsml.load(run)


@pytest.fixture
def classifier(algorithm: learned.LearnedAlgorithm) -> VSMLClassifier:
    return VSMLClassifier(algorithm, random_state=0)


def test_it_learns(classifier: VSMLClassifier):
    assert classifier.fit(X[:80], NAMES[Y[:80]]).score(X[80:], NAMES[Y[80:]]) > 0.9
    assert classifier.classes_.tolist() == ["a", "b", "c"]
    probabilities = classifier.predict_proba(X[80:])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(NAMES[probabilities.argmax(1)], classifier.predict(X[80:]))


def test_its_state_is_that_of_a_lifetime_of_the_algorithm(classifier: VSMLClassifier):
    """The same numbers as by the functions of the algorithm, step by step, behind running standardisation."""
    classifier.partial_fit(X[:30], Y[:30], classes=[0, 1, 2])
    running = [(X[:t] - X[:t].mean(0)) / X[:t].std(0) for t in range(2, 32)]
    standardised = [np.zeros(5), *(np.clip(rows[-1], -3, 3) for rows in running)]
    algorithm, seed = classifier.algorithm, np.random.RandomState(0).randint(2**31 - 1)
    assert isinstance(algorithm, learned.LearnedAlgorithm)
    lifetime = algorithm.begin(5, 3, seed=seed)
    for x, label in zip(standardised, Y[:30], strict=False):
        lifetime.predict(x)
        lifetime.learn(label)
    logits = lifetime.predict(standardised[30])
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(classifier.predict_proba(X[30:31])[0], expected / expected.sum(), atol=2e-3)


def test_examples_one_by_one_or_at_once_are_the_same(classifier: VSMLClassifier):
    at_once = copy.deepcopy(classifier).partial_fit(X, Y, classes=[0, 1, 2])
    for x, y in zip(X, Y, strict=True):
        classifier.partial_fit(x[None], [y], classes=[0, 1, 2])
    assert classifier.n_seen_ == at_once.n_seen_ == len(X) > ROWS
    np.testing.assert_allclose(classifier.predict_proba(X), at_once.predict_proba(X), atol=1e-3)


def test_a_prediction_depends_on_no_other_row_and_leaves_no_trace(classifier: VSMLClassifier):
    classifier.fit(X[:50], Y[:50])
    together = classifier.predict_proba(X)
    np.testing.assert_array_equal(np.concatenate([classifier.predict_proba(x[None]) for x in X]), together)


def test_more_passes_learn_more(algorithm: learned.LearnedAlgorithm):
    x, y = load_iris(return_X_y=True)
    once, often = (VSMLClassifier(algorithm, passes=passes, random_state=0).fit(x, y) for passes in (1, 10))
    assert (once.n_seen_, often.n_seen_) == (150, 1500)
    assert often.score(x, y) >= once.score(x, y) - 0.01
    assert often.score(x, y) > 0.9


def test_classes_may_come_later(algorithm: learned.LearnedAlgorithm):
    classifier = VSMLClassifier(algorithm, max_classes=3, random_state=0)
    order = np.argsort(-Y, kind="stable")  # class 2 comes first
    classifier.partial_fit(X[order[:40]], NAMES[Y[order[:40]]])
    assert classifier.classes_.tolist() == ["c"]
    classifier.partial_fit(X, NAMES[Y])
    assert classifier.classes_.tolist() == ["a", "b", "c"]
    assert classifier.score(X, NAMES[Y]) > 0.9
    with pytest.raises(ValueError, match="label 'd' is not one of the 3 classes of the first call"):
        classifier.partial_fit(X[:1], ["d"])
    assert classifier.n_seen_ == 160


def test_what_the_first_call_must_say(classifier: VSMLClassifier):
    with pytest.raises(ValueError, match="name all classes in the first call to partial_fit, or set max_classes"):
        classifier.partial_fit(X, Y)


def test_a_pickle_goes_on_where_it_was(classifier: VSMLClassifier):
    classifier.partial_fit(X[:60], Y[:60], classes=[0, 1, 2])
    other = pickle.loads(pickle.dumps(classifier))
    for each in (classifier, other):
        each.partial_fit(X[60:], Y[60:])
    np.testing.assert_array_equal(other.predict_proba(X), classifier.predict_proba(X))


def test_in_a_pipeline_with_cross_validation(classifier: VSMLClassifier):
    assert cross_val_score(make_pipeline(MinMaxScaler(), classifier), X, Y, cv=3).mean() > 0.9


def test_an_algorithm_by_its_place(run: Path, classifier: VSMLClassifier, tmp_path: Path):
    sources.export(run, tmp_path / "backprop.npz")
    classifier.fit(X, Y)
    for place in (run, str(tmp_path / "backprop.npz")):
        other = VSMLClassifier(place, random_state=0).fit(X, Y)
        np.testing.assert_array_equal(other.predict_proba(X), classifier.predict_proba(X))


def test_data_unlike_those_of_meta_training(algorithm: learned.LearnedAlgorithm):
    classifier = VSMLClassifier(algorithm, random_state=0)
    x = np.random.default_rng(0).normal(size=(30, 300)).astype(np.float32)
    with pytest.warns(UserWarning, match="300 inputs: the algorithm was meta-trained with 64"):
        classifier.fit(x, np.arange(30) % 10)
    with pytest.warns(UserWarning, match="2 classes: the algorithm was meta-trained with 10"):
        classifier.fit(x[:, :64], np.arange(30) % 2)
    long = 4 * algorithm.specs[0].length
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(x[:10, :64], np.arange(10))
        classifier.partial_fit(np.tile(x[:1, :64], (long - 10, 1)), np.zeros(long - 10, int))
    with pytest.warns(UserWarning, match=f"{long + 1} examples: the algorithm was meta-trained with {long // 4}"):
        classifier.partial_fit(x[:1, :64], [0])


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(algorithm: learned.LearnedAlgorithm):
    check_estimator(VSMLClassifier(algorithm))
