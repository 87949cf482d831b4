"""The feed-forward sub-RNN: its plain twin under every rule of change, and how it starts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_cell import HEARD, check_two_ticks, linear_heads, sigmoid

from vsml.cells import MLP
from vsml.errors import UserError

SIZE, RATE = 4, 0.3


def _plain_tick(rule, activation):
    def tick(params, s, forward, backward):
        *hidden, last = params["layers"]
        a = np.concatenate([s, forward, backward])
        for layer in hidden:
            a = activation(layer["w"] @ a + layer["b"])
        out = last["w"] @ a + last["b"]
        if rule == "gated":
            return s + sigmoid(out[SIZE:] + np.log(RATE / (1 - RATE))) * (out[:SIZE] - s)
        return s + RATE * out if rule == "residual" else out

    return tick


@pytest.mark.parametrize(
    ("rule", "hidden", "layer_norm", "incoming"),
    [
        ("residual", (5,), False, HEARD[0]),
        ("gated", (5, 3), True, HEARD[1]),
        ("plain", (), False, HEARD[2]),
    ],
)
def test_one_sub_rnn_after_another(rule, hidden, layer_norm, incoming):
    cell = MLP(SIZE, layer_norm, hidden, "relu", rule, RATE)
    check_two_ticks(cell, incoming, _plain_tick(rule, lambda z: np.maximum(z, 0)), linear_heads(layer_norm))


def test_gates_start_at_the_rate():
    """With all weights 0 the proposal is 0 and every gate is the rate: of a state of 2, 2 - .25 * 2 is left."""
    cell = MLP(size=1, hidden=(3,), rate=0.25)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), incoming=1, outgoing=1))
    new = cell.update(params, {"s": jnp.full((1, 2), 2.0)}, jnp.ones((1, 2)), jnp.ones((1, 2)))
    np.testing.assert_allclose(new["s"], [[1.5, 1.5]], rtol=1e-6)


@pytest.mark.parametrize(("rule", "outputs"), [("residual", 5), ("gated", 10), ("plain", 5)])
def test_sizes(rule, outputs):
    cell = MLP(size=5, hidden=(6, 4), update_rule=rule)
    params = jax.eval_shape(lambda key: cell.init(key, incoming=7, outgoing=3), jax.random.key(0))
    assert [layer["w"].shape for layer in params["layers"]] == [(6, 5 + 2 * 7), (4, 6), (outputs, 4)]
    assert params["backward"]["w"].shape == (3, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"cells\.MLP\.size is 0"),
        ({"hidden": (8, 0)}, r"cells\.MLP\.hidden is \[8, 0\]"),
        ({"rate": 1.0}, r"cells\.MLP\.rate is 1\.0"),
    ],
)
def test_sizes_and_rates_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MLP(**options)
