"""Splits of a data set as users write them: `test`, `test[:8000]`, `all[100:-100]`.

A slice counts examples of the named split as Python does, negative ends from the back. An end outside the split is an
error instead of being clipped: who asks for 20,000 of 10,000 examples has a mistake somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vsml.errors import UserError

_SPLIT = re.compile(r"\s*(?P<name>\w+)\s*(\[\s*(?P<start>-?\d+)?\s*:\s*(?P<stop>-?\d+)?\s*\]\s*)?")


@dataclass(frozen=True)
class Split:
    """A contiguous part of a named split; `None` is an open end."""

    name: str
    start: int | None = None
    stop: int | None = None

    @classmethod
    def parse(cls, text: str, names: Mapping[str, int] | tuple[str, ...]) -> Split:
        """Reads `NAME` or `NAME[START:STOP]`, where NAME is one of `names`. Raises `UserError` for anything else."""
        match = _SPLIT.fullmatch(text)
        if match is None or match["name"] not in names:
            available = ", ".join(names)
            raise UserError(
                f"split {text!r} is not available: use one of {available}, alone or with a slice such as "
                f"{next(iter(names))}[100:-100]"
            )
        start, stop = (None if end is None else int(end) for end in (match["start"], match["stop"]))
        return cls(match["name"], start, stop)

    def resolve(self, size: int) -> slice:
        """The examples of this split among the `size` of the named one. Raises `UserError` where there are none."""
        start = self._position(0 if self.start is None else self.start, size)
        stop = self._position(size if self.stop is None else self.stop, size)
        if start >= stop:
            raise UserError(f"split '{self}' is empty: {self.name!r} has {size} examples, move its ends")
        return slice(start, stop)

    def _position(self, end: int, size: int) -> int:
        if not -size <= end <= size:
            raise UserError(f"split '{self}' reaches outside {self.name!r}, which has {size} examples: move its ends")
        return end + size if end < 0 else end

    def __str__(self) -> str:
        if self.start is None and self.stop is None:
            return self.name
        start, stop = ("" if end is None else str(end) for end in (self.start, self.stop))
        return f"{self.name}[{start}:{stop}]"
