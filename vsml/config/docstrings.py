"""Meanings of names, read from the sections of Google-style docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

SECTIONS = {"Attributes:", "Args:"}
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?:\s*(.*)")
"""`size: text`, `first, second: text`, `size (int): text`."""


def meanings_of_class(cls: type) -> dict[str, str]:
    """Field -> its meaning; the docstring of the class may replace those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= meanings(base.__dict__.get("__doc__"))
    return found


def meanings_of_function(function: Callable[..., Any]) -> dict[str, str]:
    """Argument -> its meaning."""
    return meanings(function.__doc__)


def meanings(docstring: str | None) -> dict[str, str]:
    """The entries of the sections `Attributes:` and `Args:`, each as one line."""
    found: dict[str, list[str]] = {}
    inside, indent, current = False, None, ()
    for line in inspect.cleandoc(docstring or "").splitlines():
        if not line.startswith(" "):
            inside, indent = (line in SECTIONS, None) if line else (inside, indent)
            continue
        if not inside:
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        entry = _ENTRY.fullmatch(line.strip()) if depth == indent else None
        if entry:
            current = tuple(name.strip("* ") for name in entry[1].split(","))
            for name in current:
                found[name] = [entry[2]]
        else:
            for name in current:
                found[name].append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}
