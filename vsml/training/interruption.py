"""Ctrl-C and SIGTERM, turned into a flag that the training loop looks at between two meta-steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax

from vsml.errors import UserError
from vsml.training.parallel import Parallel, fetch_replicated
from vsml.types import Array


class Interrupted(UserError):
    """A run that was asked to stop and has saved its state. Exits as a process killed by that signal would."""

    alike = True  # several processes stop together

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interruption:
    """Whether, and by which signal, this process was asked to stop."""

    signal_number: int | None = None


def name_of(signal_number: int) -> str:
    """`Ctrl-C` or the name of a signal."""
    number = signal.Signals(signal_number)
    return "Ctrl-C" if number == signal.SIGINT else number.name


class CommonSignal:
    """The signal that any process of a run has received, known to all of them at the same meta-step.

    With one process it is known at once. With several it is known one meta-step later, so that none waits for the step
    that has just been started.
    """

    def __init__(self, interruption: Interruption, parallel: Parallel):
        self._interruption, self._parallel = interruption, parallel
        self._asked: Array | None = None

    def look(self) -> int | None:
        """The number of the signal to stop by, or None. All processes call this once per meta-step."""
        number = self._interruption.signal_number
        if jax.process_count() == 1:
            return number
        before, self._asked = self._asked, self._parallel.largest(number or 0)
        return None if before is None else int(fetch_replicated(before)) or None


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
