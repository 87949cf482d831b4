"""Meta RNN: size, timing of the feedback, a loop written with numpy, and learning."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import step

from vsml.errors import UserError
from vsml.learners.meta_rnn import MetaRNN
from vsml.tasks.base import TaskSpec

SPEC = TaskSpec((2, 2), 3, length=4, batch=2)


def _examples(length: int = 4):
    x = jax.random.normal(jax.random.key(1), (length, 2, 2, 2))
    y = jax.nn.one_hot(jax.random.randint(jax.random.key(2), (length, 2), 0, 3), 3)
    return x, y


def _run(learner, params, x, y):
    live = jax.jit(functools.partial(step, learner))
    state, predictions = learner.initial_state(params, jax.random.key(0), SPEC), []
    for inputs, labels in zip(x, y, strict=True):
        state, logits = live(params, state, inputs, labels)
        predictions.append(logits)
    return state, jnp.stack(predictions)


def test_parameter_count_at_28_by_28():
    learner, spec = MetaRNN(), TaskSpec((28, 28, 1), 10, length=1, batch=1)
    params = jax.eval_shape(lambda key: learner.init(key, spec), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 478_986
    state = learner.initial_state(None, jax.random.key(0), spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(learner.learned_variables(state))) == 256
    assert not any(leaf.any() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(("bound", "micro_ticks"), [(100.0, 2), (0.5, 1), (None, 3)])
def test_equals_a_numpy_loop(bound, micro_ticks):
    learner = MetaRNN(hidden_size=5, micro_ticks=micro_ticks, forget_offset=0.7, output_bound=bound)
    params = learner.init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # so that the biases take part
    x, y = _examples()
    w, b = (np.asarray(params["gates"][name], np.float64) for name in "wb")
    v, d = (np.asarray(params["output"][name], np.float64) for name in "wb")

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    h, c = np.zeros((2, 5)), np.zeros((2, 5))
    error, label = np.zeros((2, 3)), np.zeros((2, 3))
    expected = []
    for inputs, labels in zip(np.asarray(x), np.asarray(y), strict=True):
        for _ in range(micro_ticks):
            z = np.concatenate([inputs.reshape(2, 4), error, label, h], axis=1) @ w + b
            i, g, f, o = z[:, :5], z[:, 5:10], z[:, 10:15], z[:, 15:]
            c = sigmoid(f + 0.7) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        logits = h @ v + d
        logits = logits if bound is None else bound * np.tanh(logits / bound)
        error, label = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - labels, labels
        expected.append(logits)
    _, predictions = _run(learner, params, x, y)
    np.testing.assert_allclose(predictions, expected, rtol=1e-4, atol=1e-5)


def test_a_label_changes_later_predictions_only_and_only_its_own_stream():
    learner = MetaRNN(hidden_size=5)
    params = learner.init(jax.random.key(0), SPEC)
    x, y = _examples()
    _, before = _run(learner, params, x, y)
    _, after = _run(learner, params, x, y.at[1, 0].set(jnp.roll(y[1, 0], 1)))
    difference = jnp.abs(after - before).max(axis=-1)
    assert not difference[:2].any()
    assert difference[2:, 0].min() > 1e-4
    assert not difference[:, 1].any()


def test_error_is_the_gradient_of_the_loss():
    learner = MetaRNN(hidden_size=5)
    params = learner.init(jax.random.key(0), SPEC)
    x, y = _examples(1)
    state, predictions = _run(learner, params, x, y)
    gradient = jax.grad(lambda logits: -(y[0] * jax.nn.log_softmax(logits)).sum())(predictions[0])
    error, label = jnp.split(state.feedback, 2, axis=1)
    np.testing.assert_allclose(error, gradient, atol=1e-6)
    np.testing.assert_array_equal(label, y[0])


@pytest.mark.parametrize("field", ["hidden_size", "micro_ticks", "output_bound"])
def test_refuses_sizes_below_one(field):
    with pytest.raises(UserError, match=rf"learners\.MetaRNN\.{field} is 0"):
        MetaRNN(**{field: 0})  # pyright: ignore[reportArgumentType]
