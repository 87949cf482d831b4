"""Tasks with a target for every input: the answer depends on the step alone, and there is no world to change.

classification   L = -sum_c y_c log softmax(y^)_c    e = dL/dy^ = softmax(y^) - y    accuracy: argmax y^ = argmax y
regression       L = 1/2 sum_c (y^_c - y_c)^2        e = dL/dy^ = y^ - y             squared_error: mean over c
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from vsml.tasks.base import Answer, Feedback, Scores, World
from vsml.types import Array


class TargetedExamples(NamedTuple):
    """Inputs with their targets; a subclass says what an output is worth."""

    x: Array  # [T, B, *input_shape] float32
    y: Array  # [T, B, num_outputs] float32
    mask: Array  # [T, B] float32, 1 where the prediction counts

    @property
    def steps(self) -> Self:
        """The examples themselves."""
        return self

    @property
    def world(self) -> World:
        """Empty: answers depend on the step alone."""
        return ()

    @property
    def weight(self) -> Array:
        """The mask."""
        return self.mask

    def see(self, world: World, step: Any) -> Array:
        """The inputs of a step."""
        return step.x


class ClassificationTask(TargetedExamples):
    """Labelled examples, `y` one-hot; outputs are logits, their loss is the cross-entropy in nats."""

    def answer(self, world: World, step: Any, output: Array) -> Answer:
        """The slope of the cross-entropy, and the label."""
        return Answer(world, Feedback(error=jax.nn.softmax(output) - step.y, target=step.y))

    def score(self, steps: Any, outputs: Array, outcomes: Any) -> Scores:
        """Cross-entropy and accuracy. A prediction that is not finite is wrong, although argmax finds a class in it."""
        right = (jnp.argmax(outputs, -1) == jnp.argmax(steps.y, -1)) & jnp.isfinite(outputs).all(-1)
        return Scores(optax.softmax_cross_entropy(outputs, steps.y), {"accuracy": right.astype(jnp.float32)})


class RegressionTask(TargetedExamples):
    """Examples with real targets; the loss of an output is half its squared error."""

    def answer(self, world: World, step: Any, output: Array) -> Answer:
        """The slope of the squared error, and the target."""
        return Answer(world, Feedback(error=output - step.y, target=step.y))

    def score(self, steps: Any, outputs: Array, outcomes: Any) -> Scores:
        """Half the squared error, summed over outputs, and the mean squared error of an output."""
        squared = jnp.square(outputs - steps.y)
        return Scores(0.5 * jnp.sum(squared, -1), {"squared_error": jnp.mean(squared, -1)})
