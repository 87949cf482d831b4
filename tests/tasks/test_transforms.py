"""Each transform against its closed form."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks import Examples
from vsml.tasks.transforms import (
    ClassSubset,
    LabelPermutation,
    Pad,
    PixelPermutation,
    RandomProjection,
    Resize,
    Standardise,
    Translate,
)

KEYS = jax.random.split(jax.random.key(7), 400)


def examples(x, mean=0.0, std=1.0):
    return Examples(jnp.asarray(x, jnp.float32), jnp.float32(mean), jnp.float32(std))


LIST: Any = [4, 4, 1]  # a shape as a configuration file gives it
IMAGES = np.random.default_rng(0).standard_normal((5, 4, 4, 1)).astype(np.float32)


def test_standardise_uses_the_source_or_what_is_given():
    given = examples([[1.0, 3.0]], mean=2.0, std=0.5)
    once = Standardise().apply(KEYS[0], given)
    np.testing.assert_allclose(once.x, [[-2.0, 2.0]])
    assert (once.mean, once.std) == (0.0, 1.0)
    np.testing.assert_allclose(Standardise().apply(KEYS[0], once).x, once.x)
    np.testing.assert_allclose(Standardise(mean=1.0, std=4.0).apply(KEYS[0], given).x, [[0.0, 0.5]])


def test_random_projection_is_linear_and_keeps_the_scale():
    out = jax.vmap(lambda key: RandomProjection().apply(key, examples(IMAGES)).x)(KEYS)
    assert out.shape == (400, 5, 4, 4, 1)
    # E[R] = 0 and Var[R] = l^2 / 3 = 1 / n, so that E[(x R)_j^2] = mean(x^2); 6,400 draws per example.
    power = np.mean(np.square(IMAGES), axis=(1, 2, 3))
    np.testing.assert_allclose(np.mean(np.square(out), axis=(0, 2, 3, 4)), power, rtol=0.1)
    assert np.max(np.abs(np.mean(out, axis=(0, 2, 3, 4)))) < 0.05

    # The rows of R itself, by projecting the unit vectors: bounded by l, the same matrix for all examples.
    unit = np.eye(16, dtype=np.float32).reshape(16, 4, 4, 1)
    matrix = np.asarray(RandomProjection().apply(KEYS[0], examples(unit)).x).reshape(16, 16)
    limit = np.sqrt(6 / 32)
    assert limit * 0.95 < np.abs(matrix).max() <= limit
    flat = IMAGES.reshape(5, 16) @ matrix
    np.testing.assert_allclose(out[0].reshape(5, 16), flat, atol=1e-5)


def changed_share(transform):
    out = jax.vmap(lambda key: transform.apply(key, examples(IMAGES)).x)(KEYS)
    return np.mean([not np.array_equal(x, IMAGES) for x in np.asarray(out)])


@pytest.mark.parametrize("part", [RandomProjection, PixelPermutation])
def test_inputs_change_with_the_given_probability(part):
    assert changed_share(part(probability=0.0)) == 0.0
    assert changed_share(part(probability=1.0)) == 1.0
    assert abs(changed_share(part(probability=0.25)) - 0.25) < 0.08  # standard error 0.022


def test_labels_change_with_the_given_probability():
    def share(probability):
        labels = jax.vmap(lambda key: LabelPermutation(probability).relabel(key, 10))(KEYS)
        return np.mean([not np.array_equal(row, np.arange(10)) for row in np.asarray(labels)])

    assert share(0.0) == 0.0
    assert share(1.0) == 1.0
    assert abs(share(0.25) - 0.25) < 0.08


def test_label_permutation_is_a_bijection_and_uniform():
    labels = np.asarray(jax.vmap(lambda key: LabelPermutation().relabel(key, 4))(KEYS))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.sort(labels, axis=1), np.tile(np.arange(4), (400, 1)))
    for old in range(4):
        counts = np.bincount(labels[:, old], minlength=4)
        assert np.sum((counts - 100) ** 2 / 100) < 16.3  # 3 degrees of freedom, p = 0.001


def test_pixel_permutation_is_the_same_bijection_for_all_examples():
    x = np.arange(32, dtype=np.float32).reshape(2, 4, 4, 1)
    out = np.asarray(PixelPermutation().apply(KEYS[0], examples(x)).x)
    np.testing.assert_array_equal(np.sort(out[0].ravel()), np.arange(16))
    np.testing.assert_array_equal(out[1], out[0] + 16)


def test_class_subset_keeps_as_many_as_asked():
    labels = np.asarray(jax.vmap(lambda key: ClassSubset(3).relabel(key, 5))(KEYS))
    np.testing.assert_array_equal(np.sort(labels, axis=1), np.tile([-1, -1, 0, 1, 2], (400, 1)))
    kept = np.sum(labels >= 0, axis=0)
    np.testing.assert_allclose(kept, 240, atol=45)  # binomial(400, 3/5): standard deviation 9.8
    assert ClassSubset(3).output_spec((2,), 5) == ((2,), 3)
    with pytest.raises(UserError, match="cannot keep 6 of 5 classes"):
        ClassSubset(6).output_spec((2,), 5)


def test_resize_halves_by_an_antialiased_average():
    # Halving by a triangle filter of width 4: weights (1, 3, 3, 1) / 8, renormalised at the edge to (3, 3, 1) / 7.
    row = np.array([7.0, 14.0, 21.0, 0.0])
    x = np.broadcast_to(row[None, None, :, None], (1, 4, 4, 1))
    out = Resize((2, 2)).apply(KEYS[0], examples(x)).x
    expected = [(3 * 7 + 3 * 14 + 21) / 7, (14 + 3 * 21 + 3 * 0) / 7]
    np.testing.assert_allclose(out[0, :, :, 0], [expected, expected], rtol=1e-5)
    constant = Resize((7, 3)).apply(KEYS[0], examples(np.full((2, 4, 4, 3), 0.5)))
    np.testing.assert_allclose(constant.x, np.full((2, 7, 3, 3), 0.5), rtol=1e-6)
    assert Resize((7, 3)).output_spec((4, 4, 3), 10) == ((7, 3, 3), 10)
    with pytest.raises(UserError, match=r"needs images .* not \[16\]"):
        Resize((2, 2)).output_spec((16,), 10)


def test_translate_moves_each_image_by_a_few_pixels_and_repeats_its_border():
    image = np.arange(12.0).reshape(3, 4)
    given = examples(np.broadcast_to(image[None, :, :, None], (400, 3, 4, 1)))
    moved = np.asarray(Translate(1).apply(KEYS[0], given).x)[..., 0]
    padded = np.pad(image, 1, mode="edge")
    expected = np.stack([padded[i : i + 3, j : j + 4] for i in range(3) for j in range(3)])
    # By its own draw each: all nine are there, about equally often, and nothing else is.
    counts = (moved[:, None] == expected[None]).all((2, 3)).sum(0)
    assert counts.sum() == 400
    assert 25 < counts.min() <= counts.max() < 70
    np.testing.assert_array_equal(expected[8], [[5, 6, 7, 7], [9, 10, 11, 11], [9, 10, 11, 11]])
    with pytest.raises(UserError, match=r"needs images .* not \[12\]"):
        Translate().output_spec((12,), 10)


def test_pad_centres_images_and_appends_elsewhere():
    out = Pad(input_shape=(4, 5, 2)).apply(KEYS[0], examples(np.ones((1, 2, 2, 1)))).x
    expected = np.zeros((4, 5))
    expected[1:3, 1:3] = 1.0
    np.testing.assert_array_equal(out[0, :, :, 0], expected)
    np.testing.assert_array_equal(out[0, :, :, 1], np.zeros((4, 5)))
    np.testing.assert_array_equal(Pad((4,)).apply(KEYS[0], examples([[1.0, 2.0]])).x, [[1.0, 2.0, 0.0, 0.0]])
    np.testing.assert_array_equal(Pad(num_classes=12).apply(KEYS[0], examples(IMAGES)).x, IMAGES)
    assert Pad((28, 28, 1), 62).output_spec((8, 8, 1), 10) == ((28, 28, 1), 62)
    for wrong in ((7, 28, 1), (28, 28)):
        with pytest.raises(UserError, match="cannot pad inputs"):
            Pad(wrong).output_spec((8, 8, 1), 10)
    with pytest.raises(UserError, match="cannot pad 10 classes to 9"):
        Pad(num_classes=9).output_spec((8, 8, 1), 10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomProjection(probability=1.5),
        lambda: LabelPermutation(probability=-0.1),
        lambda: PixelPermutation(probability=float("nan")),
        lambda: Standardise(std=0.0),
        lambda: ClassSubset(0),
        lambda: Resize((0, 4)),
        lambda: Resize(LIST[:1]),
        lambda: Translate(0),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(UserError, match=r"transforms\.\w+.* (give|keep) "):
        make()


@pytest.mark.parametrize(
    "transform",
    [
        Standardise(),
        RandomProjection(),
        LabelPermutation(),
        ClassSubset(2),
        PixelPermutation(),
        Resize(LIST[:2]),
        Pad(LIST),
        Translate(),
    ],
)
def test_transforms_are_values(transform):
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert hash(transform) == hash(pickle.loads(pickle.dumps(transform)))
