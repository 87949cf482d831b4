"""Statistics over seeds, by hand-derived values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vsml.analysis.statistics import estimate, welch
from vsml.evaluation.statistics import band, paired, smooth


def test_interval_of_three_values():
    # 1, 2, 3: std 1, t_2(.975) = 4.302653, interval 4.302653 / sqrt(3)
    mean, interval = estimate([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert interval == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval():
    assert estimate([0.5]) == (0.5, None)


def test_welch_by_hand():
    # Means 2 and 5, variances 1 and 1, n = 3 each: t = -3 / sqrt(2/3) = -3.674235 with 4 degrees of freedom.
    # Student's distribution with 4 degrees: P(|T| > t) = 1 - u (3 - u^2) / 2 with u = t / sqrt(4 + t^2).
    t = 3 / math.sqrt(2 / 3)
    u = t / math.sqrt(4 + t * t)
    assert welch([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == pytest.approx(1 - u * (3 - u * u) / 2, rel=1e-9)


def test_welch_is_not_students_test():
    # Variances 1/2 and 50, n = 2: (25.25)^2 / (0.25^2 + 25^2) = 1.02 degrees of freedom, nearly Cauchy's distribution.
    p = welch([0.0, 1.0], [10.0, 20.0])
    t = 14.5 / math.sqrt(25.25)
    assert p == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=0.005)


@pytest.mark.parametrize(
    ("values", "reference"),
    [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([1.0, 1.0], [2.0, 2.0]), ([1.0, math.nan], [1.0, 2.0])],
)
def test_welch_is_not_defined(values: list[float], reference: list[float]):
    assert welch(values, reference) is None


def test_band():
    mean, interval = band(np.asarray([[0.0, 1.0], [2.0, 1.0]]))
    np.testing.assert_allclose(mean, [1.0, 1.0])
    # std sqrt(2), t_1(.975) = 12.706205, n = 2: sqrt(2) / sqrt(2) = 1
    np.testing.assert_allclose(interval, [12.706205, 0.0], rtol=1e-6)


def test_smooth_leaves_out_what_does_not_count():
    found = smooth(np.asarray([[1.0, 3.0, np.nan, 5.0], [np.nan, np.nan, 2.0, 4.0]]), 2)
    np.testing.assert_allclose(found, [[2.0, 3.0, 5.0], [np.nan, 2.0, 3.0]])


def test_paired_by_hand():
    # Differences 1, 2, 3: mean 2, std 1, t = 2 sqrt(3) with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    found = paired(np.asarray([2.0, 5.0, 4.0]), np.asarray([1.0, 3.0, 1.0]))
    t = 2 * math.sqrt(3)
    assert found["difference"] == 2.0
    assert found["interval95"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [1.0, math.nan]])
def test_paired_is_not_defined(values: list[float]):
    assert math.isnan(paired(np.asarray(values), 1.0)["p"])


def test_values_that_are_nearly_the_same_warn_nobody():
    assert welch([0.1, 0.1 + 1e-17, 0.1 + 2e-17], [0.1, 0.1 + 1e-16]) != 0.0
