"""The vanilla recurrent sub-RNN and its plain twin."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from plain_cell import HEARD, check_two_ticks, linear_heads

from vsml.cells import Vanilla
from vsml.errors import UserError

PLAIN = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}


@pytest.mark.parametrize("incoming", HEARD)
@pytest.mark.parametrize(("activation", "layer_norm"), [("tanh", False), ("relu", True), ("identity", False)])
def test_one_sub_rnn_after_another(activation, layer_norm, incoming):
    def tick(params, s, forward, backward):
        own = params["recurrent"]
        return PLAIN[activation](own["w"] @ np.concatenate([s, forward, backward]) + own["b"])

    cell = Vanilla(size=4, activation=activation, layer_norm=layer_norm)
    check_two_ticks(cell, incoming, tick, linear_heads(layer_norm))


def test_sizes():
    params = jax.eval_shape(lambda key: Vanilla(size=5).init(key, incoming=7, outgoing=3), jax.random.key(0))
    head = {"w": (3, 5), "b": (3,)}
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == {"recurrent": {"w": (5, 5 + 2 * 7), "b": (5,)}, "forward": head, "backward": head}


def test_initial_state():
    s = Vanilla(size=10).initial_state(jax.random.key(0), units=4_000, fan_in=25, random_share=0.3)["s"]
    assert s.shape == (10, 4_000)
    np.testing.assert_array_equal(np.any(s != 0, axis=1), [True] * 3 + [False] * 7)
    assert np.abs(s).max() <= 2 / 5  # cut at two standard deviations
    np.testing.assert_allclose(np.std(s[:3]) * 5, 0.8796, rtol=0.03)  # what the cut leaves of the std


def test_a_cell_without_state_is_refused():
    with pytest.raises(UserError, match=r"cells\.Vanilla\.size is 0"):
        Vanilla(size=0)
