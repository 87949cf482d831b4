"""Similarity to remembered examples, in front of any learner: it reads how near the input is to each of them.

    c_j = u(x) . u(x_j)       for the examples x_1..x_t remembered so far, the first M that were surprising
    z_j = exp(sharpness (c_j - max c) / std_j c)             0 where nothing is remembered yet
    f   = z / |z|

    u(x) = [x, 1] / |[x, 1]|

Similarities are taken relative to all others of the input, and f has length 1, so that data of any dimension, noise and
number of examples give features of one kind; a random projection changes them little.

A learner of one layer over such features is a kernel machine: one weight per remembered example and class, which it
goes on changing. An example is remembered before the learner learns from it, so that its own feature is the largest by
then: gradient descent changes the weight of the new example most, as the kernel perceptron does. It is remembered where
the error of the prediction, in its largest entry, is `surprise` or more: in classification where its class had a
probability below 1 - surprise. So memory lasts the longer, the more is known.

Sources: Aizerman, Braverman & Rozonoer 1964, "Theoretical foundations of the potential function method in pattern
recognition learning"; Hart 1968, "The condensed nearest neighbor rule", who keeps what was predicted wrong; Williams &
Seeger 2001, "Using the Nystrom method to speed up kernel machines", for features that are similarities to examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from vsml.draws import log_uniform_int
from vsml.errors import UserError
from vsml.learners.front_end import FrontEnd, unit
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key

SMALLEST = 1e-3
"""Deviations of similarities below this one are rounding: all are then as near."""


class Memory(NamedTuple):
    """Examples of this lifetime."""

    count: Array  # scalar int32
    room: Array  # scalar int32: how many examples there may be
    examples: Array  # [M, n + 1] of length 1; 0 where there is none


@dataclass(frozen=True)
class RememberedExamples(FrontEnd):
    """A learner that reads how similar the input is to each of the examples remembered from a lifetime.

    Attributes:
      num: how many at most. What is read has that many numbers, or as many as the lifetime has examples.
      sharpness: how much more the nearest count, per standard deviation of the similarity.
      surprise: error above which an example is remembered; 0 remembers all. So do tasks that tell no error.
      least: where set, each lifetime has room for a number of examples that is drawn log-uniformly from `least` to
        `num`. What is meta-trained so has met memories that are soon full, and goes on learning behind one.
    """

    num: int = 1000
    sharpness: float = 2.0
    surprise: float = 0.02
    least: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("num", 1), ("sharpness", 0), ("surprise", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"learners.RememberedExamples.{name} is {getattr(self, name)}: set it to {least} or more"
                )
        if self.least is not None and not 1 <= self.least <= self.num:
            raise UserError(
                f"learners.RememberedExamples.least is {self.least}: set it to 1 to {self.num}, which is num, or to "
                "None"
            )

    def shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return (min(self.num, spec.length * spec.batch),)

    def begin(self, key: Key, spec: TaskSpec) -> Memory:
        most = self.shape(spec)[0]
        room = jnp.int32(most) if self.least is None else log_uniform_int(key, min(self.least, most), most)
        return Memory(jnp.zeros((), jnp.int32), room, jnp.zeros((most, spec.num_inputs + 1)))

    def see(self, front: Memory, x: Array) -> tuple[Memory, Array]:
        """f [B, M]."""
        return front, self._features(front, x)

    def keep(self, front: Memory, x: Array, read: Array, feedback: Feedback) -> tuple[Memory, Array]:
        """Remembers x where it surprises and there is room. Its own feature is then the largest."""
        rows, nowhere = jnp.arange(x.shape[0]), len(front.examples)
        new = jnp.ones(len(rows), bool)
        if feedback.error is not None:
            new = jnp.abs(feedback.error).max(1) >= self.surprise
        places = front.count + jnp.cumsum(new) - 1
        places = jnp.where(new & (places < front.room), places, nowhere)
        examples = front.examples.at[places].set(unit(x), mode="drop")
        front = Memory(jnp.minimum(front.count + new.sum(), front.room), front.room, examples)
        return front, self._features(front, x)

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """What the learner behind says of itself, and the number of examples remembered."""
        return {"remembered examples": self.shape(spec)[0], **super().describe(spec)}

    def _features(self, memory: Memory, x: Array) -> Array:
        known = jnp.arange(len(memory.examples)) < memory.count
        count = jnp.maximum(memory.count, 1)
        similar = jnp.where(known, unit(x) @ memory.examples.T, 0.0)
        centred = jnp.where(known, similar - similar.sum(1, keepdims=True) / count, 0.0)
        std = jnp.sqrt(jnp.square(centred).sum(1, keepdims=True) / count)
        nearest = jnp.where(known, centred, -2.0).max(1, keepdims=True)
        weights = jnp.exp(self.sharpness * (centred - nearest) / jnp.maximum(std, SMALLEST))
        weights = jnp.where(known, weights, 0.0)
        return weights / jnp.maximum(jnp.sqrt(jnp.square(weights).sum(1, keepdims=True)), SMALLEST)
