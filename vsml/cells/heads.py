"""Linear message heads, shared by the cells whose messages are read from a vector of their state.

    f_fwd(s) = LN(W_fwd out(s) + b_fwd),   f_bwd(s) = LN(W_bwd out(s) + b_bwd)
    LN: LayerNorm over the channels of one sub-RNN's message, optional

Without LayerNorm the heads are affine and commute with the linear reduction at the receiving neuron, so the state is
reduced first and the weights are applied once per neuron instead of once per sub-RNN. The result is the same.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from vsml.sparsity.base import Reduce
from vsml.types import MESSAGES, Array, Key, Params

LAYER_NORM_EPSILON = 1e-5


def truncated_normal(key: Key, shape: tuple[int, ...], stddev: float) -> Array:
    """Normal draws cut at two standard deviations, scaled by `stddev` (not corrected for the cut)."""
    return stddev * jax.random.truncated_normal(key, -2.0, 2.0, shape)


def linear(key: Key, num_outputs: int, num_inputs: int) -> Params:
    """Weights [num_outputs, num_inputs] with std 1 / sqrt(num_inputs), biases [num_outputs] 0."""
    return {
        "w": truncated_normal(key, (num_outputs, num_inputs), num_inputs**-0.5),
        "b": jnp.zeros((num_outputs,)),
    }


def init_heads(key: Key, size: int, outgoing: int, layer_norm: bool) -> Params:
    """Parameters of a forward and a backward head, size -> outgoing each."""
    heads = {}
    for name, head_key in zip(("forward", "backward"), jax.random.split(key), strict=True):
        heads[name] = linear(head_key, outgoing, size)
        if layer_norm:
            heads[name] |= {"scale": jnp.ones((outgoing,)), "offset": jnp.zeros((outgoing,))}
    return heads


def incoming_columns(weights: Array, size: int, num_forward: int, num_backward: int) -> Array:
    """The columns of [n, size + 2 * incoming] weights that meet the state and the channels that are not silent."""
    incoming = (weights.shape[1] - size) // 2
    start = size + incoming
    return jnp.concatenate([weights[:, : size + num_forward], weights[:, start : start + num_backward]], axis=1)


def reduced_message(head: Params, output: Array, reduce: Reduce) -> Array:
    """The messages of all sub-RNNs, reduced at their receivers.

    Args:
      head: one head of `init_heads`.
      output: [size, units], what the messages are read from.
      reduce: linear reduction [n, units] -> [n, neurons].

    Returns:
      [channels, neurons].
    """
    if "scale" not in head:
        return head["w"] @ checkpoint_name(reduce(output), MESSAGES) + jnp.outer(head["b"], jnp.asarray(reduce.total))
    message = head["w"] @ output + head["b"][:, None]
    mean = jnp.mean(message, axis=0, keepdims=True)
    variance = jnp.mean(jnp.square(message - mean), axis=0, keepdims=True)
    normed = (message - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return reduce(normed * head["scale"][:, None] + head["offset"][:, None])
