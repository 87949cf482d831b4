"""Several task distributions at once, of any input sizes, numbers of classes and lengths: every meta-step sees each.

    g = sum_k P_k / P g_k        P_k of the P members of the population live on tasks of distribution k

The share of each distribution is the same at every meta-step, so each of its shapes is compiled once, and no member
pays for the largest. Members are assigned to distributions by their index, whatever the number of devices.

Source: joint meta-training on several data sets, Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vsml.errors import UserError
from vsml.tasks.base import Share, TaskDistribution


@dataclass(frozen=True)
class Mixture:
    """A population that lives on several distributions.

    Attributes:
      tasks: the distributions.
      names: of the distributions, by which their losses and other metrics are reported.
      shares: relative sizes of the parts of the population; () for equal ones.
    """

    tasks: tuple[TaskDistribution, ...]
    names: tuple[str, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UserError("tasks.Mixture.tasks is empty: name at least one distribution")
        if len(self.names) != len(self.tasks) or len(set(self.names)) != len(self.names):
            raise UserError(
                f"tasks.Mixture.names is {list(self.names)} for {len(self.tasks)} distributions: give each its own name"
            )
        if bad := [name for name in self.names if not re.fullmatch(r"[\w-]+", name)]:
            raise UserError(f"tasks.Mixture.names has '{bad[0]}': use letters, digits, '_', '-'")
        if self.shares and (len(self.shares) != len(self.tasks) or min(self.shares) <= 0):
            raise UserError(
                f"tasks.Mixture.shares is {list(self.shares)} for {len(self.tasks)} distributions: "
                "give one number above 0 for each, or [] for equal shares"
            )

    def share_out(self, population: int) -> tuple[Share, ...]:
        """Who lives on what: members as near to `shares` as whole numbers come, and one at least.

        Raises `UserError` where the population is smaller than the number of distributions.
        """
        if population < len(self.tasks):
            raise UserError(
                f"a population of {population} cannot live on {len(self.tasks)} task distributions: "
                f"set POPULATION={len(self.tasks)} or more"
            )
        shares = self.shares or (1.0,) * len(self.tasks)
        return tuple(map(Share, self.names, self.tasks, _apportion(shares, population)))


def _apportion(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers, 1 or more, that add up to `total` and follow the shares: each one goes where it is missed most."""
    counts = [1] * len(shares)
    for _ in range(total - len(shares)):
        missed = [total * share / sum(shares) - count for share, count in zip(shares, counts, strict=True)]
        counts[missed.index(max(missed))] += 1
    return counts
