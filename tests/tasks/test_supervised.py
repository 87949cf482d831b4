"""What classification and regression answer and are worth, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vsml.tasks import ClassificationTask, RegressionTask

# Logits whose softmax is a plain fraction: [T = 3, B = 2, classes = 2].
PROBABILITIES = np.array([[[0.5, 0.5], [0.25, 0.75]], [[0.2, 0.8], [0.9, 0.1]], [[0.6, 0.4], [0.99, 0.01]]])
LOGITS = jnp.asarray(np.log(PROBABILITIES) + 3.0, jnp.float32)
LABELS = jax.nn.one_hot(jnp.array([[0, 1], [0, 0], [1, 1]]), 2)
CLASSES = ClassificationTask(jnp.zeros((3, 2, 1)), LABELS, jnp.ones((3, 2)))
VALUES = RegressionTask(jnp.zeros((1, 2, 1)), jnp.array([[[1.0, 2.0], [0.0, -1.0]]]), jnp.ones((1, 2)))


def row(task, t: int):
    return jax.tree.map(lambda leaf: leaf[t], task)


def test_cross_entropy_and_accuracy():
    scores = CLASSES.score(CLASSES.steps, LOGITS, ())
    np.testing.assert_allclose(scores.loss, -np.log([[0.5, 0.75], [0.2, 0.9], [0.4, 0.01]]), rtol=1e-5)
    # A tie counts for the first class.
    np.testing.assert_array_equal(scores.measures["accuracy"], [[1, 1], [0, 1], [0, 0]])


def test_cross_entropy_of_hopeless_logits_is_finite():
    one = ClassificationTask(jnp.zeros((1, 1, 1)), jnp.array([[[0.0, 1.0]]]), jnp.ones((1, 1)))
    np.testing.assert_allclose(one.score(one, jnp.array([[[1e4, -1e4]]]), ()).loss, [[2e4]])


def test_a_prediction_that_is_not_finite_is_wrong():
    accuracy = CLASSES.score(CLASSES, jnp.full((3, 2, 2), jnp.nan), ()).measures["accuracy"]
    np.testing.assert_array_equal(accuracy, np.zeros((3, 2)))


def test_the_error_is_the_slope_of_the_loss():
    for task, outputs in ((CLASSES, LOGITS), (VALUES, jnp.array([[[0.5, 1.0], [2.0, -3.0]]]))):
        slope = jax.grad(lambda outputs, task=task: task.score(task, outputs, ()).loss.sum())(outputs)
        for t in range(outputs.shape[0]):
            answer = task.answer((), row(task.steps, t), outputs[t])
            assert answer.feedback.error is not None
            np.testing.assert_allclose(answer.feedback.error, slope[t], atol=1e-6)
            np.testing.assert_array_equal(answer.feedback.target, task.y[t])
            assert (answer.world, answer.outcome) == ((), ())
            assert answer.feedback.reward is None


def test_squared_error():
    scores = VALUES.score(VALUES, jnp.array([[[0.0, 4.0], [0.0, -1.0]]]), ())
    np.testing.assert_allclose(scores.loss, [[(1 + 4) / 2, 0.0]])
    np.testing.assert_allclose(scores.measures["squared_error"], [[(1 + 4) / 2, 0.0]])
    three = jax.tree.map(lambda leaf: leaf, VALUES)._replace(y=jnp.zeros((1, 2, 3)))
    scores = three.score(three, jnp.ones((1, 2, 3)), ())
    np.testing.assert_allclose(scores.loss, [[1.5, 1.5]])
    np.testing.assert_allclose(scores.measures["squared_error"], [[1.0, 1.0]])
