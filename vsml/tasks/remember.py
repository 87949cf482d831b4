"""Streams of snippets to remember: each is shown once, and asked for after a while when a part of it is shown again.

A round of a lifetime, `rounds` times:

    write     snippet 1, frame 1..F; snippet 2, ...; snippet S          what is seen, with noise
    delay     D steps of nothing, or of snippets that nobody asks for
    recall    each snippet once, in random order, F steps: the cue, a part of its first frame, then nothing

At the f-th step of a recall the output has to be frame f, whole and without noise. Nothing answers an output, so all
that there is to learn from is what is seen. What is not shown is 0, as is the mean of all numbers.

    squared     L = mean_n (y^_n - y_n)^2                       squared_error: the same over the numbers not shown
    bernoulli   L = mean_n cross-entropy of sig(y^_n)           recalled: share of the numbers not shown with their sign

Source: Gregor 2020, arXiv 2003.03124, for the problem; streams, cues and their measures are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vsml.errors import UserError
from vsml.tasks.base import Answer, Feedback, Scores, Source, TaskDistribution, TaskSpec, Transform, World
from vsml.tasks.one_source import inputs, resident
from vsml.tasks.shuffle import shuffled
from vsml.types import Array, Key


class Frames(NamedTuple):
    """The steps of a stream, leaves [T, B, ...]."""

    x: Array  # [T, B, *input_shape], what is seen
    y: Array  # [T, B, n], what the output should be; 0 where nothing is asked
    hidden: Array  # [T, B, n], 1 where a number is asked for that is not shown
    asked: Array  # [T, B], 1 where an output counts


class RememberTask(NamedTuple):
    """A stream of real numbers; the loss of an output is the squared error."""

    frames: Frames
    written: Array  # [snippets, F] int32, the steps at which each snippet is shown
    recalled: Array  # [snippets, F] int32, the steps at which it is asked for

    @property
    def steps(self) -> Frames:
        """What is seen and asked for."""
        return self.frames

    @property
    def world(self) -> World:
        """Empty: nothing depends on outputs."""
        return ()

    @property
    def weight(self) -> Array:
        """1 in recall."""
        return self.frames.asked

    def see(self, world: World, step: Any) -> Array:
        """The frame, the cue, or nothing."""
        return step.x

    def answer(self, world: World, step: Any, output: Array) -> Answer:
        """No feedback."""
        return Answer(world, Feedback())

    def score(self, steps: Any, outputs: Array, outcomes: Any) -> Scores:
        """The squared error over all numbers, and over those not shown."""
        squared = jnp.square(outputs - steps.y)
        return Scores(squared.mean(-1), {"squared_error": _mean_of_hidden(squared, steps.hidden)})


class BinaryRememberTask(RememberTask):
    """A stream of numbers -1 and 1; outputs are logits of 1."""

    def score(self, steps: Any, outputs: Array, outcomes: Any) -> Scores:
        """The cross-entropy over all numbers in nats, and the share of those not shown whose sign is right."""
        losses = optax.sigmoid_binary_cross_entropy(outputs, 0.5 * (steps.y + 1))
        right = (outputs * steps.y > 0).astype(jnp.float32)
        return Scores(losses.mean(-1), {"recalled": _mean_of_hidden(right, steps.hidden)})


def _mean_of_hidden(values: Array, hidden: Array) -> Array:
    return (values * hidden).sum(-1) / jnp.maximum(hidden.sum(-1), 1)


@dataclass(frozen=True)
class Remember(TaskDistribution):
    """Streams of random snippets, or of the examples of a source.

    Attributes:
      size: numbers of a frame; of a source those of an example.
      snippets: S, to hold at once.
      frames: F, of a snippet.
      delay: D, steps between the last writing of a round and its first recall.
      distractors: whether other snippets are shown in the delay, instead of nothing.
      noise: on what is written: the share of binary numbers that are flipped, the deviation that is added to others.
      cue: share of the numbers of the first frame that are shown in recall, rounded to the nearest number of them.
      shown: which ones: `anywhere`, drawn for each recall, or the `first`, the upper part of an image.
      values: `binary`, -1 and 1 alike, of a source what is below and above its mean; or `real`, normal with deviation
        1, of a source standardised.
      correlation: between any two snippets of a lifetime; random ones only.
      rounds: of writing and recall in a lifetime.
      source: of examples that are snippets, none twice in a lifetime; None for random ones.
      batch: B, streams beside each other.
    """

    size: int = 16
    snippets: int = 4
    frames: int = 1
    delay: int = 0
    distractors: bool = False
    noise: float = 0.0
    cue: float = 0.5
    shown: Literal["anywhere", "first"] = "anywhere"
    values: Literal["binary", "real"] = "binary"
    correlation: float = 0.0
    rounds: int = 1
    source: Source | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("snippets", 1), ("frames", 1), ("delay", 0), ("rounds", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"tasks.Remember.{name} is {getattr(self, name)}: give at least {least}")
        if not 0 <= self.cue <= 1:
            raise UserError(f"tasks.Remember.cue is {self.cue}: give a share, from 0 to 1")
        if not 0 <= self.correlation < 1:
            raise UserError(f"tasks.Remember.correlation is {self.correlation}: give it from 0 to below 1")
        if self.noise < 0 or (self.values == "binary" and self.noise > 0.5):
            most = " and at most 0.5, where nothing is left of binary numbers" if self.values == "binary" else ""
            raise UserError(f"tasks.Remember.noise is {self.noise}: give at least 0{most}")
        if self.source is not None and self.correlation:
            raise UserError(
                "tasks.Remember.correlation is of random snippets, but there is a source: set it to 0, or source to "
                "None"
            )

    @property
    def data(self) -> str:
        return "random_snippets" if self.source is None else self.source.data

    @property
    def spec(self) -> TaskSpec:
        shape = (self.size,)
        if self.source is not None:
            examples, needed = self.source.load().x, self.rounds * self._per_round * self.batch
            shape = examples.shape[1:]
            if len(examples) < needed:
                raise UserError(
                    f"tasks.Remember shows {needed} examples in a lifetime, none twice, but {self.source.data} has "
                    f"only {len(examples)} here: lower snippets, frames, rounds, delay or batch"
                )
        size = int(np.prod(shape))
        if self.frames == 1 and self._num_shown(size) == size:
            raise UserError(
                f"tasks.Remember.cue is {self.cue}, so that all {size} numbers of a snippet are shown and none is left "
                "to recall: lower it, or give snippets more frames"
            )
        if self.snippets > 1 and self._num_shown(size) == 0:
            raise UserError(
                f"tasks.Remember.cue is {self.cue}, so that none of {size} numbers is shown and nothing tells which of "
                f"{self.snippets} snippets is asked for: raise it"
            )
        return TaskSpec(shape, size, self.rounds * self._round, self.batch, feedback=())

    @property
    def _round(self) -> int:
        return 2 * self.snippets * self.frames + self.delay

    @property
    def _per_round(self) -> int:
        """Frames that are shown in a round: of all snippets, and of distractors."""
        return self.snippets * self.frames + (self.delay if self.distractors else 0)

    def _num_shown(self, size: int) -> int:
        return round(self.cue * size)

    def for_meta_test(self, transforms: tuple[Transform, ...], length: int | None, held_out: bool = True) -> Self:
        """Fresh snippets, or those of the held-out part of the source. Lifetimes have the length of their rounds."""
        if transforms:
            raise UserError("tasks.Remember takes no transforms: leave tasks.HeldOut.transforms empty")
        if length is not None:
            raise UserError(
                "the lifetimes of tasks.Remember are as long as their rounds: leave tasks.HeldOut.length out, and set "
                "tasks.Remember.rounds"
            )
        return replace(self, source=self.source.held_out()) if self.source is not None and held_out else self

    def load(self) -> Any:
        """The examples of the source; nothing without one."""
        return () if self.source is None else resident(self.source.load())

    def sample(self, data: Any, key: Key) -> RememberTask:
        spec = self.spec
        size, count, length = spec.num_inputs, self.rounds * self._per_round, self.snippets * self.frames
        keys = jax.random.split(key, 4)
        drawn = self._drawn(data, keys[0], size, count).reshape(self.rounds, self._per_round, self.batch, size)
        clean, others = drawn[:, :length], drawn[:, length:]
        snippets = clean.reshape(self.rounds, self.snippets, self.frames, self.batch, size)
        order = jax.vmap(lambda k: jax.random.permutation(k, self.snippets))(jax.random.split(keys[1], self.rounds))
        asked = jnp.take_along_axis(snippets, order[:, :, None, None, None], axis=1)
        shown = self._shown(keys[2], (self.rounds, self.snippets, self.batch), size)

        given = jnp.zeros_like(snippets).at[:, :, 0].set(shown)
        cues = (asked * given).reshape(clean.shape)
        hidden = (1 - given).reshape(clean.shape)
        if not self.distractors:
            others = jnp.zeros((self.rounds, self.delay, self.batch, size))
        silence = jnp.zeros((self.rounds, length + self.delay, self.batch, size))

        def in_a_row(*parts: Array) -> Array:
            return jnp.concatenate(parts, axis=1).reshape(spec.length, self.batch, -1)

        x = in_a_row(self._noisy(keys[3], clean), others, cues)
        y, hidden = in_a_row(silence, asked.reshape(clean.shape)), in_a_row(silence, hidden)
        frames = Frames(x.reshape(*x.shape[:2], *spec.input_shape), y, hidden, hidden.max(-1))
        kind = BinaryRememberTask if self.values == "binary" else RememberTask
        return kind(frames, *self._plan(order))

    def _drawn(self, data: Any, key: Key, size: int, count: int) -> Array:
        """Frames without noise, [count, B, size], of which each snippet has `frames` in a row."""
        if self.source is not None:
            places = jnp.arange(count * self.batch, dtype=jnp.int32)
            x = inputs(data, shuffled(key, places, data.x.shape[0])) - data.mean
            x = jnp.where(x > 0, 1.0, -1.0) if self.values == "binary" else x / data.std
            return x.reshape(count, self.batch, size)
        own_key, common_key, which_key = jax.random.split(key, 3)
        draw = jax.random.rademacher if self.values == "binary" else jax.random.normal
        own = draw(own_key, (count, self.batch, size)).astype(jnp.float32)
        common = draw(common_key, (1, self.batch, size)).astype(jnp.float32)
        if self.values == "real":
            return self.correlation**0.5 * common + (1 - self.correlation) ** 0.5 * own
        # Two numbers that follow the common one with probability p each are correlated by p^2.
        return jnp.where(jax.random.bernoulli(which_key, self.correlation**0.5, own.shape), common, own)

    def _noisy(self, key: Key, clean: Array) -> Array:
        if not self.noise:
            return clean
        if self.values == "real":
            return clean + self.noise * jax.random.normal(key, clean.shape)
        return jnp.where(jax.random.bernoulli(key, self.noise, clean.shape), -clean, clean)

    def _shown(self, key: Key, shape: tuple[int, ...], size: int) -> Array:
        """Which numbers a cue has, 0 or 1, [*shape, size]."""
        if self.shown == "first":
            rank = jnp.broadcast_to(jnp.arange(size), (*shape, size))
        else:
            rank = jnp.argsort(jax.random.uniform(key, (*shape, size)), axis=-1)
        return (rank < self._num_shown(size)).astype(jnp.float32)

    def _plan(self, order: Array) -> tuple[Array, Array]:
        """Steps at which each snippet is written and recalled, [rounds * snippets, F]; `order` is that of recalls."""
        first = jnp.arange(self.rounds)[:, None] * self._round
        start = jnp.arange(self.snippets)[None] * self.frames
        recall = self.snippets * self.frames + self.delay + jnp.argsort(order, axis=1) * self.frames
        frames = jnp.arange(self.frames)

        def steps(begin: Array) -> Array:
            return ((first + begin)[..., None] + frames[None, None]).reshape(-1, self.frames).astype(jnp.int32)

        return steps(start), steps(recall)
