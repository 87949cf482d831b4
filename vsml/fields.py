"""Marks of a part's fields: what a run that is resumed may have changed. Shipped parts and a user's own use them alike:

    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

A mark holds for all that is below the field, including the fields of parts in it, unless these have marks of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_KEY = "vsml.fields.mark"


def _metadata(mark: str) -> Mapping[str, Any]:
    return MappingProxyType({_KEY: mark})


MAY_CHANGE = _metadata("may change")
"""Says how an experiment is computed, watched or tested, not what it is: the numbers stay the same up to rounding."""
FOLLOWS_STEPS = _metadata("follows steps")
"""Where a value was the number of meta-steps it may become the new number, as the length of a schedule does."""

EVALUATES = _metadata("evaluates")
"""What is measured of V_M: it may change, and a complete run is then evaluated again."""


def mark_of(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Which of the marks is in the metadata of a dataclass field, None for none."""
    return next((mark for mark in (MAY_CHANGE, FOLLOWS_STEPS, EVALUATES) if metadata.get(_KEY) == mark[_KEY]), None)
