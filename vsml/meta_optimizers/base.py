"""Contract of the estimators of the meta-gradient. The update itself is optax's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from vsml.errors import UserError
from vsml.types import Array, Key, Metrics, Params


class Lifetimes(Protocol):
    """The inner problem as an estimator sees it: lifetimes, each wholly determined by its key."""

    @property
    def auto_segment(self) -> int:
        """The segment length at which a differentiated lifetime takes least memory."""
        ...

    def loss(self, params: Params, key: Key, segment: int | None = None) -> tuple[Array, Metrics]:
        """Runs one lifetime: scalar loss and metrics.

        With `segment`, the unroll is rematerialised in segments of that many examples when it is differentiated: memory
        then grows as T / segment + segment instead of T.
        """
        ...


@dataclass(frozen=True)
class MetaOptimizer(ABC):
    """Estimates the meta-gradient from a population of lifetimes.

    Attributes:
      chunk: population members that a device computes at once; the others wait their turn. Fewer need less memory; the
        numbers do not depend on it. None: all at once on accelerators, one at a time on a CPU, whose caches then hold
        the whole state of a lifetime.
    """

    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise UserError(f"{type(self).__name__}.chunk is {self.chunk}: set it to 1 or more, or None")

    def over_members(self, member: Callable[[Key], Any], keys: Key) -> Any:
        """The mean of `member(key)`, a pytree of arrays, over the members' keys, `chunk` of them at a time."""
        on_cpu = jax.default_backend() == "cpu"
        chunk = self.chunk or (1 if on_cpu else keys.shape[0])
        values = jax.lax.map(member, keys, batch_size=min(chunk, keys.shape[0]))
        return jax.tree.map(lambda v: v.mean(axis=0), values)

    def init(self, params: Params, keys: Key, lifetimes: Lifetimes) -> Any:
        """State of the estimator: a pytree whose leaves have a leading axis of members, spread over devices."""
        return ()

    @abstractmethod
    def gradient(self, params: Params, state: Any, keys: Key, lifetimes: Lifetimes) -> tuple[Params, Any, Metrics]:
        """One estimate from the members on this device.

        Args:
          params: meta-parameters, the same on every device.
          state: this device's part of the estimator's state.
          keys: [members] one key per member on this device, different at every meta-step.
          lifetimes: the inner problem.

        Returns:
          The mean over these members of the meta-gradient, the new state, and the mean of the members' metrics. The
          caller averages gradient and metrics over devices (every device holds the same number of members).
        """
