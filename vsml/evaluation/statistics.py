"""Mean, spread and interval of one value per lifetime, or per run."""

from __future__ import annotations

import numpy as np


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
