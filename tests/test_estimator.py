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
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import vsml
from vsml import estimator, learned
from vsml.errors import UserError
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
    with pytest.raises(ValueError, match="4 classes, but max_classes is 3: raise it"):
        classifier.partial_fit(X[:2], ["c", "d"])
    assert classifier.n_seen_ == 160


def test_what_the_first_call_must_say(classifier: VSMLClassifier):
    with pytest.raises(ValueError, match="name all classes in the first call to partial_fit, or set max_classes"):
        classifier.partial_fit(X, Y)
    unnamed = "label 'zz' is not one of the classes named in the first call: name all of them there, or set max_classes"
    with pytest.raises(ValueError, match=unnamed):
        classifier.partial_fit(X[:2], ["c", "zz"], classes=["b", "c"])
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    classifier.partial_fit(X[:2], ["c", "b"], classes=["b", "c"])
    with pytest.raises(ValueError, match=unnamed):
        classifier.partial_fit(X[:2], ["c", "zz"])


def test_later_calls_name_the_same_classes_or_none(algorithm: learned.LearnedAlgorithm):
    classifier = VSMLClassifier(algorithm).partial_fit(X, Y, classes=[0, 1, 2])
    classifier.partial_fit(X[:1], Y[:1], classes=np.array([2, 1, 0])).partial_fit(X[:1], Y[:1])
    for classes in ([0, 1], [0, 1, 2, 3], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=r"is not what the first call named, \[0, 1, 2\]: give the same, or leave"):
            classifier.partial_fit(X[:1], Y[:1], classes=classes)
    assert classifier.n_seen_ == 122
    growing = VSMLClassifier(algorithm, max_classes=3).partial_fit(X[:1], [0], classes=[0, 1]).partial_fit(X[:1], [2])
    for classes in ([0, 1], [0, 1, 2]):
        growing.partial_fit(X[:1], [1], classes=classes)
    with pytest.raises(ValueError, match=r"named, \[0, 1\]"):
        growing.partial_fit(X[:1], [1], classes=[0, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_classes": 2}, "3 classes, but max_classes is 2: raise it"),
        ({"max_classes": 0}, "max_classes is 0: set it to a whole number, 1 or more, or to None"),
        ({"max_classes": "3"}, "max_classes is '3': set it to a whole number"),
        ({"max_classes": 3.5}, "max_classes is 3.5: set it to a whole number"),
        ({"passes": 1.5}, "passes is 1.5: set it to a whole number, 1 or more"),
        ({"passes": 0}, "passes is 0"),
        ({"algorithm": "pretrained:none"}, "there is no such pretrained algorithm"),
    ],
)
def test_what_fails_leaves_no_trace(classifier: VSMLClassifier, settings: dict[str, Any], message: str):
    """Nothing is half fitted, and an earlier fit stays as it was."""
    broken = VSMLClassifier(**(classifier.get_params() | settings))
    for call in (broken.fit, lambda x, y: broken.partial_fit(x, y, classes=np.unique(y))):
        with pytest.raises((ValueError, UserError), match=message):
            call(X, NAMES[Y])
        with pytest.raises(NotFittedError):
            broken.predict(X)
    before = classifier.fit(X, NAMES[Y]).predict_proba(X)
    with pytest.raises((ValueError, UserError), match=message):
        classifier.set_params(**settings).fit(X[:, :3], NAMES[Y])
    np.testing.assert_array_equal(classifier.predict_proba(X), before)
    assert classifier.partial_fit(X[:1], ["a"]).n_seen_ == 121


def test_a_call_that_is_interrupted_leaves_no_trace(classifier: VSMLClassifier, monkeypatch: pytest.MonkeyPatch):
    """After its first block."""
    before = classifier.fit(X, Y).predict_proba(X)
    calls = iter([estimator._lived])
    monkeypatch.setattr(estimator, "_lived", lambda *arguments: next(calls)(*arguments))
    with pytest.raises(StopIteration):
        classifier.partial_fit(X, Y)
    assert classifier.n_seen_ == 120
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_labels_of_later_calls_are_checked(algorithm: learned.LearnedAlgorithm):
    classifier = VSMLClassifier(algorithm, max_classes=5).partial_fit(X, Y)
    for labels in ([0.5, 1.5], [0.0, np.nan], [[0, 1], [1, 0]]):
        with pytest.raises(ValueError, match=r"Unknown label type|contains NaN|should be a 1d array"):
            classifier.partial_fit(X[:2], labels)
    assert classifier.partial_fit(X[:2], [0.0, 3.0]).classes_.tolist() == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of scikit-learn, before it refuses what is too large
def test_inputs_of_later_calls_are_checked(classifier: VSMLClassifier):
    """Plain arrays take a short way: it refuses what scikit-learn does, and learns the same from all other forms."""
    classifier.fit(X, Y)
    for wrong, message in [
        (X[:2, :3], "X has 3 features, but VSMLClassifier is expecting 5"),
        (X[0], "Expected 2D array, got 1D array instead"),
        (X[:0], "0 sample"),
        (X[:2] * np.nan, "contains NaN"),
        (X[:2] * 1e300, "contains infinity or a value too large"),
        (X[:2].astype(complex), "Complex data not supported"),
    ]:
        for call in (classifier.predict, lambda x: classifier.partial_fit(x, Y[: len(x)])):
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier.partial_fit(X[:2], Y[:3])
    for form in (np.float64, np.float32, np.int64):
        rows = X[:9].round().astype(form)
        np.testing.assert_array_equal(classifier.predict_proba(rows), classifier.predict_proba(rows.tolist()))
        plain, listed = (copy.deepcopy(classifier).partial_fit(x, Y[:9]) for x in (rows, rows.tolist()))
        np.testing.assert_array_equal(plain.predict_proba(X), listed.predict_proba(X))


WINE: Any = load_wine(return_X_y=True)


@pytest.mark.parametrize("factor", [30.0, 1e3, 1e6, 1e30, -3e38])
def test_a_bad_row_changes_little(algorithm: learned.LearnedAlgorithm, factor: float):
    x, y = WINE
    order = np.random.default_rng(0).permutation(len(x))
    (x, y), test = (x[order[:100]], y[order[:100]]), (x[order[100:]], y[order[100:]])
    plain = VSMLClassifier(algorithm, random_state=0).partial_fit(x, y, classes=[0, 1, 2])
    assert plain.score(*test) > 0.9
    classifier = VSMLClassifier(algorithm, random_state=0)
    bad = np.clip(x[0] * factor, -3e38, 3e38)
    with pytest.warns(UserWarning, match="^1 row is far from the data before, .* to 3 standard .*: check units"):
        classifier.partial_fit(np.insert(x, 50, bad, 0), np.insert(y, 50, y[0]), classes=[0, 1, 2])
    assert classifier.score(*test) == pytest.approx(plain.score(*test), abs=0.05)
    classifier.partial_fit(bad[None], y[:1])  # one warning is enough
    with pytest.warns(UserWarning, match="^2 rows are far"):
        classifier.fit(np.concatenate([x, bad[None], bad[None]]), np.append(y, [0, 0]))


@pytest.mark.parametrize("load", [load_wine, load_iris, load_breast_cancer, load_digits])
@pytest.mark.parametrize("in_order", [False, True])
def test_no_row_of_a_common_table_is_far(algorithm: learned.LearnedAlgorithm, load: Any, in_order: bool):
    x, y = load(return_X_y=True)
    order = np.argsort(y, kind="stable") if in_order else np.random.default_rng(0).permutation(len(x))
    classifier = VSMLClassifier(algorithm).partial_fit(x[order[:300]], y[order[:300]], classes=np.unique(y))
    assert int(classifier._state.front.far) == 0


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
    long = 16 * algorithm.specs[0].length
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(x[:10, :64], np.arange(10))
        classifier.partial_fit(np.tile(x[:1, :64], (long - 10, 1)), np.zeros(long - 10, int))
    beyond = rf"^{long + 1:,} examples: .* meta-trained with {long // 16}, so it may be less accurate here: compare it"
    with pytest.warns(UserWarning, match=beyond):
        classifier.partial_fit(x[:1, :64], [0])


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(algorithm: learned.LearnedAlgorithm):
    check_estimator(VSMLClassifier(algorithm))
