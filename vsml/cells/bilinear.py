"""Bilinear sub-RNN: states change by products of state and messages from either side; backprop is one of them.

    p_r     = (S_r [1, s]) (F_r [1, tanh fwd, tanh^2 fwd]) (G_r [1, bwd])       r = 1..R
    s'      = clip(k s + rate D p, -bound, bound)      fwd_out = M_fwd p            bwd_out = M_bwd p
    k_1     = 1,   k_n = 1 - leak min(1, sum_channels |tanh fwd|)   for n > 1

The genome (S, F, G, D, M_fwd, M_bwd) is R products, each of a value read from the state, one from the forward and one
from the backward message. Messages are read from the state *before* it changes: a sub-RNN sends with the weight that it
has, then learns. Five products are backprop, with a weight w = s_1, a bias b = s_N and the error e = bwd_1:

    fwd_out = w tanh(x) + b      bwd_out = e w (1 - tanh^2(x))      w' = w - rate e tanh(x)      b' = b - bias_rate e

A stack of these follows stochastic gradient descent step for step if the learner is VSML with feedback
`backward_pass`, `clear_feedback`, 1 micro tick, reduction `sum` and no output bound: neurons add, and feedback arrives
once, together with the activations it belongs to. Weights start random and biases at 0 with a random share of 1/2, and
the gradient of a batch is its mean with a merge share of 1.

D is in units of the learning rate. Meta-optimizers such as Adam move every entry of the genome alike; one that held the
changes themselves, some hundredths, would be thrown over by the first meta-steps.

Source: in the spirit of BLUR, Sandler et al. 2021, arXiv 2104.04657, whose neurons have several states and whose shared
genome is low-dimensional too; the products and their ranks are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from vsml.cells.base import Cell
from vsml.cells.heads import incoming_columns, truncated_normal
from vsml.cells.vector import partly_random
from vsml.errors import UserError
from vsml.hardware import product
from vsml.sparsity.base import Reduce
from vsml.types import Array, Key, Params, State

NUM_BACKPROP = 5
CHANGE_W, CHANGE_B, SEND_W, SEND_B, SEND_ERROR = range(NUM_BACKPROP)
"""The products that make up backprop."""


@dataclass(frozen=True)
class Bilinear(Cell):
    """Products of state, forward and backward message, weighted by a small genome.

    Attributes:
      size: N, the length of the state vector of one sub-RNN.
      rank: R, the number of products.
      start: the genome that meta-training starts from. `backprop` is gradient descent, with what is left of the
        products drawn at random but not read; `random` draws everything.
      learning_rate: of the weights in `backprop`; in `random` what the changes of the state are scaled with.
      bias_learning_rate: of the biases in `backprop`. A neuron adds up the biases of the sub-RNNs before it, so its
        bias moves at this rate times their number.
      silent_inputs: whether forward factors have the constant of F_r [1, ...], so that a sub-RNN changes and sends
        while its forward message is 0. Without, it does neither, so that a layer may have any number of silent inputs;
        `backprop` is then gradient descent on a single layer without biases.
      bound: of the entries of the state. Changes in proportion to the state may grow without end in lifetimes longer
        than those of meta-training; where they are bounded they cannot. None leaves them alone.
      leak: share of every entry but the first, the weight of `backprop`, that is lost at a forward message of 1, and
        of what part there is of smaller ones. Without it they may count the examples of a lifetime, and drift for as
        long as it lasts. With it they settle, and where they settle does not depend on how large messages are, since
        what drives them is in proportion to the message too.
    """

    size: int = 2
    rank: int = 8
    start: Literal["random", "backprop"] = "random"
    learning_rate: float = 0.01
    bias_learning_rate: float = 1e-4
    silent_inputs: bool = True
    bound: float | None = None
    leak: float = 0.0

    sends_before_update: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"cells.Bilinear.size is {self.size}: set it to 1 or more")
        if self.rank < 1:
            raise UserError(f"cells.Bilinear.rank is {self.rank}: set it to 1 or more")
        for name in ("learning_rate", "bound"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"cells.Bilinear.{name} is {value}: set it above 0")
        if not 0 <= self.leak <= 1:
            raise UserError(f"cells.Bilinear.leak is {self.leak}: set it between 0 and 1")
        if self.start == "backprop" and (self.size < 2 or self.rank < NUM_BACKPROP):
            raise UserError(
                f"cells.Bilinear.start = 'backprop' needs a weight, a bias and 5 products, but size is {self.size} and "
                f"rank {self.rank}: set size to 2 or more and rank to 5 or more"
            )

    def init(self, key: Key, incoming: int, outgoing: int) -> Params:
        keys = jax.random.split(key, 6)
        genome = {
            "state": _factor(keys[0], self.rank, self.size),
            "forward": _factor(keys[1], self.rank, 2 * incoming),
            "backward": _factor(keys[2], self.rank, incoming),
            "direction": _read_out(keys[3], self.size, self.rank),
            "send_forward": _read_out(keys[4], outgoing, self.rank),
            "send_backward": _read_out(keys[5], outgoing, self.rank),
        }
        genome = genome if self.start == "random" else self._backprop(genome, incoming)
        if not self.silent_inputs:
            del genome["forward"]["b"]
        return genome

    def initial_state(self, key: Key, units: int, fan_in: int, random_share: float) -> State:
        """The first `random_share` of s is truncated normal with std 1 / sqrt(fan_in), the rest 0."""
        return {"s": partly_random(key, self.size, units, fan_in, random_share)}

    def update(self, params: Params, state: State, forward_in: Array, backward_in: Array) -> State:
        products = _products(params, state["s"], forward_in, backward_in)
        s = self._kept(state["s"], forward_in) + self.learning_rate * product(params["direction"].T, products)
        return {"s": s if self.bound is None else jnp.clip(s, -self.bound, self.bound)}

    def messages(
        self, params: Params, state: State, forward_in: Array, backward_in: Array, forward: Reduce, backward: Reduce
    ) -> tuple[Array, Array]:
        products = _products(params, state["s"], forward_in, backward_in)
        return params["send_forward"] @ forward(products), params["send_backward"] @ backward(products)

    def _kept(self, s: Array, forward_in: Array) -> Array:
        if not self.leak:
            return s
        active = jnp.minimum(jnp.abs(jnp.tanh(forward_in)).sum(0), 1.0)
        return s.at[1:].multiply((1 - self.leak * active)[None])

    def _backprop(self, genome: Params, incoming: int) -> Params:
        """`genome` with its first products replaced by those of backprop, and nothing else read.

        The activation leaves in every channel, so that any one serves the learner as its output; only the first is
        incoming.
        """
        w, b = 0, self.size - 1
        tanh, tanh_squared, error = 0, incoming, 0
        direction, send_forward, send_backward = (
            jnp.zeros_like(genome[name]) for name in ("direction", "send_forward", "send_backward")
        )
        bias = -self.bias_learning_rate / self.learning_rate
        direction = direction.at[w, CHANGE_W].set(-1.0).at[b, CHANGE_B].set(bias)
        return {
            "state": _set_first(
                genome["state"], (CHANGE_W, CHANGE_B), {(SEND_W, w): 1, (SEND_B, b): 1, (SEND_ERROR, w): 1}
            ),
            "forward": _set_first(
                genome["forward"],
                (CHANGE_B, SEND_B, SEND_ERROR),
                {(CHANGE_W, tanh): 1, (SEND_W, tanh): 1, (SEND_ERROR, tanh_squared): -1},
            ),
            "backward": _set_first(
                genome["backward"],
                (SEND_W, SEND_B),
                {(CHANGE_W, error): 1, (CHANGE_B, error): 1, (SEND_ERROR, error): 1},
            ),
            "direction": direction,
            "send_forward": send_forward.at[:, SEND_W].set(1.0).at[:, SEND_B].set(1.0),
            "send_backward": send_backward.at[error, SEND_ERROR].set(1.0),
        }


def _factor(key: Key, rank: int, num_inputs: int) -> Params:
    """One factor of every product: weights with std 1 / sqrt(num_inputs), constants with std 1.

    The constants are random so that a product whose other factors receive nothing is not silent itself.
    """
    w_key, b_key = jax.random.split(key)
    return {
        "w": truncated_normal(w_key, (rank, num_inputs), num_inputs**-0.5),
        "b": truncated_normal(b_key, (rank,), 1.0),
    }


def _set_first(factor: Params, constant: tuple[int, ...], entries: dict[tuple[int, int], float]) -> Params:
    """A factor of which the products of backprop read a constant 1, or the given entries (product, input)."""
    w, b = factor["w"].at[:NUM_BACKPROP].set(0.0), factor["b"].at[:NUM_BACKPROP].set(0.0)
    for place, value in entries.items():
        w = w.at[place].set(value)
    return {"w": w, "b": b.at[jnp.array(constant)].set(1.0)}


def _read_out(key: Key, num_outputs: int, rank: int) -> Array:
    return truncated_normal(key, (num_outputs, rank), rank**-0.5)


def _products(genome: Params, s: Array, forward_in: Array, backward_in: Array) -> Array:
    """p [rank, units]."""
    incoming_forward, incoming_backward = forward_in.shape[0], backward_in.shape[0]
    activation = jnp.tanh(forward_in)
    features = jnp.concatenate([activation, jnp.square(activation)])
    state, forward, backward = genome["state"], genome["forward"], genome["backward"]
    from_forward = product(incoming_columns(forward["w"], 0, incoming_forward, incoming_forward).T, features)
    if "b" in forward:
        from_forward = from_forward + forward["b"][:, None]
    return (
        (product(state["w"].T, s) + state["b"][:, None])
        * from_forward
        * (product(backward["w"][:, :incoming_backward].T, backward_in) + backward["b"][:, None])
    )
