"""Attention over all inputs so far: what is like the input answers it, as in a modern Hopfield network.

    a_j = softmax_j( exp(beta) x . x_j / n )         over the inputs x_1..x_t before this one
    y^  = exp(gain) sum_j a_j x_j

V_M is beta and gain. An input is kept as it was seen. A number that is not shown is 0 and has no say in what is alike.
It reads no feedback, so it fits tasks whose outputs are inputs again, such as `tasks.Remember`: there it is the upper
reference, since it forgets nothing.

Source: Ramsauer et al. 2020, "Hopfield networks is all you need", arXiv 2008.02217; one step of retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Seen(NamedTuple):
    """All inputs of a lifetime so far."""

    count: Array  # [B] int32
    x: Array  # [B, T, n]; 0 where there is none yet


@dataclass(frozen=True)
class AttentionMemory(Learner):
    """Keeps every input, and answers with a mean of those that are like the present one.

    Attributes:
      sharpness: start of exp(beta): how much more the more alike count.
      scale: start of exp(gain): of the outputs.
    """

    sharpness: float = 10.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("sharpness", "scale"):
            if not getattr(self, name) > 0:
                raise UserError(f"learners.AttentionMemory.{name} is {getattr(self, name)}: set it above 0")

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """`beta` and `gain` []. Raises `UserError` where outputs cannot be inputs again."""
        if spec.num_inputs != spec.num_outputs:
            raise UserError(
                "learners.AttentionMemory answers with inputs that it has seen, but these tasks have "
                f"{spec.num_inputs} inputs and {spec.num_outputs} outputs: choose tasks/remember.gin"
            )
        return {"beta": jnp.log(jnp.float32(self.sharpness)), "gain": jnp.log(jnp.float32(self.scale))}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Seen:
        room = jnp.zeros((spec.batch, spec.length, spec.num_inputs))
        return Seen(jnp.zeros(spec.batch, jnp.int32), room)

    def predict(self, params: Params, state: Seen, x: Array) -> tuple[Seen, Array]:
        x = x.reshape(x.shape[0], -1)
        known = jnp.arange(state.x.shape[1])[None] < state.count[:, None]
        alike = jnp.exp(params["beta"]) * jnp.einsum("bn,bjn->bj", x, state.x) / x.shape[1]
        share = jnp.where(known, jax.nn.softmax(jnp.where(known, alike, -jnp.inf), where=known), 0.0)
        return state, jnp.exp(params["gain"]) * jnp.einsum("bj,bjn->bn", share, state.x)

    def learn(self, params: Params, state: Seen, x: Array, feedback: Feedback) -> Seen:
        """Keeps x."""
        x = x.reshape(x.shape[0], -1)
        kept = state.x.at[jnp.arange(len(x)), state.count].set(x, mode="drop")
        return Seen(state.count + 1, kept)

    def learned_variables(self, state: Seen) -> State:
        """The inputs."""
        return state.x
