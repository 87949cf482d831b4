"""Lifetimes cut into windows, one window per meta-step: what the estimators that do so share.

Every member is somewhere in a lifetime of its own and stays there between meta-steps. The first lifetimes of the
members are cut short by different numbers of windows, so that every meta-step sees all parts of a lifetime.

Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835; lengths that grow or vary: Metz et al. 2019, arXiv
  1810.10180.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from vsml.draws import log_uniform_int
from vsml.errors import UserError
from vsml.meta_optimizers.base import LENGTH_STREAM, Lifetimes, MetaOptimizer, PartialLifetime
from vsml.types import Array, Key, Params


@dataclass(frozen=True)
class Truncated(MetaOptimizer):
    """Base of the estimators that run lifetimes on by one window per meta-step. The objective has to be linear.

    Attributes:
      window: examples per meta-step; the whole lifetime where it is shorter. The last window of a lifetime may be cut
        short.
      min_length: None: every lifetime has all T examples. A number: every new lifetime draws its length log-uniformly
        from min_length..T, so that lifetimes of all orders of magnitude occur, and cannot be told by their age.
    """

    window: int = 20
    min_length: int | None = None

    cuts_lifetimes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("window", "min_length"):
            value = getattr(self, field)
            if value is not None and value < 1:
                none = ", or None" if field == "min_length" else ""
                raise UserError(f"meta_optimizers.{type(self).__name__}.{field} is {value}: set it to 1 or more{none}")

    def window_of(self, lifetimes: Lifetimes) -> int:
        """Examples per meta-step."""
        return min(self.window, lifetimes.length)

    def start_staggered(self, params: Params, keys: Key, lifetimes: Lifetimes) -> PartialLifetime:
        """The members' lifetimes before the first meta-step: leaves [members, ...].

        Member i of n starts with a lifetime of floor(i W / n) windows, where W windows are a whole one. One of no
        window is over before it starts; the whole one after it starts at once.
        """
        window, members = self.window_of(lifetimes), keys.shape[0]
        windows = -(-lifetimes.length // window)
        lengths = window * (jnp.arange(members) * windows // members)
        return jax.vmap(lambda key, length: lifetimes.start(params, key, length))(keys, lengths)

    def renew(self, lifetime: PartialLifetime, key: Key, lifetimes: Lifetimes) -> tuple[PartialLifetime, Array]:
        """A lifetime that is over gives way to the one of `key`. Also says whether it did."""
        over = lifetime.position >= lifetime.length
        new = lifetime._replace(
            key=jax.random.key_data(key),
            position=jnp.zeros_like(lifetime.position),
            length=self._new_length(key, lifetimes),
        )
        return optax.tree.where(over, new, lifetime), over

    def _new_length(self, key: Key, lifetimes: Lifetimes) -> Array:
        if self.min_length is None:
            return jnp.asarray(lifetimes.length, jnp.int32)
        shortest = min(self.min_length, lifetimes.length)
        return log_uniform_int(jax.random.fold_in(key, LENGTH_STREAM), shortest, lifetimes.length)


def end_where(broken: Array, lifetime: PartialLifetime) -> PartialLifetime:
    """A lifetime that broke down is over: run on, it would be as little finite."""
    return lifetime._replace(position=jnp.where(broken, lifetime.length, lifetime.position))
