"""What several runs say together: a mean with its interval, and whether two sets of runs differ.

    interval   Student's, t_{n-1}(.975) std / sqrt(n), over runs that differ in their seed
    p          Welch's t test, two-sided, not corrected for the number of comparisons
               t = (m1 - m2) / sqrt(v1/n1 + v2/n2), degrees of freedom by Welch and Satterthwaite

Source: B. L. Welch 1947, "The generalization of Student's problem when several different population variances are
involved"; the test is scipy's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_ind

from vsml.evaluation.statistics import statistics


class Estimate(NamedTuple):
    """A mean and the half width of its 95 % interval, None where it has none."""

    mean: float
    interval95: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of one value or more, with its interval where there are two or more."""
    if len(values) < 2:
        return Estimate(float(values[0]), None)
    found = statistics(np.asarray(values, np.float64))
    return Estimate(found["mean"], found["interval95"])


def welch(values: Sequence[float], reference: Sequence[float]) -> float | None:
    """The p value of equal means; None where it is not defined: fewer than two values, or none that varies."""
    if min(len(values), len(reference)) < 2 or np.var(values) + np.var(reference) == 0:
        return None
    if not np.isfinite([*values, *reference]).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that are nearly the same
        found = ttest_ind(values, reference, equal_var=False)
    return float(found.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
