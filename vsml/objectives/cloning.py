"""Learning algorithm cloning: a sub-RNN is regressed onto what backprop does at a weight w with a bias b.

    forward    tanh(x) w + b             w' = w - rate e tanh(x)
    backward   e w (1 - tanh^2(x))       b' = b - bias_rate e

x and e are what arrives in the first channel forward and backward, and the messages leave in the first channel; the
others are to stay silent. w is the first entry of the sub-RNN's memory (`Cell.memory`). The last entry holds
b rate / bias_rate: it changes as fast as w does, though biases change little, since a neuron adds up many of them.

Every example is two visits: in the forward pass e = 0, and w and b are to stay, in the backward pass the same x arrives
together with the error. What nobody reads is free: what a forward pass sends backward, and a backward pass forward.

The loss is the mean over the terms m of their relative errors, that is relative to the spread of the targets over many
sub-RNNs: changes are as small as the learning rate.

    L = mean_m sqrt(1 - R2_m)            1 - R2_m = sum (y^_m - y_m)^2 / sum (y_m - mean y_m)^2

Sub-RNNs live either alone, on random messages with random w and b, or in a clone that learns a task with w and b as it
makes them; in both cases the targets are those of the state that a visit really starts from. Gradients flow through
single visits, not through the lives before them.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.1. Regression on the states that the clone itself runs
into: Ross et al. 2011, arXiv 1011.0686. The scaling is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.vsml import VSML
from vsml.objectives.base import Objective
from vsml.tasks.base import Task, World
from vsml.types import Array, Key, Metrics, Params, State

WEIGHT, BIAS = 0, -1
"""Entries of a sub-RNN's memory."""


class Terms(NamedTuple):
    """What backprop does at weights, or a sub-RNN in its place: all [units], or all numbers about them."""

    forward: Array
    backward: Array
    weight: Array  # the change of w
    bias: Array  # the change of b


class Visits(NamedTuple):
    """Visits of sub-RNNs of one layer in one pass: where they begin, and what arrives. Leaves [..., units]."""

    cells: State  # leaves [n, units]
    forward: Array  # [channels, units]
    backward: Array  # [channels, units]


Example = tuple[Visits, Visits]
"""The visits of one layer over an example: forward pass, backward pass."""


@dataclass(frozen=True)
class Cloning(Objective):
    """Regression of single sub-RNNs onto backprop.

    Attributes:
      learning_rate: of the weights, in the backprop that is cloned.
      bias_learning_rate: of the biases of single sub-RNNs. A neuron adds up those of the sub-RNNs before it, so its
        own bias moves at this rate times their number.
      running: share of the lifetimes in which sub-RNNs are those of a running clone; in the others they live alone.
      units: sub-RNNs of every layer that are visited where they live alone.
      followed: sub-RNNs of every layer that are visited at every example of a running clone.
      settle: examples that sub-RNNs live through alone before the one that is regressed.
      input_std: of random x, which is normal.
      error_std: of random e, the largest: each e has its own, log-uniform down to a hundredth of it.
      weight_std: of random w, the largest: each w has its own, log-uniform down to a tenth of it.
      bias_std: of random b.
    """

    learning_rate: float = 0.01
    bias_learning_rate: float = 1e-4
    running: float = 0.0
    units: int = 512
    followed: int = 32
    settle: int = 2
    input_std: float = 1.0
    error_std: float = 1.0
    weight_std: float = 0.3
    bias_std: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("learning_rate", "bias_learning_rate", "input_std", "error_std", "weight_std", "bias_std"):
            if not getattr(self, name) > 0:
                raise UserError(f"objectives.Cloning.{name} is {getattr(self, name)}: set it above 0")
        for name, least in (("units", 2), ("followed", 1), ("settle", 0)):
            if getattr(self, name) < least:
                raise UserError(f"objectives.Cloning.{name} is {getattr(self, name)}: set it to {least} or more")
        if not 0 <= self.running <= 1:
            raise UserError(f"objectives.Cloning.running is {self.running}: set it between 0 and 1")

    def evaluate(
        self, learner: Learner, params: Params, state: State, task: Task, key: Key, segment: int | None = None
    ) -> tuple[Array, Metrics]:
        """The loss, and the metrics `r2_TERM` for each of `Terms`."""
        clone = clonable(learner)
        kind_key, key = jax.random.split(key)
        frozen = jax.lax.stop_gradient(params)
        unexplained = jax.lax.cond(
            jax.random.bernoulli(kind_key, self.running),
            lambda: self.unexplained(clone, params, self.met(clone, frozen, state, task, key)),
            lambda: self.unexplained(clone, params, self.drawn(clone, frozen, state, key)),
        )
        # The root of 0 has no slope.
        loss = jnp.mean(jnp.stack([jnp.sqrt(share + 1e-12) for share in unexplained]))
        return loss, {"loss": loss, **{f"r2_{term}": 1 - share for term, share in unexplained._asdict().items()}}

    def targets(self, x: Array, e: Array, w: Array, b: Array) -> Terms:
        """What backprop sends, and by how much it changes w and b."""
        a = jnp.tanh(x)
        return Terms(
            forward=a * w + b,
            backward=e * w * (1 - jnp.square(a)),
            weight=-self.learning_rate * e * a,
            bias=-self.bias_learning_rate * e,
        )

    def read(self, memory: Array) -> tuple[Array, Array]:
        """w and b of memories [n, ...]."""
        return memory[WEIGHT], memory[BIAS] * self._bias_scale

    def write(self, memory: Array, w: Array, b: Array) -> Array:
        """The memories with other w and b."""
        return memory.at[WEIGHT].set(w).at[BIAS].set(b / self._bias_scale)

    @property
    def _bias_scale(self) -> float:
        return self.bias_learning_rate / self.learning_rate

    def both(self, clone: VSML, params: Params, layer: int, example: Example) -> tuple[Terms, Terms]:
        """What sub-RNNs make of an example, and the targets.

        Returns:
          Two times `forward` and `backward` [units], and `weight` and `bias` [2 * units], of both passes.
        """
        got, wanted = [], []
        for visits, is_backward in zip(example, (False, True), strict=True):
            cells, forward, backward = clone.visit_alone(params, *visits, layer, is_backward)
            before, after = (self.read(state[clone.cell.memory]) for state in (visits.cells, cells))
            e = visits.backward[0] if is_backward else jnp.zeros_like(visits.forward[0])
            got.append(Terms(forward, backward, after[0] - before[0], after[1] - before[1]))
            wanted.append(self.targets(visits.forward[0], e, *before))
        return _of_example(*got), _of_example(*wanted)

    def unexplained(self, clone: VSML, params: Params, layers: list[Example]) -> Terms:
        """1 - R2 of every term, over all layers."""
        pairs = [self.both(clone, params, layer, example) for layer, example in enumerate(layers)]

        def share(term: str) -> Array:
            wanted = jnp.concatenate([getattr(pair[1], term) for pair in pairs])
            squares = 0.0
            for got, target in pairs:
                own, right = getattr(got, term), getattr(target, term)
                if own.ndim == 2:  # messages: the other channels are silent
                    right = jnp.zeros_like(own).at[0].set(right)
                squares += jnp.sum(jnp.square(own - right))
            return squares / jnp.sum(jnp.square(wanted - wanted.mean()))

        return Terms(*(share(term) for term in Terms._fields))

    def drawn(self, clone: VSML, params: Params, state: State, key: Key) -> list[Example]:
        """An example of sub-RNNs that live alone, by layer; `state` is what a lifetime starts from."""
        keys = jax.random.split(key, clone.num_layers)
        return [self._alone(clone, params, k, layer, state["cells"][layer]) for layer, k in enumerate(keys)]

    def _alone(self, clone: VSML, params: Params, key: Key, layer: int, cells: State) -> Example:
        unit_key, scale_key, w_key, b_key, key = jax.random.split(key, 5)
        cells = _chosen(cells, unit_key, self.units)
        memory = clone.cell.memory
        scale = _log_uniform(scale_key, 0.1 * self.weight_std, self.weight_std, self.units)
        w = scale * jax.random.normal(w_key, (self.units,))
        b = self.bias_std * jax.random.normal(b_key, (self.units,))

        def corrected(cells: State) -> State:
            return {**cells, memory: self.write(cells[memory], w, b)}

        def visited(visits: Visits, is_backward: bool) -> State:
            return corrected(clone.visit_alone(params, *visits, layer, is_backward)[0])

        def live(cells: State, key: Key) -> tuple[State, None]:
            _, second = example(cells, key)
            return visited(second, True), None

        def example(cells: State, key: Key) -> Example:
            x_key, e_key, scale_key = jax.random.split(key, 3)
            x = self.input_std * jax.random.normal(x_key, (self.units,))
            scale = _log_uniform(scale_key, 0.01 * self.error_std, self.error_std, self.units)
            e = scale * jax.random.normal(e_key, (self.units,))
            first = Visits(cells, x[None], jnp.zeros_like(e)[None])
            return first, Visits(visited(first, False), x[None], e[None])

        *before, last = jax.random.split(key, self.settle + 1)
        cells = corrected(cells)
        if before:
            cells, _ = jax.lax.scan(live, cells, jnp.stack(before))
        return jax.lax.stop_gradient(example(cells, last))

    def met(self, clone: VSML, params: Params, state: State, task: Task, key: Key) -> list[Example]:
        """Examples of sub-RNNs of a clone that learns a task, by layer: all of the lifetime of those followed.

        Of a batch only its first example is looked at.
        """
        memory = clone.cell.memory
        counts = [cells[memory].shape[-1] for cells in state["cells"]]
        units = [
            jax.random.choice(k, count, (min(self.followed, count),), replace=False)
            for k, count in zip(jax.random.split(key, len(counts)), counts, strict=True)
        ]

        def live(carry: tuple[State, World], row: Any) -> tuple[tuple[State, World], list[Example]]:
            before, world = carry
            x = task.see(world, row)
            predicted, output = clone.predict(params, before, x)
            answer = task.answer(world, row, output)
            arriving = clone.arriving(params, predicted, x, answer.feedback)
            examples = []
            for layer, chosen in enumerate(units):
                forward, backward = (message[0, :, chosen].T for message in arriving[layer])
                first, second = (
                    jax.tree.map(lambda leaf, chosen=chosen: leaf[0, :, chosen].T, cells["cells"][layer])
                    for cells in (before, predicted)
                )
                silence = jnp.zeros_like(backward)
                examples.append((Visits(first, forward, silence), Visits(second, forward, backward)))
            return (clone.learn(params, predicted, x, answer.feedback), answer.world), examples

        _, examples = jax.lax.scan(live, (state, task.world), task.steps)
        in_a_row = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(leaf.shape[1], -1), examples)
        return jax.lax.stop_gradient(in_a_row)


def clonable(learner: Learner) -> VSML:
    """The learner. Raises `UserError` where its sub-RNNs cannot do what a weight does in backprop."""
    if not isinstance(learner, VSML):
        raise UserError(
            f"objectives.Cloning clones backprop into sub-RNNs, and learners.{type(learner).__name__} has none: "
            "choose learners/vsml.gin"
        )
    wanted = {"feedback": "backward_pass", "clear_feedback": True, "feed_error": True, "recirculate": False}
    for name, value in wanted.items():
        if getattr(learner, name) != value:
            raise UserError(
                f"learners.VSML.{name} is {getattr(learner, name)!r}, but backprop needs {value!r}: set it, as "
                "objectives/cloning.gin does"
            )
    return learner


def _of_example(first: Terms, second: Terms) -> Terms:
    """The terms of an example from those of its forward and its backward pass: messages count where they are read."""
    weight, bias = (jnp.concatenate(pair) for pair in zip(first[2:], second[2:], strict=True))
    return Terms(first.forward, second.backward, weight, bias)


def _chosen(cells: State, key: Key, count: int) -> State:
    """Any `count` sub-RNNs of the states [B, n, units] of a layer: [n, count]."""
    units = jax.tree.leaves(cells)[0].shape[-1]
    chosen = jax.random.randint(key, (count,), 0, units)
    return jax.tree.map(lambda leaf: leaf[0][:, chosen], cells)


def _log_uniform(key: Key, least: float, most: float, count: int) -> Array:
    return jnp.exp(jax.random.uniform(key, (count,), minval=math.log(least), maxval=math.log(most)))
