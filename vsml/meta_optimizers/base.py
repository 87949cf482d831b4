"""Contract of the estimators of the meta-gradient. The update itself is optax's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.extend import core

from vsml.errors import UserError
from vsml.fields import MAY_CHANGE
from vsml.hardware import lifetimes_at_once
from vsml.tasks.base import World
from vsml.types import Array, Key, Metrics, Params, State

# What is drawn of a lifetime's key beside its task and its initial state, which are `split(key)`, that is the streams 0
# and 1 of `fold_in`.
NOISE_STREAM, OBJECTIVE_STREAM, LENGTH_STREAM = 2, 3, 4


class PartialLifetime(NamedTuple):
    """A lifetime that is cut into windows, between two of them. Its task is drawn again from the key."""

    key: Array  # [2] uint32, data of the key that determines the lifetime
    state: State  # of the learner; at position 0 any of its shape, since `run` draws it then
    world: World  # of the task; at position 0 any of its shape
    position: Array  # [] int32, steps lived
    length: Array  # [] int32, steps of this lifetime, at most T; it is over where `position` is not below
    curves: Metrics  # [T] float32 each, as last seen, also in the lifetimes before; NaN where never


class Lifetimes(Protocol):
    """The inner problem as an estimator sees it: lifetimes, each wholly determined by its key."""

    @property
    def length(self) -> int:
        """Examples of a lifetime, T."""
        ...

    def auto_segment(self, at_once: int) -> int:
        """The segment length to choose where lifetimes are differentiated, so many at once."""
        ...

    def loss(self, params: Params, key: Key, segment: int | None = None) -> tuple[Array, Metrics]:
        """Runs one lifetime: scalar loss and metrics.

        With `segment`, the unroll is rematerialised in segments of that many examples when it is differentiated: memory
        then grows as T / segment + segment instead of T.
        """
        ...

    def start(self, params: Params, key: Key, length: Array) -> PartialLifetime:
        """A lifetime of `length` examples before its first one. Of the params only the shapes matter."""
        ...

    def run(
        self, params: Params, lifetime: PartialLifetime, window: int, segment: int | None = None
    ) -> tuple[Array, tuple[PartialLifetime, Metrics]]:
        """Runs a lifetime on for `window` examples, or as many as are left; `segment` as for `loss`.

        Returns:
          The share of these examples in the lifetime's loss times its number of windows, so that the mean over all of
          its windows is its loss; the lifetime afterwards; and metrics.
        """
        ...


@dataclass(frozen=True)
class Population:
    """The members on this device, in one meta-step.

    Attributes:
      key: of this meta-step, the same on every device.
      keys: [members] one key per member on this device, different at every meta-step.
      size: members on all devices.
      step: [] int32, finished meta-steps.
      first: index of this device's first member among all.
      everyone: [members, ...] of this device to that of all members on all devices, in order, the same on every device.
    """

    key: Key
    keys: Key
    size: int
    step: Array | int = 0
    first: Array | int = 0
    everyone: Callable[[Array], Array] = lambda values: values

    def own(self, values: Array) -> Array:
        """The inverse of `everyone`: the rows of this device's members."""
        return jax.lax.dynamic_slice_in_dim(values, self.first, self.keys.shape[0])


class EstimatorState(NamedTuple):
    """What an estimator carries from one meta-step to the next."""

    shared: Any = ()  # the same on every device
    members: Any = ()  # leaves have a leading axis of members, spread over devices


def mean_over_members(tree: Any) -> Any:
    """The mean of leaves [members, ...] over the members on this device."""
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), tree)


@dataclass(frozen=True)
class MetaOptimizer(ABC):
    """Estimates the meta-gradient from a population of lifetimes.

    Attributes:
      chunk: population members that a device computes at once; the others wait their turn. Fewer need less memory; the
        numbers do not depend on it. None: as many as the processor is fastest with (`vsml.hardware`).
      differentiates: whether it differentiates lifetimes, by backprop; programs are then compiled for that.
      cuts_lifetimes: whether it runs lifetimes window by window (`Lifetimes.run`), which takes a linear objective.

    Example: the slope along one random direction per member, by a difference of two losses.

    >>> @dataclass(frozen=True)
    ... class RandomDirections(MetaOptimizer):
    ...     step: float = 0.01
    ...     def gradient(self, params, state, population, lifetimes):
    ...         def member(key):
    ...             direction = jax.random.normal(key, params.shape)
    ...             above, metrics = lifetimes.loss(params + self.step * direction, key)
    ...             below, _ = lifetimes.loss(params - self.step * direction, key)
    ...             return (above - below) / (2 * self.step) * direction, metrics
    ...         gradient, metrics = self.mean_of_each(member, population.keys)
    ...         return gradient, state, metrics

    Of lifetimes whose loss is |params|^2, so that the meta-gradient is 2 params:

    >>> class Bowl:
    ...     def loss(self, params, key, segment=None):
    ...         return jnp.sum(params**2), {"loss": jnp.sum(params**2)}
    >>> population = Population(jax.random.key(0), keys=jax.random.split(jax.random.key(1), 2000), size=2000)
    >>> estimator, params = RandomDirections(chunk=500), jnp.array([1.0, -2.0])
    >>> gradient, state, metrics = estimator.gradient(params, EstimatorState(), population, Bowl())
    >>> jnp.round(gradient).tolist()
    [2.0, -4.0]
    """

    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    differentiates: ClassVar[bool] = False
    cuts_lifetimes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise UserError(f"{type(self).__name__}.chunk is {self.chunk}: set it to 1 or more, or None")

    def for_each(self, member: Callable[..., Any], *trees: Any) -> Any:
        """`member` of every row of trees with leaves [members, ...], stacked likewise; `chunk` of them at a time."""
        at_once = self.at_once(trees)
        # One at a time without `vmap`: an axis of length 1 would turn the operands of products around.
        return jax.lax.map(lambda rows: member(*rows), trees, batch_size=None if at_once == 1 else at_once)

    def mean_of_each(self, member: Callable[..., Any], *trees: Any) -> Any:
        """The mean over rows of what `for_each` gives, summed on the way: no member's own outcome is kept."""
        return self.mean_and_each(lambda *rows: (member(*rows), ()), *trees)[0]

    def mean_and_each(self, member: Callable[..., tuple[Any, Any]], *trees: Any) -> tuple[Any, Any]:
        """For a `member` that gives a pair: the mean of the first as by `mean_of_each`, the second as by `for_each`."""
        size, chunk = jax.tree.leaves(trees)[0].shape[0], self.at_once(trees)
        whole = size - size % chunk
        # Traced once, for the shapes of what is summed and for the loop: lifetimes take long to trace.
        traced, (shapes, kept_shapes) = jax.make_jaxpr(member, return_shape=True)(
            *jax.tree.map(lambda leaf: leaf[0], trees)
        )

        def once_more(*rows: Any) -> tuple[Any, Any]:
            leaves = core.jaxpr_as_fun(traced)(*jax.tree.leaves(rows))
            return jax.tree.unflatten(jax.tree.structure((shapes, kept_shapes)), leaves)

        def alone(*rows: Any) -> tuple[Any, Any]:
            only = once_more(*jax.tree.map(lambda leaf: leaf[0], rows))
            return jax.tree.map(lambda leaf: leaf[None], only)

        together = alone if chunk == 1 else jax.vmap(once_more)

        def more(so_far: Any, rows: Any) -> tuple[Any, Any]:
            outcomes, kept = together(*rows)
            return jax.tree.map(lambda total, leaf: total + leaf.sum(axis=0), so_far, outcomes), kept

        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.result_type(leaf.dtype, jnp.float32)), shapes)
        chunks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk, *leaf.shape[1:]), trees)
        summed, kept = jax.lax.scan(more, nothing, chunks)
        kept = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), kept)
        if whole < size:
            summed, rest = more(summed, jax.tree.map(lambda leaf: leaf[whole:], trees))
            kept = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), kept, rest)
        return jax.tree.map(lambda leaf: leaf / size, summed), kept

    def at_once(self, trees: Any) -> int:
        """How many rows of trees with leaves [members, ...] `for_each` and `mean_of_each` take at once."""
        size = jax.tree.leaves(trees)[0].shape[0]
        return min(self.chunk or lifetimes_at_once(size), size)

    def init_shared(self, params: Params, keys: Key) -> Any:
        """The shared part of the state before the first meta-step; `keys` are those of `init_members`."""
        return ()

    def init_members(self, params: Params, keys: Key, lifetimes: Lifetimes) -> Any:
        """The members' part of the state before the first meta-step; `keys` [members] of all of them."""
        return ()

    @abstractmethod
    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        """One estimate from the members on this device.

        Args:
          params: meta-parameters, the same on every device.
          state: the estimator's state, this device's members.
          population: this device's members.
          lifetimes: the inner problem.

        Returns:
          The mean over these members of the meta-gradient, the new state, and the mean of the members' metrics. The
          caller averages gradient and metrics over devices (every device holds the same number of members). Where any
          of that is not finite, it drops the gradient and the new shared state, but keeps that of the members: a member
          that cannot go on has to start again by itself.
        """
