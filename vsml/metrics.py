"""Metrics by name: scalars are 0-d, curves (over the steps of a lifetime) are 1-d. Only `loss` is always there.

Which others there are is up to the objective and the task. Code that shows metrics iterates over what is there. In a
mixture `metric/DISTRIBUTION` is the metric on one of its distributions.
"""

from __future__ import annotations

from collections.abc import Iterable

LOSS = "loss"
OF_THE_UPDATE = ("gradient_norm", "update_norm", "parameter_norm", "skipped", "skipped_in_row", "smoothed_loss")
"""Scalars that every meta-step adds to those of the objective."""

RESERVED = ("step", "seconds", "lifetimes_per_second", *OF_THE_UPDATE)
"""Names that the trainer writes itself."""


def title(name: str) -> str:
    """What people are shown for the name of a metric or a score: `cumulative accuracy`."""
    return name.replace("_", " ")


def of_the_objective(names: Iterable[str]) -> list[str]:
    """`loss`, then what else the objective measures over the whole population, in the order given.

    Args:
      names: of scalars, as in an entry of `metrics.jsonl`.
    """
    others = [name for name in names if name not in (LOSS, "step", *OF_THE_UPDATE) and "/" not in name]
    return [LOSS, *others]
