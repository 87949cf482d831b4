"""Equality of what is the same sum in another order."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def assert_equal_up_to_order(actual: Any, expected: Any, roundings: int) -> None:
    """Two trees are equal but for the order of their sums: in each array max |a - b| <= roundings * eps * max |b|.

    Wider vectors, fused multiply-adds and blocks round other partial sums. What that changes is a share of the terms,
    not of what is left where they cancel, so a small entry may be off by as much as the largest one.

    Args:
      roundings: how many operations one after another round a number on its way here; one is off by eps / 2, and the
        two sides are off in opposite directions at worst. Counted where it is used.
    """
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        one, two = np.asarray(leaf), np.asarray(other)
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
        allowed = roundings * np.finfo(two.dtype).eps * np.abs(two).max(initial=0)
        np.testing.assert_allclose(one, two, rtol=0, atol=allowed, err_msg=jax.tree_util.keystr(path))
