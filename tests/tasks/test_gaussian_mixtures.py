"""Tasks of Gaussian clusters: how hard they are, and that no two are alike."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks import ClassificationTask, GaussianMixtures, HeldOut, TaskSpec
from vsml.tasks.transforms import Standardise


def tasks(distribution: GaussianMixtures, number: int = 8, seed: int = 0) -> ClassificationTask:
    """Lifetimes, leaves [number, T, ...]."""
    keys = jax.random.split(jax.random.key(seed), number)
    return jax.device_get(jax.vmap(lambda key: distribution.sample(distribution.load(), key))(keys))


def nearest(distribution: GaussianMixtures) -> float:
    """How often the nearest of the first half of a lifetime has the label of an example of the second half."""
    found = tasks(distribution)
    half = distribution.length // 2
    right = []
    for x, y in zip(found.x[:, :, 0], found.y[:, :, 0].argmax(-1), strict=True):
        distance = np.square(x[half:, None] - x[None, :half]).sum(-1)
        right.append(np.mean(y[:half][distance.argmin(1)] == y[half:]))
    return float(np.mean(right))


def test_shapes_moments_and_classes():
    distribution = GaussianMixtures(length=300, inputs=7, classes=4, batch=2)
    found = tasks(distribution)
    assert distribution.spec == TaskSpec((7,), 4, 300, 2)
    assert found.x.shape == (8, 300, 2, 7)
    np.testing.assert_array_equal(found.mask, np.ones((8, 300, 2)))
    np.testing.assert_array_equal(found.y.sum(-1), 1)
    np.testing.assert_allclose(found.y.mean((0, 1, 2)), 1 / 4, atol=0.03)
    np.testing.assert_allclose(found.x.mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(found.x.std((1, 2, 3)), 1, atol=1e-4)


def test_spread_makes_tasks_hard():
    easy, hard = (nearest(GaussianMixtures(length=200, spread=(spread, spread))) for spread in (0.2, 2.0))
    assert easy > 0.9
    assert 0.1 < hard < 0.5


def test_wrong_labels():
    easy = GaussianMixtures(length=400, spread=(0.1, 0.1))
    noisy = GaussianMixtures(length=400, spread=(0.1, 0.1), label_noise=0.4)
    same = (tasks(easy).y == tasks(noisy).y).all(-1).mean()
    np.testing.assert_array_equal(tasks(easy).x, tasks(noisy).x)
    assert same == pytest.approx(1 - 0.4 * 0.9, abs=0.03)  # one of ten random labels is right by chance


def test_every_lifetime_has_its_own_task():
    found = tasks(GaussianMixtures(length=2000, inputs=5, classes=2, clusters=1, spread=(0.01, 0.01)), number=4)
    means = np.stack([found.x[i, :, 0][found.y[i, :, 0, 0] == 1].mean(0) for i in range(4)])
    assert np.square(means[:, None] - means[None]).sum(-1)[np.triu_indices(4, 1)].min() > 0.1


def test_a_meta_test_has_fresh_tasks_of_its_own_length():
    distribution = GaussianMixtures(length=20)
    assert HeldOut(distribution, length=50).resolved == GaussianMixtures(length=50)
    with pytest.raises(UserError, match=r"takes no transforms: leave tasks.HeldOut.transforms empty"):
        _ = HeldOut(distribution, transforms=(Standardise(),)).resolved


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 1}, "tasks.GaussianMixtures.classes is 1: give at least 2"),
        ({"rank": 0}, "tasks.GaussianMixtures.rank is 0: give at least 1"),
        ({"spread": (1.0, 0.5)}, r"spread is \(1.0, 0.5\): give the lowest and the highest, both above 0"),
        ({"label_noise": 1.0}, "label_noise is 1.0: give a share, from 0 to below 1"),
    ],
)
def test_numbers_that_make_no_task(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        GaussianMixtures(length=10, **settings)
