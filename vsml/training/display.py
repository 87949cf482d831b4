"""Progress on standard error: on a terminal, lines that are redrawn in place; in a log, a plain line now and then.

Only one display at a time shows lines; messages are printed above them.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TextIO

REDRAW_SECONDS = 0.2
PLAIN_SECONDS = 30
"""Least number of seconds between two lines in a log."""
LOG_WIDTH = 120


class Display:
    """Lines that show how far the work is, no wider than the terminal."""

    def __init__(self) -> None:
        self._drawn: list[str] = []  # the lines at the bottom of the terminal
        self._shown_at = float("-inf")
        self._logged: set[str] = set()

    @property
    def live(self) -> bool:
        """Whether standard error is a terminal on which lines can be redrawn."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Columns that a line may have."""
        if not self.live:
            return LOG_WIDTH
        return columns_of(sys.stderr) - 1  # some terminals break a line that fills the last one

    @property
    def due(self) -> bool:
        """Whether it is time to show something again."""
        return time.monotonic() - self._shown_at >= (REDRAW_SECONDS if self.live else PLAIN_SECONDS)

    def show(self, *lines: str, at_once: bool = False) -> None:
        """Shows lines in place of the earlier ones, unless it is too early; in a log, only the lines that are new."""
        if not (at_once or self.due):
            return
        self._shown_at = time.monotonic()
        if self.live:
            self._redraw(lines)
        else:
            sys.stderr.write("".join(f"{line}\n" for line in lines if line not in self._logged))
            sys.stderr.flush()
            self._logged = set(lines)

    def say(self, message: str) -> None:
        """Prints a message that stays."""
        drawn = self._drawn
        self._redraw(())
        sys.stderr.write(f"{wrapped(message, self.width) if self.live else message}\n")
        self._redraw(drawn)

    def keep(self) -> None:
        """Leaves the lines where they are; whatever comes next is below them."""
        self._drawn = []
        self._shown_at = float("-inf")

    def close(self) -> None:
        """Removes the lines."""
        self._redraw(())
        self._shown_at = float("-inf")

    def _redraw(self, lines: Sequence[str]) -> None:
        # Goes up to the first line and clears all below, also a ^C; in one write, so that nothing flickers.
        clear = f"\r\x1b[{len(self._drawn)}A\x1b[J" if self._drawn else ""
        sys.stderr.write(clear + "".join(f"{line[: self.width]}\n" for line in lines))
        self._drawn = list(lines)
        sys.stderr.flush()


display = Display()
"""The display of this process."""


def fitted(
    head: str, numbers: Sequence[tuple[str, str]], tail: Sequence[str], width: int, share: float | None = None
) -> str:
    """One line that keeps its numbers as long as possible.

    Where it does not fit, first the bar is dropped, then names are cut, then the tail is dropped, at last numbers from
    the end.

    Args:
      head: what comes first, always shown.
      numbers: name and value of each.
      tail: further words, the most important ones first.
      width: columns.
      share: how much is done, 0 to 1: drawn as a bar where there is room for one.
    """
    cuts = [(longest, len(tail)) for longest in (99, 14, 8)] + [(8, left) for left in reversed(range(len(tail)))]
    lines = [_line(head, numbers, tail[:left], longest) for longest, left in [*cuts, (6, 0), (4, 0)]]
    lines += [_line(head, numbers[:left], (), 4) for left in reversed(range(len(numbers)))]
    line = next((line for line in lines if len(line) <= width), lines[-1][:width])
    room = min(30, width - len(line) - 2)
    if share is None or room < 5 or not display.live:
        return line
    full, empty = ("█", "░") if "utf" in (sys.stderr.encoding or "").lower() else ("#", "-")
    bar = full * round(share * room)
    return f"{head}  {bar:{empty}<{room}}{line[len(head) :]}"


def _line(head: str, numbers: Sequence[tuple[str, str]], tail: Sequence[str], longest: int) -> str:
    cut = [name if len(name) <= longest else f"{name[: longest - 1]}." for name, _ in numbers]
    return "  ".join([head, *(f"{name} {value}" for name, (_, value) in zip(cut, numbers, strict=True)), *tail])


def columns_of(terminal: TextIO) -> int:
    """How wide a terminal is, 20 at least; 80 where that is unknown."""
    try:
        columns = os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        columns = 0
    return max(20, columns or 80)


def wrapped(text: str, width: int) -> str:
    """Text with lines broken between words; a path, and a command in backquotes, can still be copied in one piece."""
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), text)
    lines = textwrap.fill(whole, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def tell_evaluation(what: str, done: int, total: int) -> None:
    """Shows how many lifetimes of an evaluation are done: a listener of `vsml.evaluation.telling`."""
    line = fitted(f"evaluating {what} {done}/{total}", (), (), display.width, done / total)
    display.show(line, at_once=display.live and not done)


def duration(seconds: float) -> str:
    """`0:42`, `1:05:00`, `3 d 4 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
