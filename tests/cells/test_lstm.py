"""The LSTM sub-RNN, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.sparsity import Dense

SIZE, MESSAGE = 4, 3


def _cell_and_params(layer_norm: bool = False, gate_offset: float = 1.0):
    cell = LSTM(size=SIZE, gate_offset=gate_offset, layer_norm=layer_norm)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: cell.init(key, MESSAGE, MESSAGE), jax.random.key(0))
    return cell, jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), shapes)


def _normal(*shape: int):
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


def test_shapes_and_scale_of_fresh_parameters():
    params = LSTM(size=64, layer_norm=True).init(jax.random.key(0), incoming=32, outgoing=32)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    head = {"w": (32, 64), "b": (32,), "scale": (32,), "offset": (32,)}
    assert shapes == {"gates": {"w": (256, 128), "b": (256,)}, "forward": head, "backward": head}
    # A normal cut at two standard deviations has a standard deviation of 0.8796; fan-in is 64 + 2 * 32 and 64.
    for weights, fan_in in [(params["gates"]["w"], 128), (params["forward"]["w"], 64), (params["backward"]["w"], 64)]:
        assert jnp.max(jnp.abs(weights)) <= 2 * fan_in**-0.5
        np.testing.assert_allclose(jnp.std(weights) * fan_in**0.5, 0.8796, rtol=0.05)
        assert abs(jnp.mean(weights)) * fan_in**0.5 < 4 / weights.size**0.5
    for name in ("gates", "forward", "backward"):
        assert not jnp.any(params[name]["b"])
    for name in ("forward", "backward"):
        assert jnp.all(params[name]["scale"] == 1)
        assert not jnp.any(params[name]["offset"])
    assert not jnp.any(params["forward"]["w"] == params["backward"]["w"])


def test_more_channels_heard_than_sent():
    params = jax.eval_shape(lambda key: LSTM(size=5).init(key, incoming=7, outgoing=3), jax.random.key(0))
    assert params["gates"]["w"].shape == (20, 5 + 2 * 7)
    assert params["forward"]["w"].shape == params["backward"]["w"].shape == (3, 5)


def test_initial_state():
    state = LSTM(size=10).initial_state(jax.random.key(0), units=4_000, fan_in=25, random_share=0.3)
    assert state["h"].shape == state["c"].shape == (10, 4_000)
    assert not jnp.any(state["h"])
    assert jnp.all(state["c"][:3] != 0)
    assert not jnp.any(state["c"][3:])
    assert jnp.max(jnp.abs(state["c"])) <= 2 / 5
    np.testing.assert_allclose(jnp.std(state["c"][:3]) * 5, 0.8796, rtol=0.03)


@pytest.mark.parametrize(("share", "num_random"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_random_share(share, num_random):
    memory = LSTM(size=4).initial_state(jax.random.key(0), units=3, fan_in=1, random_share=share)["c"]
    np.testing.assert_array_equal(jnp.any(memory, axis=1), [True] * num_random + [False] * (4 - num_random))


def test_one_tick_by_hand():
    """One unit, one channel each way: every gate sees h = 0.5, a forward message of 2 and a backward one of -1."""
    cell = LSTM(size=1, gate_offset=3.0)
    weights = jnp.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 1.0], [0.0, 1.0, -2.0], [4.0, 0.0, 1.0]])
    params = {"gates": {"w": weights, "b": jnp.array([0.1, 0.2, 0.3, 0.4])}}
    # i = .5 + 4 - 3 + .1 = 1.6;  g = -.5 + 1 - 1 + .2 = -.3;  f = 2 + 2 + .3 = 4.3;  o = 2 - 1 + .4 = 1.4
    # c' = sig(4.3 + 3) * .8 + sig(1.6 - 3) * tanh(-.3) = .9993249 * .8 + .1978161 * -.2913126 = .7418336
    # h' = sig(1.4) * tanh(.7418336) = .8021839 * .6302517 = .5055778
    state = {"h": jnp.array([[0.5]]), "c": jnp.array([[0.8]])}
    new = cell.update(params, state, jnp.array([[2.0]]), jnp.array([[-1.0]]))
    np.testing.assert_allclose(new["c"], [[0.7418336]], atol=2e-7)
    np.testing.assert_allclose(new["h"], [[0.5055778]], atol=2e-7)


def test_a_fresh_cell_of_the_paper_hardly_forgets_and_hardly_writes():
    cell = LSTM()
    params = cell.init(jax.random.key(0), incoming=8, outgoing=8)
    state = cell.initial_state(jax.random.key(1), units=50, fan_in=50, random_share=0.5)
    new = cell.update(params, state, _normal(8, 50), _normal(8, 50))
    # Pre-activations beyond 3 are rare: sig(5 - 3) > .88 is kept, less than sig(-5 + 3) < .12 is written.
    assert jnp.max(jnp.abs(new["c"] - state["c"])) < 0.12
    assert jnp.any(new["c"] != state["c"])


@pytest.mark.parametrize(("num_forward", "num_backward"), [(1, 3), (3, 1), (2, 1), (3, 3)])
def test_missing_last_channels_are_silent(num_forward, num_backward):
    cell, params = _cell_and_params()
    state = {"h": _normal(SIZE, 5), "c": _normal(SIZE, 5) + 1}
    forward, backward = _normal(MESSAGE, 5), _normal(MESSAGE, 5) - 1
    few = cell.update(params, state, forward[:num_forward], backward[:num_backward])
    silent = cell.update(params, state, forward.at[num_forward:].set(0.0), backward.at[num_backward:].set(0.0))
    np.testing.assert_allclose(few["c"], silent["c"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(few["h"], silent["h"], rtol=1e-6, atol=1e-6)


def test_a_cell_without_units_is_refused():
    with pytest.raises(UserError, match=r"cells\.LSTM\.size is 0"):
        LSTM(size=0)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "sqrt"])
def test_messages_reduced_after_the_heads(layer_norm, reduction):
    """However a cell orders its arithmetic, every sub-RNN has its message, and these are what is reduced."""
    cell, params = _cell_and_params(layer_norm)
    num_inputs, num_outputs = 5, 2
    wiring = Dense().wire((num_inputs,), (num_outputs,), reduction)
    state = {"h": _normal(SIZE, 10), "c": _normal(SIZE, 10)}
    silence = jnp.zeros((MESSAGE, 10))
    outgoing = cell.messages(params, state, silence, silence, wiring.reduce_forward, wiring.reduce_backward)

    h = np.asarray(state["h"], np.float64).reshape(SIZE, num_inputs, num_outputs)
    for message, name, axis, count in [
        (outgoing[0], "forward", 1, num_inputs),
        (outgoing[1], "backward", 2, num_outputs),
    ]:
        head = {key: np.asarray(value, np.float64) for key, value in params[name].items()}
        each = np.einsum("mn,nab->mab", head["w"], h) + head["b"][:, None, None]
        if layer_norm:
            each = (each - each.mean(axis=0)) / np.sqrt(each.var(axis=0) + 1e-5)
            each = each * head["scale"][:, None, None] + head["offset"][:, None, None]
        scale = {"mean": 1 / count, "sum": 1, "sqrt": count**-0.5}[reduction]
        np.testing.assert_allclose(message, each.sum(axis=axis) * scale, rtol=1e-5, atol=1e-5)
