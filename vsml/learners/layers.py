"""Pieces that several learners are made of; affine maps and LSTMs have a leading axis B, parallel streams.

affine  x W + b        W truncated normal with std 1 / sqrt(fan_in), b = 0 at first
LSTM    i, g, f, o = [u, h] W + b      c <- sig(f + offset) c + sig(i) tanh(g)      h <- sig(o) tanh(c)
bound   y = bound tanh(y / bound)
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.types import Array, Key, Params


def init_affine(key: Key, num_inputs: int, num_outputs: int) -> Params:
    """`w` [num_inputs, num_outputs] and `b` [num_outputs]."""
    draw = jax.nn.initializers.lecun_normal()
    return {"w": draw(key, (num_inputs, num_outputs), jnp.float32), "b": jnp.zeros(num_outputs, jnp.float32)}


def affine(params: Params, x: Array) -> Array:
    """x [B, num_inputs] to [B, num_outputs]."""
    return x @ params["w"] + params["b"][None]


def lstm(gates: Params, inputs: Array, h: Array, c: Array, forget_offset: float) -> tuple[Array, Array]:
    """One update of h and c, each [B, size]; `gates` is the affine map of [inputs, h] to i, g, f, o."""
    i, g, f, o = jnp.split(affine(gates, jnp.concatenate([inputs, h], axis=1)), 4, axis=1)
    c = jax.nn.sigmoid(f + forget_offset) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def check_bound(name: str, bound: float | None) -> None:
    """Raises `UserError` for a bound of logits that is none."""
    if bound is not None and not 0 < bound < math.inf:
        raise UserError(f"learners.{name}.output_bound is {bound}: set it above 0 and finite, or to None for no bound")


def bounded(logits: Array, bound: float | None) -> Array:
    """bound * tanh(logits / bound): near 0 as they are, never beyond the bound; None leaves them alone."""
    return logits if bound is None else bound * jnp.tanh(logits / bound)
