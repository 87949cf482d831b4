"""Elementwise functions that cells choose from by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import jax

from vsml.hardware import tanh
from vsml.types import Array

Activation = Literal["tanh", "relu", "gelu", "identity"]

ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "tanh": tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "identity": lambda z: z,
}
