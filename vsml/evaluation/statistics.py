"""Mean, spread and interval of one value, or of one curve, per lifetime or per run."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-12
"""A relative spread of no more than this is that of the same number, computed in different ways."""


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and half width of the 95 % interval of the mean of one value per lifetime.

    The deviation is that of a sample (n - 1); the interval is Student's, t_{n-1}(.975) std / sqrt(n). Both are NaN for
    a single value.
    """
    if len(values) == 1:
        return {"mean": float(values[0]), "std": float("nan"), "interval95": float("nan")}
    from scipy.special import stdtrit  # a fifth of what `vsml eval` needs to start, not needed until it ends

    with np.errstate(invalid="ignore", over="ignore"):  # a diverged learner's loss is not finite, and is shown so
        mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = float(stdtrit(len(values) - 1, 0.975))
    return {"mean": mean, "std": std, "interval95": quantile * std / len(values) ** 0.5}


def paired(values: np.ndarray, others: np.ndarray | float = 0.0) -> dict[str, float]:
    """What lies between two values of each lifetime: mean difference, half width of its 95 % interval, and p.

        d = values - others      t = mean(d) sqrt(n) / std(d), with n - 1 degrees of freedom

    p is that of Student's paired test, two-sided; NaN where no difference varies, or there is one only.
    """
    found = statistics(np.asarray(values - others, np.float64))
    mean, deviation, p = found["mean"], found["std"], float("nan")
    if deviation > ROUNDING * abs(mean):
        from scipy.special import stdtr  # as above

        p = float(2 * stdtr(len(values) - 1, -abs(mean) * len(values) ** 0.5 / deviation))
    return {"difference": mean, "interval95": found["interval95"], "p": p}


def band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [T] and half width of its 95 % interval [T] of curves [n, T], NaN where a curve is; 0 for one curve."""
    if len(curves) < 2:
        return curves[0], np.zeros_like(curves[0])
    points = [statistics(column) for column in curves.T]
    return np.asarray([p["mean"] for p in points]), np.asarray([p["interval95"] for p in points])


def smooth(curves: np.ndarray, width: int) -> np.ndarray:
    """Running means of `width` steps of curves [n, T], without what is not finite: [n, T - width + 1]."""
    window = np.ones(width)
    finite = np.isfinite(curves)
    total = [np.convolve(curve, window, mode="valid") for curve in np.where(finite, curves, 0.0)]
    count = [np.convolve(seen, window, mode="valid") for seen in finite.astype(np.float64)]
    with np.errstate(invalid="ignore"):
        return np.asarray(total) / np.asarray(count)
