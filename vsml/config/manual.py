"""Descriptions of the parts for a terminal: a line per field, or a page per part.

The meanings of fields come from docstrings, see `docstrings.py`.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from vsml.config.catalogue import AXES, ROOT, Catalogue, Field, Part
from vsml.config.fitting import describe, show
from vsml.errors import UserError

WIDTH = 80


def overview(part: Part) -> str:
    """A part and its fields, a line each."""
    return "\n".join([f"{part.name}: {part.summary}", *(f"    {_signature(field)}" for field in part.fields.values())])


def part_in_full(name: str) -> str:
    """A page about one part: what it is, its equations and source, each field with type, default and meaning.

    Raises:
      UserError: there is no part of that name.
    """
    catalogue = Catalogue()
    part = catalogue.get(name)
    if part is None:
        near = catalogue.suggest(name) or f"; the axes are {', '.join((*AXES, 'optax', ROOT))}"
        raise UserError(f"there is no part {name}{near}")
    about = [_wrapped(text) for text in (_description(part.make), _header(part.make)) if text]
    fields = [_entry(field) for field in part.fields.values()]
    return "\n\n".join([part.name, *about, "\n".join(["Fields:", *fields]) if fields else "It has no fields."])


def _signature(field: Field) -> str:
    """`size: int = 16`."""
    return f"{field.name}: {describe(field.type)} {'required' if field.required else f'= {show(field.default)}'}"


def _entry(field: Field) -> str:
    head = _fill(_signature(field), "  ", "      ")
    meaning = _fill(field.doc, "      ", "      ")
    return f"{head}\n{meaning}" if meaning else head


def _fill(text: str, first: str = "", others: str = "") -> str:
    """One paragraph, wrapped, with the indents of its first line and of the others."""
    plain = re.sub(r":\w+:(?=`)", "", text)  # Sphinx roles, in the docstrings of optax
    wrapper = textwrap.TextWrapper(WIDTH, first, others, break_on_hyphens=False, break_long_words=False)
    return wrapper.fill(plain)


def _description(make: Callable[..., Any]) -> str:
    """The docstring up to its first section; of a function, its first paragraph."""
    text = inspect.cleandoc(make.__doc__ or "")
    return re.split(r"^\w+:$" if inspect.isclass(make) else r"\n\s*\n", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _header(make: Callable[..., Any]) -> str:
    """The docstring of the module of a class: equations and source; empty for a function."""
    module = sys.modules.get(make.__module__)
    return inspect.cleandoc(module.__doc__ or "") if inspect.isclass(make) and module is not None else ""


def _wrapped(text: str) -> str:
    """Paragraphs wrapped; what is indented, such as equations, stays as it is."""
    return "\n\n".join(
        paragraph if re.search(r"^ ", paragraph, flags=re.MULTILINE) else _fill(paragraph)
        for paragraph in re.split(r"\n\s*\n", text)
    )
