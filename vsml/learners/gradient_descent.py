"""Gradient descent by backprop, one update after each prediction.

    a_0 = x      a_k = tanh(a_{k-1} W_k + b_k), k < K      y^ = a_{K-1} W_K + b_K
    e_b = dL_b/dy^_b, what the task answers                (W, b) <- (W, b) + optimizer(1/B sum_b e_b dy^_b/d(W, b))

Source: the SGD and Adam baselines of Kirsch & Schmidhuber 2021, arXiv 2012.14905: one layer, or 160 tanh units between.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, num_features
from vsml.learners.feedback import check_feedback
from vsml.learners.layers import init_affine
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Layer(NamedTuple):
    """One affine layer, or the filters of one convolution."""

    w: Array  # [in, out]; of a convolution [kernel, kernel, in, out]
    b: Array  # [out]


class Descent(NamedTuple):
    """What gradient descent carries through a lifetime."""

    network: tuple[Layer, ...]  # convolutions first
    optimizer: optax.OptState


@dataclass(frozen=True)
class GradientDescent(Learner):
    """Online gradient descent on the task's own loss by a fully connected tanh network: the error is its slope.

    It has no meta-parameters, so there is nothing to meta-train: `params` is {}. Network and optimizer state are what
    it learns, which is its state, and are drawn again for every lifetime.

    Attributes:
      optimizer: any optax transformation, the learning rate included.
      hidden: sizes of the hidden tanh layers; () is a linear model.
      front_end: convolutions before the fully connected layers, learned with them; None for none.
    """

    optimizer: optax.GradientTransformation
    hidden: tuple[int, ...] = ()
    front_end: ConvFrontEnd | None = None

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.hidden):
            raise UserError(
                f"learners.GradientDescent.hidden is {self.hidden}: give sizes of 1 or more, or () for no hidden layer"
            )

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """No meta-parameters: {}."""
        return {}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Descent:
        """Weights LeCun normal (truncated, std 1 / sqrt(fan_in)), biases 0, a fresh optimizer state.

        On standardised inputs every unit then starts with unit variance at any width: tanh neither saturates nor fades,
        and the first outputs are as large with 64 inputs as with 784. Raises `UserError` where tasks give no error.
        """
        check_feedback("learners.GradientDescent", ("error",), spec, "use another learner")
        sizes = (num_features(self.front_end, spec), *self.hidden, spec.num_outputs)
        *keys, front_key = jax.random.split(key, len(sizes))
        filters = () if self.front_end is None else self.front_end.init(front_key, spec.input_shape)
        affine = (init_affine(k, *size) for k, size in zip(keys, itertools.pairwise(sizes), strict=True))
        network = tuple(Layer(**layer) for layer in (*filters, *affine))
        return Descent(network, self.optimizer.init(network))

    def predict(self, params: Params, state: Descent, x: Array) -> tuple[Descent, Array]:
        return state, self._forward(state.network, x)

    def learn(self, params: Params, state: Descent, x: Array, feedback: Feedback) -> Descent:
        """One update on the mean loss of the examples that have feedback; none where no example has."""
        assert feedback.error is not None  # `initial_state` refuses other tasks
        # Compiled together with `predict`, the forward pass in here is the one in there.
        _, pull = jax.vjp(lambda network: self._forward(network, x), state.network)
        given = feedback.given
        count = x.shape[0] if given is None else jnp.maximum(given.sum(), 1)
        (gradient,) = pull(feedback.error / count)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.network)
        network: Any = optax.apply_updates(state.network, updates)
        learned = Descent(network, optimizer)
        if given is None:
            return learned
        return optax.tree.where(given.any(), learned, state)

    def learned_variables(self, state: Descent) -> State:
        """The network; the optimizer's moments are bookkeeping."""
        return state.network

    def _forward(self, network: tuple[Layer, ...], x: Array) -> Array:
        if self.front_end is None:
            return forward(network, x)
        depth = len(self.front_end.channels)
        return forward(network[depth:], self.front_end([layer._asdict() for layer in network[:depth]], x))


def forward(network: tuple[Layer, ...], x: Array) -> Array:
    """Outputs [B, num_outputs] of x [B, ...], by affine layers."""
    *hidden, last = network
    activation = x.reshape(x.shape[0], -1)
    for layer in hidden:
        activation = jnp.tanh(activation @ layer.w + layer.b[None])
    return activation @ last.w + last.b[None]
