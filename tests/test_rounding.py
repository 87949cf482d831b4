"""Equality up to the order of sums forgives rounding, and nothing that is larger."""

from __future__ import annotations

import numpy as np
import pytest
from rounding import assert_equal_up_to_order

TERMS = np.random.default_rng(0).standard_normal((1000, 50)).astype(np.float32)


def test_another_order_is_equal_and_a_missing_term_is_not():
    inner = TERMS.cumsum(axis=0)[-1]  # one after another; numpy's own sum adds pairs
    assert_equal_up_to_order(TERMS.sum(axis=0), inner, roundings=len(TERMS))
    with pytest.raises(AssertionError):
        assert_equal_up_to_order(TERMS[:-1].sum(axis=0), inner, roundings=len(TERMS))


def test_an_error_is_measured_by_the_largest_entry():
    expected = np.array([100.0, 0.03], np.float32)
    error = np.array([0, 100 * np.finfo(np.float32).eps], np.float32)
    assert_equal_up_to_order(expected + error, expected, roundings=2)
    with pytest.raises(AssertionError):
        assert_equal_up_to_order(expected + 4 * error, expected, roundings=2)


@pytest.mark.parametrize("other", [np.ones(3, np.float64), np.ones(2, np.float32), np.full(3, np.nan, np.float32)])
def test_another_form_is_not_equal(other: np.ndarray):
    with pytest.raises(AssertionError):
        assert_equal_up_to_order({"a": other}, {"a": np.ones(3, np.float32)}, roundings=1000)
