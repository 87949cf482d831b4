"""Splits of a data set as users write them: `test`, `test[:8000]`, `all[100:-100]`.

A slice counts examples of the named split as Python does, negative ends from the back. An end outside the split is an
error instead of being clipped: who asks for 20,000 of 10,000 examples has a mistake somewhere.

What is held out when meta-training uses a split:

    train, train[a:b] -> test      background -> evaluation      test -> train      NAME[:n] -> NAME[n:] and back
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vsml.errors import UserError

WHOLE = "all"
COUNTERPARTS = {"train": "test", "test": "train", "background": "evaluation", "evaluation": "background"}
"""Splits of a data set that have no example in common."""
_FOR_META_TRAINING = ("train", "background")
_SPLIT = re.compile(r"\s*(?P<name>\w+)\s*(\[\s*(?P<start>-?\d+)?\s*:\s*(?P<stop>-?\d+)?\s*\]\s*)?")


@dataclass(frozen=True)
class Split:
    """A contiguous part of a named split; `None` is an open end."""

    name: str
    start: int | None = None
    stop: int | None = None

    @classmethod
    def parse(cls, text: str, names: Sequence[str] = ()) -> Split:
        """Reads `NAME` or `NAME[START:STOP]`, where NAME is one of `names`, or any if there are none.

        Raises `UserError` for anything else.
        """
        match = _SPLIT.fullmatch(text)
        if match is None or (names and match["name"] not in names):
            known = names or (WHOLE, *COUNTERPARTS)
            raise UserError(
                f"split {text!r} is not available: use one of {', '.join(known)}, alone or with a slice such as "
                f"{known[0]}[100:-100]"
            )
        start, stop = (None if end is None else int(end) for end in (match["start"], match["stop"]))
        return cls(match["name"], start, stop)

    def held_out(self) -> Split:
        """What is kept apart when meta-training uses this one. Raises `UserError` where nothing, or no one part, is."""
        whole = self.start is None and self.stop is None
        if self.name in COUNTERPARTS and (whole or self.name in _FOR_META_TRAINING):
            return Split(COUNTERPARTS[self.name])
        if self.start is None and self.stop is not None:
            return Split(self.name, self.stop, None)
        if self.stop is None and self.start is not None:
            return Split(self.name, None, self.start)
        raise UserError(
            f"split '{self}' leaves no one part to hold out: meta-train on train, or on a slice that is open at one "
            f"end, such as {self.name}[:1000]"
        )

    def overlaps(self, other: Split) -> bool:
        """Whether an example may be in both, as far as that shows without knowing how many there are."""
        if self.name != other.name:
            return WHOLE in (self.name, other.name)
        return not (_ends_before(self, other) or _ends_before(other, self))

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


def _ends_before(one: Split, other: Split) -> bool:
    """Whether a part ends where the other starts, or before; ends counted from different sides cannot be compared."""
    stop, start = one.stop, other.start
    return stop is not None and start is not None and (stop < 0) == (start < 0) and stop <= start
