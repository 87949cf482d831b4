"""How many parameter sets there are, and which layer uses which in which pass."""

from __future__ import annotations

import pytest

from vsml.sharing import Layerwise, Shared


@pytest.mark.parametrize(
    ("sharing", "forward", "backward", "num_sets"),
    [
        (Shared(), [0, 0, 0], [0, 0, 0], 1),
        (Shared(separate_backward=True), [0, 0, 0], [1, 1, 1], 2),
        (Layerwise(), [0, 1, 2], [0, 1, 2], 3),
        (Layerwise(separate_backward=True), [0, 1, 2], [3, 4, 5], 6),
    ],
)
def test_sets_of_three_layers(sharing, forward, backward, num_sets):
    assert [sharing.set_of(layer, 3, backward=False) for layer in range(3)] == forward
    assert [sharing.set_of(layer, 3, backward=True) for layer in range(3)] == backward
    assert sharing.num_sets(3) == num_sets == 1 + max(forward + backward)
