"""Contract of one sub-RNN, written for all sub-RNNs of a layer at once.

Everything is feature-first and flat: states are [n, units], messages [m, units], where `units` counts the sub-RNNs of a
layer in the order of its wiring. A cell is then a few matrix products [n_out, n_in] x [n_in, units] and elementwise
maps over long contiguous rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from vsml.sparsity.base import Reduce
from vsml.types import Array, Key, Params, State


class Cell(ABC):
    """What one sub-RNN computes: new state from old state and incoming messages, outgoing messages from the state.

    What others rely on, so that sub-RNNs can be computed in any groups and differentiated by group, and what
    `check.check_update` checks where a layer is traced:

    - every leaf of the state is of floating point and [n, units]; what counts or names is a float too, or a field;
    - `update` treats every sub-RNN alike and alone: any columns may be computed without the others (not checked);
    - `update` gives back the structure, shapes and types of the state that it takes;
    - `update` uses no traced value but its arguments; constants and fields are free.

    Attributes:
      sends_before_update: whether the messages of a visit are read from the state before its last micro tick instead of
        after it: a sub-RNN then sends with what it knew, and learns.
      memory: the leaf of the state that keeps what is learned: `initial_state` draws its first entries at random.

    Example: sub-RNNs that add up what they receive forward, and send a learned multiple of it both ways.

    >>> from dataclasses import dataclass
    >>> import jax, jax.numpy as jnp
    >>> from vsml.sparsity import Dense
    >>> @dataclass(frozen=True)
    ... class Adder(Cell):
    ...     def init(self, key, incoming, outgoing):
    ...         return {"gain": jax.random.normal(key, (outgoing, 1))}
    ...     def initial_state(self, key, units, fan_in, random_share):
    ...         return {"s": jnp.zeros((1, units))}
    ...     def update(self, params, state, forward_in, backward_in):
    ...         return {"s": state["s"] + forward_in[:1]}
    ...     def messages(self, params, state, forward_in, backward_in, forward, backward):
    ...         return params["gain"] @ forward(state["s"]), params["gain"] @ backward(state["s"])

    A layer of 3 x 2 of them, with messages of 4 channels of which the inputs use one:

    >>> cell, wiring = Adder(), Dense().wire((3,), (2,), "sum")
    >>> params = cell.init(jax.random.key(0), 4, 4)
    >>> state = cell.initial_state(jax.random.key(1), wiring.units, wiring.fan_in, 0.5)
    >>> forward_in = wiring.spread_forward(jnp.array([[1.0, 2.0, 3.0]]))
    >>> backward_in = wiring.spread_backward(jnp.zeros((1, 2)))
    >>> state = cell.update(params, state, forward_in, backward_in)
    >>> state["s"].tolist()
    [[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]]
    >>> reductions = wiring.reduce_forward, wiring.reduce_backward
    >>> forward, backward = cell.messages(params, state, forward_in, backward_in, *reductions)
    >>> forward.shape, backward.shape
    ((4, 2), (4, 3))
    """

    sends_before_update: ClassVar[bool] = False
    memory: ClassVar[str] = "s"

    @abstractmethod
    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        """Draws one set of meta-parameters.

        Args:
          incoming: channels of a message that arrives, in either direction.
          outgoing: channels of a message that leaves.
        """

    @abstractmethod
    def initial_state(self, key: Key, units: int, fan_in: int, random_share: float) -> State:
        """Draws the state a lifetime starts from.

        Args:
          units: number of sub-RNNs.
          fan_in: number of sub-RNNs whose messages one receiving neuron sums.
          random_share: share of the entries that start random (this breaks the symmetry between sub-RNNs); the rest is
            0.

        Returns:
          A pytree with leaves [n, units].
        """

    @abstractmethod
    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        """One micro tick.

        Args:
          forward_in, backward_in: [channels, units]. Where there are fewer channels than `incoming`, the missing
            last ones are silent: a cell skips their arithmetic.
        """

    @abstractmethod
    def messages(
        self, params: Params, state: State, forward_in: Array, backward_in: Array, forward: Reduce, backward: Reduce
    ) -> tuple[Array, Array]:
        """Outgoing messages, already reduced at the receiving neurons.

        `forward` and `backward` are linear reductions [n, units] -> [n, neurons]. A cell whose messages are affine in
        its state may reduce the state first and apply its weights to the few neurons instead of the many sub-RNNs.
        """
