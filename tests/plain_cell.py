"""The plain twin of one layer of sub-RNNs with a state vector: NumPy, double precision, one sub-RNN after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vsml.sparsity import Dense

Vector = np.ndarray
NUM_INPUTS, NUM_OUTPUTS, MESSAGE = 3, 2, 3
HEARD = [(3, 3), (1, 2), (2, 0)]
"""Channels that are not silent, forward and backward."""


def sigmoid(z: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-z))


def random_params(cell: Any, seed: int = 0) -> Any:
    """Meta-parameters without a zero in them: a bias or a scale that is forgotten shows."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: cell.init(key, incoming=MESSAGE, outgoing=MESSAGE), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) / 2, jnp.float32), shapes)


def check_two_ticks(
    cell: Any,
    incoming: tuple[int, int],
    tick: Callable[[Any, Vector, Vector, Vector], Vector],
    send: Callable[[Any, Vector, Vector, Vector], tuple[Vector, Vector]],
) -> None:
    """Compares two ticks of `cell`, and the messages after each, with the twin's.

    Args:
      cell: with states {"s": [N, units]}.
      incoming: channels that are not silent.
      tick: the twin's (params, s, fwd, bwd) -> s'; silent channels are 0.
      send: the twin's (params, s', fwd, bwd) -> messages forward and backward, of one sub-RNN.
    """
    rng = np.random.default_rng(1)
    units = NUM_INPUTS * NUM_OUTPUTS
    params, wiring = random_params(cell), Dense().wire((NUM_INPUTS,), (NUM_OUTPUTS,), "sum")
    plain_params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    s = rng.standard_normal((cell.size, units)).astype(np.float32)
    state, plain_s = {"s": jnp.asarray(s)}, s.astype(np.float64)
    for _ in range(2):
        messages = [rng.standard_normal((n, units)).astype(np.float32) for n in incoming]
        state = cell.update(params, state, *messages)
        outgoing = cell.messages(params, state, *messages, wiring.reduce_forward, wiring.reduce_backward)

        full = [np.concatenate([m, np.zeros((MESSAGE - len(m), units))]).astype(np.float64) for m in messages]
        forward, backward = np.zeros((MESSAGE, NUM_OUTPUTS)), np.zeros((MESSAGE, NUM_INPUTS))
        for a in range(NUM_INPUTS):
            for b in range(NUM_OUTPUTS):
                unit = a * NUM_OUTPUTS + b
                own = plain_s[:, unit], full[0][:, unit], full[1][:, unit]
                plain_s[:, unit] = tick(plain_params, *own)
                to_behind, to_before = send(plain_params, plain_s[:, unit], *own[1:])
                forward[:, b] += to_behind
                backward[:, a] += to_before
        np.testing.assert_allclose(state["s"], plain_s, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outgoing[0], forward, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outgoing[1], backward, rtol=1e-5, atol=1e-5)


def linear_heads(layer_norm: bool) -> Callable[[Any, Vector, Vector, Vector], tuple[Vector, Vector]]:
    """What linear heads send."""

    def head(own: Any, s: Vector) -> Vector:
        message = own["w"] @ s + own["b"]
        if layer_norm:
            message = (message - message.mean()) / np.sqrt(message.var() + 1e-5) * own["scale"] + own["offset"]
        return message

    return lambda params, s, forward, backward: (head(params["forward"], s), head(params["backward"], s))
