"""Convolution: spreading and reducing alone against loops over positions and taps, and what small cases come to."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.learners.vsml import VSML
from vsml.sparsity import Conv, Dense
from vsml.tasks.base import TaskSpec

CHANNELS, SENT, HEIGHT, WIDTH = 2, 3, 5, 4
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.


def padding(size: int, kernel: int, stride: int) -> int:
    """Zeros before `size` inputs."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2


def sites(kernel: int, stride: int):
    """(place, i, j, input or None) by an explicit loop; None where the tap lies outside."""
    top, left = padding(HEIGHT, kernel, stride), padding(WIDTH, kernel, stride)
    positions = itertools.product(range(math.ceil(HEIGHT / stride)), range(math.ceil(WIDTH / stride)))
    for place, (row, column) in enumerate(positions):
        for i, j in itertools.product(range(kernel), repeat=2):
            y, x = row * stride + i - top, column * stride + j - left
            yield place, i, j, (y, x) if 0 <= y < HEIGHT and 0 <= x < WIDTH else None


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_equals_loops_over_positions_and_taps(kernel, stride):
    rng = np.random.default_rng(kernel)
    before = (HEIGHT, WIDTH, CHANNELS)
    conv = Conv(kernel, stride)
    behind = conv.output_shape(before, SENT)
    places = behind[0] * behind[1]
    wiring = conv.wire(before, behind, "mean")
    assert (wiring.units, wiring.places, wiring.fan_in) == (kernel**2 * 6, places, kernel**2 * 2)
    image, answer = rng.standard_normal((2, *before)), rng.standard_normal((2, places, SENT))
    sent = rng.standard_normal((2, places, kernel, kernel, CHANNELS, SENT))

    forward, backward = np.zeros_like(sent), np.zeros_like(sent)
    to_behind, to_before = np.zeros((2, places, SENT)), np.zeros((2, *before))
    heard_by, count = np.zeros(places), np.zeros((HEIGHT, WIDTH))
    for place, i, j, at in sites(kernel, stride):
        backward[:, place, i, j] = answer[:, place, None]
        to_behind[:, place] += sent[:, place, i, j].sum(axis=1)
        heard_by[place] += CHANNELS
        if at is not None:
            forward[:, place, i, j] = image[:, at[0], at[1], :, None]
            to_before[:, at[0], at[1]] += sent[:, place, i, j].sum(axis=2)
            count[at] += SENT

    @jax.jit
    def run(image, answer, sent):
        return (
            wiring.spread_forward(image),
            wiring.spread_backward(answer),
            wiring.reduce_forward(sent),
            wiring.reduce_backward(sent),
        )

    flat = [jnp.asarray(array.reshape(2, -1), jnp.float32) for array in (image, answer, sent)]
    outcome = run(*flat)
    expected = (forward, backward, to_behind / heard_by[None, :, None], to_before / np.maximum(count, 1)[..., None])
    for array, loops in zip(outcome, expected, strict=True):
        np.testing.assert_allclose(array, loops.reshape(2, -1), rtol=1e-5, atol=1e-6)
    assert np.any(count == 0) == (stride > kernel)  # nothing receives from gaps; from everything else something does
    np.testing.assert_array_equal(wiring.input_of, np.repeat(np.arange(kernel**2 * CHANNELS), SENT))
    np.testing.assert_array_equal(wiring.output_of, np.tile(np.arange(SENT), kernel**2 * CHANNELS))


def test_every_input_is_scaled_by_the_number_that_sends_to_it():
    # Three inputs in a row under a kernel of 3: the outer ones lie under 2 taps, the middle one under 3; one row of
    # three that is inside, times 2 channels behind: 4, 6, 4.
    wire = lambda reduction: Conv(3).wire((1, 3), (1, 3, 2), reduction)  # noqa: E731
    ones = jnp.ones((1, 3 * 9 * 2))
    np.testing.assert_allclose(wire("sum").reduce_backward(ones), [[4, 6, 4]])
    np.testing.assert_allclose(wire("mean").reduce_backward(ones), [[1, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(wire("sqrt").reduce_backward(ones), [[2, 6**0.5, 2]], rtol=1e-6)
    np.testing.assert_allclose(wire("mean").reduce_forward(ones), np.ones((1, 6)), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean", "sqrt"])
@pytest.mark.parametrize("stride", [1, 3])
def test_total_is_what_becomes_of_a_constant(reduction, stride):
    conv = Conv(2, stride)
    wiring = conv.wire((5, 4), conv.output_shape((5, 4), 3), reduction)
    ones = jnp.ones((1, wiring.units * wiring.places))
    for reduce in (wiring.reduce_forward, wiring.reduce_backward):
        heard = np.asarray(reduce(ones))
        np.testing.assert_allclose(heard, np.broadcast_to(reduce.total, heard.shape), rtol=1e-6)


def test_sizes_of_a_stack():
    learner = VSML(LSTM(size=4), hidden=(4, 6), sparsity=(Conv(3), Conv(5, stride=2), Dense()))
    spec = TaskSpec((8, 8), 10, length=1)
    # 9 taps x 1 x 4 channels; 25 taps x 4 x 6 channels; 4 x 4 positions of 6 channels to 10 classes.
    assert [wiring.units for wiring in learner.wirings(spec)] == [36, 600, 960]
    assert [wiring.places for wiring in learner.wirings(spec)] == [64, 16, 1]
    assert learner.describe(spec) == {"sub-RNNs": 1_596}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Conv(kernel=0), "sparsity.Conv.kernel is 0"),
        (lambda: Conv(stride=0), "sparsity.Conv.stride is 0"),
        (lambda: Conv().output_shape((16,), 4), r"slides over images, but its input neurons have the shape \(16,\)"),
        (lambda: Conv(stride=2).wire((4, 4), (4, 4, 3), "sum"), r"makes \(2, 2\) positions of \(4, 4\)"),
    ],
)
def test_mistakes_are_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()
