"""Ctrl-C and SIGTERM, turned into a flag that the training loop looks at between two meta-steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vsml.errors import UserError


class Interrupted(UserError):
    """A run that was asked to stop and has saved its state. Exits as a process killed by that signal would."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interruption:
    """Whether, and by which signal, the run was asked to stop."""

    signal_number: int | None = None

    @property
    def name(self) -> str:
        """`Ctrl-C` or the name of the signal."""
        number = signal.Signals(self.signal_number or signal.SIGTERM)
        return "Ctrl-C" if number == signal.SIGINT else number.name


@contextmanager
def catch_interruption() -> Iterator[Interruption]:
    """Within the block the first SIGINT or SIGTERM sets a flag; a second one acts at once, as it would outside."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interruption.signal_number = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()
