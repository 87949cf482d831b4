"""A convolution: a kernel of sub-RNNs that is applied at every position of an image at once.

    place p = (i, j):    s_tcd^p <- f( s_tcd, fwd_{c, p stride + t - pad}, bwd_{d, p} ),    s_tcd <- mean_p s_tcd^p
    fwd_{d, p}   =  R_{t, c} f_fwd( s_tcd^p )             t = (row, column) of the kernel, c in and d out channel
    bwd_{c, q}   =  R_{p, t, d: p stride + t - pad = q} f_bwd( s_tcd^p )

Padding is SAME as in XLA and TensorFlow: ceil(H / stride) positions, and zeros around the image, the odd one at its
end. As in any zero-padded convolution, a tap outside the image receives zeros; it sends forward and takes part
in the mean of the state all the same, but what it sends backward reaches no input. Every input under a tap receives
all of them, and mean and sqrt count just these: fewer at the border, none where a stride beyond the kernel leaves gaps.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, convolutional networks. Kernels and strides of any size, with a
backward message for every input that sends, are additions of this project.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.sparsity.base import Reduction, Shape, Sparsity, Wiring
from vsml.sparsity.edges import scaled
from vsml.types import Array


@dataclass(frozen=True)
class Conv(Sparsity):
    """A square kernel that slides over images [H, W] or [H, W, channels].

    The size of the output is its number of channels. A sub-RNN is a unit (row, column, in channel, out channel) of the
    kernel, the last fastest; it works in as many places as there are positions.

    Attributes:
      kernel: taps of the kernel along either side.
      stride: inputs between neighbouring positions, along either side.
    """

    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("kernel", "stride"):
            if getattr(self, name) < 1:
                raise UserError(f"sparsity.Conv.{name} is {getattr(self, name)}: set it to 1 or more")

    def output_shape(self, input_shape: Shape, size: int) -> Shape:
        height, width, _ = _image(input_shape)
        return (-(-height // self.stride), -(-width // self.stride), size)

    def wire(self, input_shape: Shape, output_shape: Shape, reduction: Reduction) -> Wiring:
        height, width, channels = _image(input_shape)
        if len(output_shape) != 3 or output_shape != self.output_shape(input_shape, output_shape[-1]):
            raise UserError(
                f"sparsity.Conv with stride {self.stride} makes {self.output_shape(input_shape, 1)[:2]} positions of "
                f"{(height, width)}, but its output neurons have the shape {output_shape}"
            )
        *positions, out_channels = output_shape
        places, taps = math.prod(positions), self.kernel**2 * channels
        counts = self._taps_on(height, positions[0])[:, None] * self._taps_on(width, positions[1])[None]

        def patches(message: Array) -> Array:
            """What lies under the kernel, [m, in] to [m, places, taps]."""
            image = jnp.pad(
                message.reshape(-1, height, width, channels),
                ((0, 0), self._padding(height), self._padding(width), (0, 0)),
            )
            rows, columns = (self.stride * (n - 1) + 1 for n in positions)
            under = [
                image[:, i : i + rows : self.stride, j : j + columns : self.stride]
                for i, j in itertools.product(range(self.kernel), repeat=2)
            ]
            return jnp.stack(under, axis=3).reshape(-1, places, taps)

        def spread_forward(message: Array) -> Array:
            under = patches(message)[..., None]
            return jnp.broadcast_to(under, (*under.shape[:-1], out_channels)).reshape(len(message), -1)

        def spread_backward(message: Array) -> Array:
            at_place = message.reshape(-1, places, 1, out_channels)
            return jnp.broadcast_to(at_place, (len(message), places, taps, out_channels)).reshape(len(message), -1)

        def sum_forward(outgoing: Array) -> Array:
            return jnp.sum(outgoing.reshape(-1, places, taps, out_channels), axis=2).reshape(len(outgoing), -1)

        def sum_backward(outgoing: Array) -> Array:
            at_tap = jnp.sum(outgoing.reshape(-1, places, taps, out_channels), axis=3)
            image = jax.ShapeDtypeStruct((len(outgoing), height * width * channels), outgoing.dtype)
            (arrived,) = jax.linear_transpose(patches, image)(at_tap)
            return arrived

        tap, channel = np.indices((taps, out_channels))
        return Wiring(
            inputs=math.prod(input_shape),
            outputs=math.prod(output_shape),
            units=taps * out_channels,
            fan_in=taps,
            input_of=tap.ravel(),
            output_of=channel.ravel(),
            spread_forward=spread_forward,
            spread_backward=spread_backward,
            reduce_forward=scaled(sum_forward, np.full(math.prod(output_shape), taps), reduction),
            reduce_backward=scaled(sum_backward, np.repeat(counts.ravel() * out_channels, channels), reduction),
            places=places,
        )

    def _padding(self, size: int) -> tuple[int, int]:
        """Zeros on either side of `size` inputs."""
        positions = -(-size // self.stride)
        total = max((positions - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2

    def _taps_on(self, size: int, positions: int) -> np.ndarray:
        """How many taps, of all positions, lie on each of `size` inputs along one side: int [size]."""
        first, last = self._padding(size)
        under = self.stride * np.arange(positions)[:, None] + np.arange(self.kernel)
        return np.bincount(under.ravel(), minlength=first + size + last)[first : first + size]


def _image(input_shape: Shape) -> tuple[int, int, int]:
    """Height, width and channels of the layer of input neurons."""
    if len(input_shape) not in (2, 3):
        raise UserError(
            f"sparsity.Conv slides over images, but its input neurons have the shape {input_shape}: give it inputs "
            "[H, W] or [H, W, channels], or another wiring"
        )
    height, width, *channels = input_shape
    return height, width, channels[0] if channels else 1
