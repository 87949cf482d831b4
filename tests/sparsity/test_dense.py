"""Dense wiring: 3 neurons before, 2 behind, sub-RNN (a, b) is unit 2 a + b."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from vsml.hardware import products
from vsml.sparsity import Dense

SENT = jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 0.0, 10.0, 0.0, 0.0, -1.0]])  # [n, units]


@pytest.fixture(autouse=True, params=["product", "sum"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms of a reduction: that of small layers and that of large ones."""
    if request.param == "sum":
        monkeypatch.setattr(products, "SMALL", 0)


def test_sizes():
    wiring = Dense().wire((3,), (2,), "sum")
    assert (wiring.inputs, wiring.outputs, wiring.units, wiring.fan_in) == (3, 2, 6, 3)


def test_every_sub_rnn_hears_its_two_neurons():
    wiring = Dense().wire((3,), (2,), "sum")
    forward = wiring.spread_forward(jnp.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]))
    backward = wiring.spread_backward(jnp.array([[7.0, 8.0]]))
    np.testing.assert_array_equal(forward, [[1, 1, 2, 2, 3, 3], [-1, -1, -2, -2, -3, -3]])
    np.testing.assert_array_equal(backward, [[7, 8, 7, 8, 7, 8]])


@pytest.mark.parametrize(
    ("reduction", "forward_scale", "backward_scale"),
    [("sum", 1.0, 1.0), ("mean", 1 / 3, 1 / 2), ("sqrt", 3**-0.5, 2**-0.5)],
)
def test_every_neuron_hears_its_sub_rnns(reduction, forward_scale, backward_scale):
    wiring = Dense().wire((3,), (2,), reduction)
    forward_sums = np.array([[9.0, 12.0], [10.0, -1.0]])  # over a: 1 + 3 + 5, 2 + 4 + 6; 10, -1
    backward_sums = np.array([[3.0, 7.0, 11.0], [0.0, 10.0, -1.0]])  # over b: 1 + 2, 3 + 4, 5 + 6; 0, 10, -1
    np.testing.assert_allclose(wiring.reduce_forward(SENT), forward_sums * forward_scale, rtol=1e-6)
    np.testing.assert_allclose(wiring.reduce_backward(SENT), backward_sums * backward_scale, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean", "sqrt"])
def test_total_is_what_becomes_of_a_constant(reduction):
    wiring = Dense().wire((3,), (2,), reduction)
    for reduce, neurons in [(wiring.reduce_forward, 2), (wiring.reduce_backward, 3)]:
        np.testing.assert_allclose(reduce(jnp.ones((1, 6))), np.full((1, neurons), reduce.total), rtol=1e-6)
