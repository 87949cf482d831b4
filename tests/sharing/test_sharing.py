"""How many parameter sets there are, and which sub-RNN uses which in which pass."""

from __future__ import annotations

import numpy as np
import pytest

from vsml.errors import UserError
from vsml.sharing import Grouped, Layerwise, Shared, Typed, Unshared
from vsml.sparsity import Dense

WIRINGS = [Dense().wire(before, behind, "sum") for before, behind in [((4,), (3,)), ((3,), (2,)), ((2,), (2,))]]


@pytest.mark.parametrize(
    ("sharing", "forward", "backward", "num_sets"),
    [
        (Shared(), [0, 0, 0], [0, 0, 0], 1),
        (Shared(separate_backward=True), [0, 0, 0], [1, 1, 1], 2),
        (Layerwise(), [0, 1, 2], [0, 1, 2], 3),
        (Layerwise(separate_backward=True), [0, 1, 2], [3, 4, 5], 6),
        (Typed(separate_backward=True), [0, 0, 0], [1, 1, 1], 2),
    ],
)
def test_sets_of_whole_layers(sharing, forward, backward, num_sets):
    assert [sharing.set_of(layer, WIRINGS, backward=False) for layer in range(3)] == forward
    assert [sharing.set_of(layer, WIRINGS, backward=True) for layer in range(3)] == backward
    assert sharing.num_sets(WIRINGS) == num_sets == 1 + max(forward + backward)


@pytest.mark.parametrize(
    ("by", "expected"),  # 4 x 3 sub-RNNs, unit 3 a + b
    [("input", [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]), ("output", [0, 0, 1] * 4)],
)
def test_neighbouring_neurons_share_a_group(by, expected):
    sharing = Grouped(groups=2, by=by, separate_backward=True)
    np.testing.assert_array_equal(sharing.set_of(0, WIRINGS, backward=False), expected)
    np.testing.assert_array_equal(sharing.set_of(0, WIRINGS, backward=True), np.add(expected, 2))
    assert sharing.num_sets(WIRINGS) == 4


def test_random_groups_are_equally_large_and_fixed_by_the_seed():
    first = Grouped(groups=5, seed=3).set_of(0, WIRINGS, backward=False)
    assert sorted(np.bincount(first)) == [2, 2, 2, 3, 3]
    np.testing.assert_array_equal(first, Grouped(groups=5, seed=3).set_of(0, WIRINGS, backward=False))
    assert np.any(first != Grouped(groups=5, seed=4).set_of(0, WIRINGS, backward=False))


def test_every_sub_rnn_has_a_set_of_its_own():
    sharing = Unshared(separate_backward=True)
    seen = [sharing.set_of(layer, WIRINGS, backward) for backward in (False, True) for layer in range(3)]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(2 * (12 + 6 + 4)))
    assert sharing.num_sets(WIRINGS) == 2 * (12 + 6 + 4)


@pytest.mark.parametrize(
    ("part", "fields"), [(Grouped, {"groups": 0}), (Grouped, {"seed": -1}), (Typed, {"embedding_size": 0})]
)
def test_bad_sizes_are_refused(part, fields):
    (name,) = fields
    with pytest.raises(UserError, match=f"sharing.{part.__name__}.{name} is"):
        part(**fields)
