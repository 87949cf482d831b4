"""A terminal of 80 columns for tests of what is drawn on one."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest

from vsml.training import display


class Terminal(io.StringIO):
    """A terminal of 80 columns that keeps everything that was ever written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """What stands on it, by the control sequences that are used here."""
        lines, row = [""], 0
        for text, up in re.findall(r"([^\x1b]*)(?:\x1b\[(\d+)A\x1b\[J)?", self.getvalue()):
            for piece in re.split(r"(\n)", text.replace("\r", "")):
                if piece == "\n":
                    row += 1
                    lines = [*lines, ""][: row + 1]
                else:
                    lines[row] += piece
            if up:
                row -= int(up)
                lines = [*lines[:row], ""]
        return lines[:-1]


def take_over(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal on which everything is shown at once."""
    terminal = Terminal()
    monkeypatch.setattr(display, "sys", SimpleNamespace(stderr=terminal))  # pytest exchanges that of all modules
    monkeypatch.setattr(display, "REDRAW_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(display.display, "_drawn", [])
    return terminal
