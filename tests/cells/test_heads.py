"""Linear heads under reductions in which some neurons hear more sub-RNNs than others."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from vsml.cells.heads import reduced_message
from vsml.sparsity.base import Reduce

SENDS_TO = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # [units, neurons]: 2, 1 and 0 senders


@pytest.mark.parametrize("layer_norm", [False, True])
def test_biases_arrive_as_often_as_they_are_sent(layer_norm):
    head = {"w": jnp.array([[1.0, -2.0], [0.5, 0.0]]), "b": jnp.array([10.0, 20.0])}
    if layer_norm:  # of two channels: the larger becomes 1, the smaller -1
        head |= {"scale": jnp.array([2.0, 2.0]), "offset": jnp.array([0.5, 0.5])}
    output = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])  # [size, units]
    # Sent: w s + b = [11, 20.5], [10, 21], [15, 21.5]
    expected = [[21.0, 15.0, 0.0], [41.5, 21.5, 0.0]] if not layer_norm else [[-3.0, -1.5, 0.0], [5.0, 2.5, 0.0]]
    total = jnp.asarray(SENDS_TO.sum(axis=0), jnp.float32)
    arrived = reduced_message(
        head, output, Reduce(lambda outgoing: outgoing @ jnp.asarray(SENDS_TO, jnp.float32), total)
    )
    np.testing.assert_allclose(arrived, expected, rtol=1e-5)
