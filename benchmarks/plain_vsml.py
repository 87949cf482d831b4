"""The plain twin: VSML as its equations are written, one sub-RNN's tick under two nested vmaps.

    s_ab <- LSTM(s_ab, [fwd_a, bwd_b])      every micro tick, for every sub-RNN, with all channels of all messages
    fwd_b = mean_a f_fwd(s_ab),   bwd_a = mean_b f_bwd(s_ab)

It takes the very meta-parameters, states and options of `learners.VSML` and gives the same predictions; what differs is
how they are computed. This is what one would write first, and what the numbers of `benchmarks/` are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vsml.cells.lstm import LSTM
from vsml.learners.layers import bounded
from vsml.learners.vsml import FEEDBACK_CHANNELS, INPUT_CHANNEL, VSML
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


@dataclass(frozen=True)
class PlainVSML(VSML):
    """One dense layer of LSTM sub-RNNs, shared meta-parameters, means, delayed error feedback: the paper's setting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain = VSML(cell=self.cell, message_size=self.message_size, micro_ticks=self.micro_ticks)
        if not isinstance(self.cell, LSTM) or VSML(**vars(self)) != plain:
            raise ValueError("the plain twin knows the paper's setting only")

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> State:
        """That of `VSML`, with cell states [in, out, N]."""
        state = super().initial_state(params, key, spec)
        cells = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf[0].reshape(-1, spec.num_inputs, spec.num_outputs), 0, -1), state["cells"][0]
        )
        return {"cells": cells, "error": jnp.zeros(spec.num_outputs)}

    def learned_variables(self, state: State) -> State:
        return state["cells"]

    def predict(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        own = jax.tree.map(lambda leaf: leaf[0], params["cell"])

        def tick(h: Array, c: Array, forward: Array, backward: Array) -> tuple[Array, Array, Array, Array]:
            """One sub-RNN: h, c [N], messages [channels]."""
            z = own["gates"]["w"] @ jnp.concatenate([h, forward, backward]) + own["gates"]["b"]
            i, g, f, o = jnp.split(z, 4)
            c = jax.nn.sigmoid(f + self.offset) * c + jax.nn.sigmoid(i - self.offset) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return h, c, *(own[name]["w"] @ h + own[name]["b"] for name in ("forward", "backward"))

        layer = jax.vmap(jax.vmap(tick, (0, 0, None, 0)), (0, 0, 0, None))
        h, c = state["cells"]["h"], state["cells"]["c"]
        forward = jnp.zeros((h.shape[0], self.message_size)).at[:, INPUT_CHANNEL].set(x.ravel())
        backward = jnp.zeros((h.shape[1], self.message_size)).at[:, FEEDBACK_CHANNELS["error"]].set(state["error"])
        sent = jnp.zeros((*h.shape[:2], self.message_size))
        for _ in range(self.micro_ticks):
            h, c, sent, _ = layer(h, c, forward, backward)
        logits = bounded(sent.mean(axis=0)[:, self.output_channel], self.output_bound)
        return {"cells": {"h": h, "c": c}}, logits[None]

    def learn(self, params: Params, state: State, x: Array, feedback: Feedback) -> State:
        """Keeps the error for the next example."""
        assert feedback.error is not None
        return {**state, "error": feedback.error[0]}

    @property
    def offset(self) -> float:
        """Of the gates."""
        assert isinstance(self.cell, LSTM)
        return self.cell.gate_offset
