"""Contracts of the data side: tasks, what they are drawn from, sources of examples, transforms of a lifetime.

    source --load()--> Dataset on the host, once
    distribution --sample(data, key)--> Task on the device, pure and traced, one lifetime
    task: x_t = see(world, step_t)    learner: y^_t    task: world, feedback, outcome = answer(world, step_t, y^_t)

A distribution's arrays are loaded once, placed on the devices once, and handed to `sample` as an argument, so that
nothing touches the host in a meta-step and no data set ends up as a constant inside a compiled program.

A task without labels: which of two arms pays is hidden in the task, and the reward depends on what the learner does.

>>> import jax, jax.numpy as jnp
>>> from typing import NamedTuple
>>> class Arms(NamedTuple):
...     paying: jax.Array  # [] int32, the arm that pays
...     weight: jax.Array  # [T, 1]
...     world: tuple = ()  # nothing but the answer depends on outputs
...     @property
...     def steps(self):
...         return self.weight  # leaves [T, ...], handed to `see` and `answer` step by step
...     def see(self, world, step):
...         return jnp.ones((1, 1))
...     def answer(self, world, step, output):
...         reward = (jnp.argmax(output, -1) == self.paying).astype(jnp.float32)
...         return Answer(world, Feedback(reward=reward), outcome=reward)
...     def score(self, steps, outputs, outcomes):
...         return Scores(-outcomes, {"reward": outcomes})
>>> task = Arms(jnp.int32(1), jnp.ones((3, 1)))
>>> task.answer((), task.steps[0], jnp.array([[0.0, 2.0]])).feedback.reward.tolist()
[1.0]
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np

from vsml.errors import UserError
from vsml.tasks.split import Split
from vsml.types import Array, Key

World = Any
"""What the outputs of a lifetime have changed so far, a pytree; () in a task whose answers depend on the step alone."""

FeedbackKind = Literal["error", "target", "reward"]
Overlap = Literal["examples", "other split", "nothing"]


class Feedback(NamedTuple):
    """What answers the outputs for B examples. A kind that a task never gives is None (see `TaskSpec.feedback`)."""

    error: Array | None = None  # [B, num_outputs], dL/dy^, the slope of each example's own loss by its output
    target: Array | None = None  # [B, num_outputs], what the output should have been
    reward: Array | None = None  # [B]
    given: Array | None = None  # [B], 1 where there is feedback, else 0, and the others are 0 there; None: always


class Answer(NamedTuple):
    """How a task answers the outputs of one step."""

    world: World
    feedback: Feedback
    outcome: Any = ()  # what `Task.score` has to know of it; () where the outputs tell everything


class Scores(NamedTuple):
    """What the outputs of a lifetime, or of a window of it, were worth."""

    loss: Array  # [T, B], lower is better
    measures: Mapping[str, Array]  # [T, B] each, by name, such as `accuracy`: what people want to see beside the loss


class Task(Protocol):
    """One lifetime: T steps of B examples each. A pytree of arrays, whose methods are pure and traced."""

    @property
    def steps(self) -> Any:
        """What the task knows of every step beforehand: leaves [T, ...]."""
        ...

    @property
    def world(self) -> World:
        """The world before the first step."""
        ...

    @property
    def weight(self) -> Array:
        """How much each output counts, [T, B]: 0 not at all. It depends on no output, so a lifetime can be cut."""
        ...

    def see(self, world: World, step: Any) -> Array:
        """The inputs of a step, [B, *input_shape]; `step` is one row of `steps`."""
        ...

    def answer(self, world: World, step: Any, output: Array) -> Answer:
        """What follows from the outputs [B, num_outputs] of a step."""
        ...

    def score(self, steps: Any, outputs: Array, outcomes: Any) -> Scores:
        """What outputs were worth, for all steps or a window of them at once.

        Args:
          steps: rows of `steps`, [T, ...].
          outputs: [T, B, num_outputs].
          outcomes: `Answer.outcome` of these steps, stacked: [T, ...].
        """
        ...


@dataclass(frozen=True)
class TaskSpec:
    """The static shape of a task, all that a learner may know before its lifetime starts.

    Attributes:
      input_shape: of one example.
      num_outputs: length of an output: classes, target variables, or actions.
      length: T, steps of a lifetime.
      batch: B, examples per step.
      feedback: the kinds of feedback that the task gives, in the order of `Feedback`.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    length: int
    batch: int = 1
    feedback: tuple[FeedbackKind, ...] = ("error", "target")

    @property
    def num_inputs(self) -> int:
        """Number of scalars of one example."""
        return int(np.prod(self.input_shape))


class Dataset(NamedTuple):
    """Labelled examples on the host."""

    x: np.ndarray  # [n, *input_shape] uint8 (0..255, read as x / 255) or float32
    y: np.ndarray  # [n] int32 in 0..num_classes-1
    num_classes: int
    mean: float  # of the examples as floats, what `transforms.Standardise` subtracts
    std: float  # and divides by


class Examples(NamedTuple):
    """Inputs of one lifetime on their way through the transforms; n = T * B."""

    x: Array  # [n, *input_shape] float32
    mean: Array  # scalar, mean of the source
    std: Array  # scalar, standard deviation of the source


class Source(ABC):
    """Where labelled examples come from. A frozen dataclass: equal sources are read once per process.

    Example: all words of some bits, and whether their sum is odd.

    >>> @dataclass(frozen=True)
    ... class Parity(Source):
    ...     bits: int = 3
    ...     def read(self):
    ...         x = np.stack(np.indices((2,) * self.bits), axis=-1).reshape(-1, self.bits).astype(np.float32)
    ...         return Dataset(x, x.sum(axis=1).astype(np.int32) % 2, 2, mean=0.5, std=0.5)
    >>> dataset = Parity(2).load()
    >>> dataset.x.tolist(), dataset.y.tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    >>> Parity(2).load().x is dataset.x
    True
    """

    @property
    def data(self) -> str:
        """The name of the data, without its split: what evaluations are named after."""
        return snake_case(type(self).__name__)

    def held_out(self) -> Self:
        """The examples that are kept apart when meta-training uses this source; by default by its field `split`.

        Raises `UserError` where there are none.
        """
        if (split := getattr(self, "split", None)) is None:
            raise UserError(
                f"sources.{type(self).__name__} knows no held-out part: give the evaluators tasks of their own, or "
                "define held_out"
            )
        try:
            return replace(self, split=str(Split.parse(split).held_out()))  # pyright: ignore[reportArgumentType, reportCallIssue]
        except UserError as error:
            raise UserError(
                f"sources.{type(self).__name__}: {error}; to evaluate on all of what meta-training has not used, set "
                "tasks.HeldOut.part=as_given, in the scope of the evaluator (plain/ and projected/)"
            ) from None

    def is_held_out_by(self, other: Source) -> bool:
        """Whether this is what is kept apart when meta-training uses the other one."""
        try:
            return self == other.held_out()
        except UserError:
            return False

    def overlap(self, other: Source) -> Overlap:
        """What this source has in common with another: `examples`, only the data set (`other split`), or `nothing`."""
        if type(self) is not type(other):
            return "nothing"
        mine, others = ({f.name: getattr(source, f.name) for f in fields(source)} for source in (self, other))  # pyright: ignore[reportArgumentType]
        splits = mine.pop("split", None), others.pop("split", None)
        if mine != others:
            return "other split" if other.is_held_out_by(self) or self.is_held_out_by(other) else "nothing"
        if None in splits or Split.parse(str(splits[0])).overlaps(Split.parse(str(splits[1]))):
            return "examples"
        return "other split"

    def load(self) -> Dataset:
        """The examples, read-only. Raises `UserError` for what is missing or corrupt."""
        return _load_once(self)

    @abstractmethod
    def read(self) -> Dataset:
        """Reads the examples; `load` calls it once."""


def snake_case(name: str) -> str:
    """`BreastCancer` -> `breast_cancer`, `KMNIST` -> `kmnist`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@functools.cache
def _load_once(source: Source) -> Dataset:
    dataset = source.read()
    for array in (dataset.x, dataset.y):
        array.setflags(write=False)  # every holder of an equal source sees these very arrays
    return dataset


class Transform:
    """A map of all examples of one lifetime.

    Its randomness comes from the key: one draw per lifetime, or per task id; another one from each of `changes` on.

    Example: all examples of a lifetime with one random factor.

    >>> import jax, jax.numpy as jnp
    >>> @dataclass(frozen=True)
    ... class Gain(Transform):
    ...     largest: float = 2.0
    ...     def apply(self, key, examples):
    ...         return examples._replace(x=examples.x * jax.random.uniform(key, maxval=self.largest))
    >>> examples = Examples(jnp.array([[1.0, 2.0], [3.0, 4.0]]), mean=jnp.float32(2.5), std=jnp.float32(1.0))
    >>> x = Gain().apply(jax.random.key(0), examples).x
    >>> bool(jnp.allclose(x / examples.x, x[0, 0]))
    True
    >>> Gain().output_spec((2,), 10)
    ((2,), 10)
    """

    @property
    def changes(self) -> tuple[int, ...]:
        """Examples of a lifetime, rising and counted from 0, at which the key changes: `apply` sees those between two
        changes together, and `relabel` is asked once for them."""
        return ()

    def output_spec(self, input_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], int]:
        """Input shape and number of classes after this transform. Raises `UserError` where it cannot be applied."""
        return input_shape, num_classes

    def relabel(self, key: Key, num_classes: int) -> Array | None:
        """The new label of every class, int32 [num_classes], or None where labels stay as they are.

        Examples of a class whose new label is -1 do not occur in this lifetime. Labels are mapped class by class before
        any example is drawn, so that transforms of labels compose in any order.
        """
        return None

    def apply(self, key: Key, examples: Examples) -> Examples:
        """Maps the inputs. Pure and traced; `relabel` for these examples saw the same key. Moments ignore the key."""
        return examples


class Share(NamedTuple):
    """The part of the population that lives on tasks of one distribution."""

    name: str  # "" where there is one distribution only
    tasks: TaskDistribution
    members: int


class TaskDistribution(ABC):
    """What a lifetime's task is drawn from."""

    def share_out(self, population: int) -> tuple[Share, ...]:
        """Which members of the population live on which distribution: all on this one."""
        return (Share("", self, population),)

    @property
    def data(self) -> str:
        """The name of the data: what evaluations are named after."""
        return snake_case(type(self).__name__)

    @property
    def different_examples(self) -> int | None:
        """How many different examples a lifetime may meet, of the smallest task; None for unlimited or unknown."""
        return None

    def for_meta_test(
        self, transforms: tuple[Transform, ...], length: int | None, held_out: bool = True
    ) -> TaskDistribution:
        """Tasks of this kind for a meta-test, all of them fresh.

        Args:
          transforms: in the place of those of meta-training.
          length: T, where it is free; None as it is.
          held_out: of `Source.held_out` instead of the examples of meta-training.

        Raises `UserError` where there is nothing held out.
        """
        raise UserError(
            f"tasks.{type(self).__name__} knows no held-out part: give the evaluators tasks of their own, or set "
            "EVALUATORS=[]"
        )

    @property
    @abstractmethod
    def spec(self) -> TaskSpec:
        """Static shapes of the tasks. Raises `UserError` where the parts do not fit."""

    @abstractmethod
    def load(self) -> Any:
        """The arrays that `sample` draws from: a pytree of host arrays."""

    @abstractmethod
    def sample(self, data: Any, key: Key) -> Task:
        """Draws one task. Pure, traced, vmappable; `data` is `load()` placed on the device."""
