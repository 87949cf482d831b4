"""The GRU sub-RNN: its plain twin, one tick by hand, and how it starts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_cell import HEARD, check_two_ticks, linear_heads, sigmoid

from vsml.cells import GRU
from vsml.errors import UserError


@pytest.mark.parametrize("incoming", HEARD)
@pytest.mark.parametrize(("gate_offset", "layer_norm"), [(0.0, False), (1.5, True)])
def test_one_sub_rnn_after_another(gate_offset, layer_norm, incoming):
    def tick(params, s, forward, backward):
        gates = params["gates"]["w"] @ np.concatenate([s, forward, backward]) + params["gates"]["b"]
        u, r = sigmoid(gates[:4] + gate_offset), sigmoid(gates[4:])
        own = params["candidate"]
        return u * s + (1 - u) * np.tanh(own["w"] @ np.concatenate([r * s, forward, backward]) + own["b"])

    check_two_ticks(GRU(4, layer_norm, gate_offset), incoming, tick, linear_heads(layer_norm))


def test_one_tick_by_hand():
    """One unit, one channel each way: s = 0.5, a forward message of 2 and a backward one of -1."""
    params = {
        "gates": {"w": jnp.array([[1.0, 0.5, 1.0], [4.0, 0.0, 1.0]]), "b": jnp.array([0.1, 0.2])},
        "candidate": {"w": jnp.array([[2.0, 1.0, 3.0]]), "b": jnp.array([0.3])},
    }
    # u = sig(.5 + 1 - 1 + .1 + 2) = sig(2.6) = .9308616;  r = sig(2 - 1 + .2) = sig(1.2) = .7685248
    # n = tanh(2 * .7685248 * .5 + 2 - 3 + .3) = tanh(.0685248) = .0684178
    # s' = .9308616 * .5 + .0691384 * .0684178 = .4701611
    new = GRU(size=1, gate_offset=2.0).update(
        params, {"s": jnp.array([[0.5]])}, jnp.array([[2.0]]), jnp.array([[-1.0]])
    )
    np.testing.assert_allclose(new["s"], [[0.4701611]], atol=2e-7)


def test_a_large_offset_keeps_states_nearly_constant():
    cell = GRU(gate_offset=5.0)
    params = cell.init(jax.random.key(0), incoming=8, outgoing=8)
    state = cell.initial_state(jax.random.key(1), units=50, fan_in=50, random_share=0.5)
    message = jax.random.normal(jax.random.key(2), (8, 50))
    new = cell.update(params, state, message, -message)
    # Pre-activations beyond 3 are rare, so more than sig(5 - 3) > .88 is kept; candidates and states are within 1.
    assert 0 < jnp.max(jnp.abs(new["s"] - state["s"])) < 0.12 * 2


def test_sizes():
    params = jax.eval_shape(lambda key: GRU(size=5).init(key, incoming=7, outgoing=3), jax.random.key(0))
    assert params["gates"]["w"].shape == (10, 5 + 2 * 7)
    assert params["candidate"]["w"].shape == (5, 5 + 2 * 7)
    assert params["forward"]["w"].shape == (3, 5)


def test_a_cell_without_state_is_refused():
    with pytest.raises(UserError, match=r"cells\.GRU\.size is 0"):
        GRU(size=0)
