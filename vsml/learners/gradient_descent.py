"""Gradient descent by backprop, one update after each prediction: what a learned learning algorithm has to beat.

    a_0 = x      a_k = tanh(a_{k-1} W_k + b_k), k < K      y^ = a_{K-1} W_K + b_K
    L = -1/B sum_b sum_c y_bc log softmax(y^_b)_c          (W, b) <- (W, b) + optimizer(dL/dW, dL/db)

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
from vsml.learners.layers import init_affine
from vsml.tasks.base import TaskSpec
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
    """Online gradient descent on the softmax cross-entropy of a fully connected tanh network.

    It has no meta-parameters, so there is nothing to meta-train: `params` is {}. Network and optimizer state are what
    it learns, hence its state, and are drawn anew per lifetime.

    Attributes:
      optimizer: any optax transformation, the learning rate included.
      hidden: sizes of the hidden tanh layers; () is multinomial logistic regression.
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
        and the first logits are as sure of themselves with 64 inputs as with 784.
        """
        sizes = (num_features(self.front_end, spec), *self.hidden, spec.num_classes)
        *keys, front_key = jax.random.split(key, len(sizes))
        filters = () if self.front_end is None else self.front_end.init(front_key, spec.input_shape)
        affine = (init_affine(k, *size) for k, size in zip(keys, itertools.pairwise(sizes), strict=True))
        network = tuple(Layer(**layer) for layer in (*filters, *affine))
        return Descent(network, self.optimizer.init(network))

    def step(self, params: Params, state: Descent, x: Array, y: Array) -> tuple[Descent, Array]:
        """Predicts x, then one update on the mean loss of the B examples."""

        def loss(network: tuple[Layer, ...]) -> tuple[Array, Array]:
            logits = self._predict(network, x)
            return optax.softmax_cross_entropy(logits, y).mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(state.network)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.network)
        network: Any = optax.apply_updates(state.network, updates)
        return Descent(network, optimizer), logits

    def learned_variables(self, state: Descent) -> State:
        """The network; the optimizer's moments are bookkeeping."""
        return state.network

    def _predict(self, network: tuple[Layer, ...], x: Array) -> Array:
        if self.front_end is None:
            return predict(network, x)
        depth = len(self.front_end.channels)
        return predict(network[depth:], self.front_end([layer._asdict() for layer in network[:depth]], x))


def predict(network: tuple[Layer, ...], x: Array) -> Array:
    """Logits [B, num_classes] of x [B, ...], by affine layers."""
    *hidden, last = network
    activation = x.reshape(x.shape[0], -1)
    for layer in hidden:
        activation = jnp.tanh(activation @ layer.w + layer.b[None])
    return activation @ last.w + last.b[None]
