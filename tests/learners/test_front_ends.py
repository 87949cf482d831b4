"""What stands in front of a learner: random features, running standardisation, similarity to remembered examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from backprop import backprop
from stepping import labelled

from vsml.cells import Bilinear
from vsml.errors import UserError
from vsml.learners import (
    GradientDescent,
    NearestClassMean,
    RandomFeatures,
    RememberedExamples,
    Standardised,
    UnitLength,
)
from vsml.learners.front_end import Reading
from vsml.learners.standardised import FEW, RARE, Moments
from vsml.learners.unroll import unroll
from vsml.tasks import Feedback, TaskSpec

SPEC = TaskSpec((3, 2), 2, length=7)
DESCENT = GradientDescent(optax.sgd(0.1))


def examples(spec: TaskSpec = SPEC, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(seed)
    x = generator.normal(3.0, 2.0, (spec.length, spec.batch, *spec.input_shape)).astype(np.float32)
    y = generator.integers(spec.num_outputs, size=(spec.length, spec.batch))
    return jnp.asarray(x), jax.nn.one_hot(y, spec.num_outputs)


def read_by(state: Reading) -> jax.Array:
    """What the learner behind reads, after a prediction."""
    assert state.read is not None
    return state.read


def test_the_inner_learner_lives_on_the_features():
    learner = RandomFeatures(DESCENT, num=5)
    state = learner.initial_state({}, jax.random.key(1), SPEC)
    x, y = examples()
    features = np.maximum(
        np.asarray(x).reshape(7, 1, 6) @ np.asarray(state.front.directions) + np.asarray(state.front.offsets), 0
    )
    assert np.ptp(features) > 0.5
    expected = unroll(DESCENT, {}, state.inner, labelled(jnp.asarray(features), y))
    lived = unroll(learner, {}, state, labelled(x, y))
    np.testing.assert_allclose(lived.outputs, expected.outputs, rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, learner.learned_variables(lived.state)) == jax.tree.map(
        jnp.shape, DESCENT.learned_variables(expected.state)
    )
    np.testing.assert_array_equal(lived.state.front.directions, state.front.directions)


def test_inputs_of_one_length_keep_their_direction():
    x, _ = examples()
    learner = UnitLength(NearestClassMean())
    state = learner.initial_state({}, jax.random.key(0), SPEC)
    for scale in (1.0, 100.0):
        predicted, _ = learner.predict({}, state, scale * x[0])
        rows = np.append(scale * np.asarray(x[0]).ravel(), 1.0)
        np.testing.assert_allclose(read_by(predicted)[0], rows / np.linalg.norm(rows), rtol=1e-5)


def test_features_are_of_one_size_whatever_the_number_of_inputs():
    for inputs in (50, 1000):
        spec = TaskSpec((inputs,), 2, length=1)
        drawn = RandomFeatures(DESCENT, num=2000).initial_state({}, jax.random.key(0), spec).front
        features = drawn(jax.random.normal(jax.random.key(1), (300, inputs)))
        assert features.std() == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("batch", [1, 3])
def test_inputs_are_standardised_by_those_so_far(batch: int):
    spec = TaskSpec((4,), 2, length=6, batch=batch)
    x, y = examples(spec)
    learner = Standardised(NearestClassMean(), bound=1.5)
    state = learner.initial_state({}, jax.random.key(0), spec)
    for step in range(spec.length):
        predicted, _ = learner.predict({}, state, x[step])
        seen = np.asarray(x[: step + 1], np.float64).reshape(-1, 4)
        mean, std = seen.mean(0), seen.std(0)
        expected = np.clip((np.asarray(x[step]) - mean) / np.where(std > 0, std, np.inf), -1.5, 1.5)
        np.testing.assert_allclose(read_by(predicted), expected, rtol=1e-5, atol=1e-5)
        state = learner.learn({}, predicted, x[step], Feedback(error=jnp.zeros((batch, 2)), target=y[step]))


def test_a_shift_and_a_scale_of_the_inputs_are_forgotten():
    spec = TaskSpec((4,), 2, length=200)
    x, y = examples(spec)
    learner = Standardised(DESCENT)
    state = learner.initial_state({}, jax.random.key(0), spec)
    outputs = [unroll(learner, {}, state, labelled(data, y)).outputs for data in (x, 1000 * x + 5e4)]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=2e-3)


def moments_after(x: np.ndarray, bound: float = 3.0) -> list[Moments]:
    """Of the inputs [T, *shape], one after the other; not compiled, which could change last digits."""
    learner = Standardised(DESCENT, bound=bound)
    moments = [learner.begin(jax.random.key(0), TaskSpec(x.shape[1:], 2, length=1))]
    for row in jnp.asarray(x, jnp.float32):
        moments.append(learner.see(moments[-1], row[None])[0])
    return moments[1:]


def test_moments_of_ordinary_inputs_are_plain():
    """Though most have an entry that hardly varied before."""
    generator = np.random.default_rng(0)
    x = generator.normal(3.0, 2.0, (200, 6, 2))
    x[:, 0, 0] = np.where(generator.random(200) < 0.02, 255.0, generator.integers(2, size=200))
    plain = Moments(*(jnp.zeros(shape) for shape in ((), (6, 2), (6, 2))))
    for moments, row in zip(moments_after(x), jnp.asarray(x, jnp.float32), strict=True):
        plain = plain.with_batch(row[None])
        for one, other in zip(moments, plain, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(plain.mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(plain.std, x.std(0), rtol=1e-4)


@pytest.mark.parametrize("bad", [1e3, -1e6, 1e30, 3.4e38, "one entry"])
def test_a_bad_input_enters_the_moments_within_the_bound(bad: float | str):
    x = np.random.default_rng(0).normal(3.0, 2.0, (41, 5))
    x[20] = [3.0, 3.0, 1e6, 3.0, 3.0] if bad == "one entry" else bad
    moments = moments_after(x, bound=2.0)
    mean, std = x[:20].mean(0), x[:20].std(0)
    x[20] = np.clip(x[20], mean - 2 * std, mean + 2 * std)
    assert [int(each.far) for each in moments] == [0] * 20 + [1] * 21
    np.testing.assert_allclose(moments[-1].mean, x.mean(0), rtol=1e-3)
    np.testing.assert_allclose(moments[-1].std, x.std(0), rtol=1e-3)


def test_bad_inputs_of_a_batch():
    x = np.random.default_rng(0).normal(size=(6, 3, 4))
    x[3, 1] = 1e4
    learner = Standardised(DESCENT)
    state = learner.begin(jax.random.key(0), TaskSpec((4,), 2, length=6, batch=3))
    for rows in jnp.asarray(x, jnp.float32):
        state, _ = learner.see(state, rows)
    assert int(state.far) == 1
    assert float(state.std.max()) < 2


def test_a_shift_that_stays_is_followed():
    """By bounded inputs first, then as it is, from one in RARE on."""
    x = np.random.default_rng(0).normal(size=(400, 5))
    x[100:] = 1e3 + 10 * x[100:]
    moments = moments_after(x)
    assert 0 < int(moments[-1].far) <= len(x) // RARE
    assert int(moments[-1].far) == int(moments[-200].far)
    assert float(moments[99 + 100 // RARE].mean.max()) < 10
    np.testing.assert_allclose(moments[-1].mean, x.mean(0), rtol=0.1)
    np.testing.assert_allclose(moments[-1].std, x.std(0), rtol=0.1)


def test_among_the_first_inputs_none_is_far():
    x = np.random.default_rng(0).normal(size=(20, 5))
    x[FEW - 1] = 1e3
    moments = moments_after(x)
    assert int(moments[-1].far) == 0
    np.testing.assert_allclose(moments[-1].mean, x.mean(0), rtol=1e-3)


@pytest.mark.parametrize("size", [1e18, 1e30, 3.4e38])
def test_numbers_near_the_end_of_float32_are_no_trouble(size: float):
    x = size * np.random.default_rng(0).choice([-1.0, 1.0], (40, 3))
    learner = Standardised(DESCENT)
    for moments, row in zip(moments_after(x), jnp.asarray(x, jnp.float32), strict=True):
        assert jnp.isfinite(learner.see(moments, row[None])[1]).all()


def test_constant_inputs_are_no_trouble():
    spec = TaskSpec((2,), 2, length=5)
    x, y = jnp.full((5, 1, 2), 1e4), jax.nn.one_hot(jnp.zeros((5, 1), int), 2)
    learner = Standardised(DESCENT)
    lived = unroll(learner, {}, learner.initial_state({}, jax.random.key(0), spec), labelled(x, y))
    assert jnp.isfinite(lived.outputs).all()


def similarities(x: np.ndarray, known: np.ndarray, sharpness: float) -> np.ndarray:
    """Features of an input [n] beside known examples [t, n], by the text book."""
    unit = [np.append(each.ravel(), 1.0) for each in (x, *known)]
    unit = [each / np.linalg.norm(each) for each in unit]
    cosines = np.array([unit[0] @ other for other in unit[1:]])
    z = np.exp(sharpness * (cosines - cosines.max(initial=-1)) / max(cosines.std() if len(cosines) else 0, 1e-3))
    return z / max(np.linalg.norm(z), 1e-3)


@pytest.mark.parametrize("batch", [1, 2])
def test_similarities_to_the_first_examples(batch: int):
    """What is read in a prediction and while learning, also when nothing more is remembered."""
    spec = TaskSpec((3, 2), 2, length=7, batch=batch)
    x, y = examples(spec)
    learner = RememberedExamples(DESCENT, num=4, sharpness=1.5, surprise=0.0)
    state = learner.initial_state({}, jax.random.key(0), spec)
    seen = np.zeros((0, 6))
    for step in range(spec.length):
        rows = np.asarray(x[step], np.float64).reshape(batch, 6)
        after = np.concatenate([seen, rows])[:4]
        predicted, _ = learner.predict({}, state, x[step])
        feedback = Feedback(error=jnp.zeros((batch, 2)), target=y[step])
        _, written = learner.keep(predicted.front, x[step], read_by(predicted), feedback)
        for row, features, learned_with in zip(rows, read_by(predicted), written, strict=True):
            for found, known in ((features, seen), (learned_with, after)):
                expected = np.pad(similarities(row, known, 1.5), (0, 4 - len(known)))
                np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)
        state = learner.learn({}, predicted, x[step], feedback)
        seen = after
    assert int(state.front.count) == 4


def test_only_what_surprises_is_remembered():
    spec = TaskSpec((2,), 2, length=4, batch=3)
    x, _ = examples(spec)
    learner = RememberedExamples(DESCENT, num=5, surprise=0.2)
    state = learner.initial_state({}, jax.random.key(0), spec)
    errors = [[0.3, 0.1, 0.2], [0.1, 0.1, 0.1], [-0.1, -0.5, 0.0], [0.9, 0.9, 0.9]]
    places = [[0, None, 1], [None, None, None], [None, 2, None], [3, 4, None]]
    stored = []
    for step, error in enumerate(errors):
        feedback = Feedback(error=jnp.asarray(np.outer(error, [1, -1]), jnp.float32), target=jnp.zeros((3, 2)))
        predicted, _ = learner.predict({}, state, x[step])
        _, written = learner.keep(predicted.front, x[step], read_by(predicted), feedback)
        for b, place in enumerate(places[step]):
            if place is not None:
                assert int(written[b].argmax()) == place
                stored.append(np.append(np.asarray(x[step, b]), 1.0))
        state = learner.learn({}, predicted, x[step], feedback)
        assert int(state.front.count) == len(stored)
    expected = np.stack(stored) / np.linalg.norm(stored, axis=1, keepdims=True)
    np.testing.assert_allclose(state.front.examples, expected, rtol=1e-5)


def test_memories_of_many_sizes():
    """Rooms are log-uniform, no example beyond them is remembered, and none is read."""
    spec = TaskSpec((4,), 2, length=64)
    x, y = examples(spec)
    learner = RememberedExamples(DESCENT, num=32, surprise=0.0, least=4)
    fronts = [learner.initial_state({}, jax.random.key(seed), spec).front for seed in range(200)]
    rooms = np.array([int(front.room) for front in fronts])
    assert (rooms.min(), rooms.max()) == (4, 32)
    assert np.median(rooms) == pytest.approx(np.sqrt(4 * 32), rel=0.2)
    state = learner.initial_state({}, jax.random.key(int(np.argmin(rooms))), spec)
    lived = unroll(learner, {}, state, labelled(x, y)).state
    assert int(lived.front.count) == 4
    assert not np.asarray(lived.front.examples[4:]).any()
    assert not np.asarray(read_by(learner.predict({}, lived, x[0])[0])[0, 4:]).any()
    shorter = learner.initial_state({}, jax.random.key(0), TaskSpec((4,), 2, length=3)).front
    assert int(shorter.room) == 3
    for least in (0, 33):
        with pytest.raises(UserError, match=f"least is {least}: set it to 1 to 32, which is num, or to None"):
            RememberedExamples(DESCENT, num=32, least=least)


@pytest.mark.parametrize("kind", ["gradient descent", "VSML"])
def test_a_layer_that_descends_on_them_is_a_kernel_machine(kind: str):
    """Its logits are sums of similarities to remembered examples, weighted by the errors made since."""
    spec = TaskSpec((4,), 3, length=12)
    x, y = examples(spec)
    descent = GradientDescent(optax.sgd(0.5))
    cell = Bilinear(start="backprop", learning_rate=0.5, silent_inputs=False)
    sub_rnns = backprop(cell, message_size=1, output_channel=0, random_share=0.0)
    learner = RememberedExamples(descent if kind == "gradient descent" else sub_rnns, sharpness=2.0, surprise=0.0)
    params = learner.init(jax.random.key(0), spec)
    state = learner.initial_state(params, jax.random.key(1), spec)
    if kind == "gradient descent":
        state = state._replace(inner=jax.tree.map(jnp.zeros_like, state.inner))
    lived = unroll(learner, params, state, labelled(x, y))
    squash = np.tanh if kind == "VSML" else np.asarray
    weights, bias, inputs = np.zeros((12, 3)), np.zeros(3), np.asarray(x, np.float64)[:, 0]
    for t, row in enumerate(inputs):
        logits = squash(similarities(row, inputs[:t], 2.0)) @ weights[:t] + bias
        np.testing.assert_allclose(lived.outputs[t, 0], logits, rtol=1e-3, atol=1e-4)
        slope = np.exp(logits) / np.exp(logits).sum() - np.asarray(y[t, 0])
        weights[: t + 1] -= 0.5 * np.outer(squash(similarities(row, inputs[: t + 1], 2.0)), slope)
        bias -= 0.5 * slope if kind == "gradient descent" else 0


def test_a_projection_changes_similarities_little():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(5, 300))[np.arange(40) % 5][:, None] + 0.5 * generator.normal(size=(40, 1, 300))
    projected = x @ generator.normal(size=(300, 300)) / 300**0.5
    learner = RememberedExamples(DESCENT, surprise=0.0)
    read = []
    for data in (x, projected):
        spec = TaskSpec((300,), 2, length=40)
        state = learner.initial_state({}, jax.random.key(0), spec)
        for row in jnp.asarray(data, jnp.float32):
            predicted, _ = learner.predict({}, state, row)
            state = learner.learn({}, predicted, row, Feedback(error=jnp.zeros((1, 2)), target=jnp.zeros((1, 2))))
        read.append(read_by(predicted)[0, :39])
    assert read[0].shape == (39,)
    assert 0.02 < float(read[0].mean()) < 0.3
    assert np.corrcoef(*read)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFeatures(DESCENT, num=0), r"learners\.RandomFeatures\.num is 0: set it to 1 or more"),
        (lambda: RememberedExamples(DESCENT, num=0), r"learners\.RememberedExamples\.num is 0: set it to 1 or more"),
        (lambda: RememberedExamples(DESCENT, sharpness=-1.0), r"RememberedExamples\.sharpness is -1.0: set it to 0 or"),
        (lambda: Standardised(DESCENT, bound=-1), r"learners\.Standardised\.bound is -1: set it above 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
