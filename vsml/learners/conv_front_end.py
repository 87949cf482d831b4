"""Convolutional front-end: turns images into features before a learner reads them.

    a_0 = x [B, H, W, C]      a_k = sigma(conv(a_{k-1}, W_k; stride, SAME) + b_k)      the learner reads a_K, flattened

In learners with meta-parameters the filters belong to V_M; in gradient descent they are learned in the lifetime, V_L.

Source: LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition"; sizes are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key, Params


@dataclass(frozen=True)
class ConvFrontEnd:
    """A stack of convolutions with SAME padding, in front of a learner.

    Attributes:
      channels: output channels of each layer.
      kernel: height and width of the filters, in pixels.
      stride: pixels between two positions, in every layer: heights and widths shrink to ceil(size / stride).
      activation: after each layer.
    """

    channels: tuple[int, ...] = (16,)
    kernel: int = 3
    stride: int = 2
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise UserError(
                f"learners.ConvFrontEnd.channels is {list(self.channels)}: name one number of 1 or more per layer"
            )
        for name in ("kernel", "stride"):
            if getattr(self, name) < 1:
                raise UserError(f"learners.ConvFrontEnd.{name} is {getattr(self, name)}: set it to 1 or more")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Height, width and channels of the features. Raises `UserError` for inputs that are no images."""
        height, width, _ = _image_shape(input_shape)
        for _ in self.channels:
            height, width = math.ceil(height / self.stride), math.ceil(width / self.stride)
        return height, width, self.channels[-1]

    def init(self, key: Key, input_shape: tuple[int, ...]) -> tuple[Params, ...]:
        """Per layer `w` [kernel, kernel, in, out], truncated normal with std 1 / sqrt(fan_in), and `b` [out], 0."""
        draw = jax.nn.initializers.lecun_normal()
        before = (_image_shape(input_shape)[2], *self.channels[:-1])
        return tuple(
            {"w": draw(k, (self.kernel, self.kernel, *io), jnp.float32), "b": jnp.zeros(io[1], jnp.float32)}
            for k, io in zip(
                jax.random.split(key, len(self.channels)), zip(before, self.channels, strict=True), strict=True
            )
        )

    def __call__(self, params: Sequence[Params], x: Array) -> Array:
        """Features [B, *output_shape] of images [B, H, W] or [B, H, W, C]."""
        activation = jax.nn.relu if self.activation == "relu" else jnp.tanh
        x = x.reshape(x.shape[0], *_image_shape(x.shape[1:]))
        for layer in params:
            x = jax.lax.conv_general_dilated(
                x, layer["w"], (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = activation(x + layer["b"][None, None, None])
        return x


def num_features(front_end: ConvFrontEnd | None, spec: TaskSpec) -> int:
    """How many scalars of an example a learner reads after its front-end, if it has one."""
    return spec.num_inputs if front_end is None else math.prod(front_end.output_shape(spec.input_shape))


def init_front_end(front_end: ConvFrontEnd | None, key: Key, spec: TaskSpec) -> dict[str, Params]:
    """What a front-end adds to a learner's meta-parameters: nothing where there is none."""
    return {} if front_end is None else {"front_end": front_end.init(key, spec.input_shape)}


def features(front_end: ConvFrontEnd | None, params: Params, x: Array) -> Array:
    """What a learner reads of x [B, *input_shape]: [B, num_features]."""
    outcome = x if front_end is None else front_end(params["front_end"], x)
    return outcome.reshape(x.shape[0], -1)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) not in (2, 3):
        raise UserError(
            f"learners.ConvFrontEnd reads images [H, W] or [H, W, C], but the inputs of the tasks are {list(shape)}: "
            "choose tasks with images, or set front_end to None"
        )
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1
