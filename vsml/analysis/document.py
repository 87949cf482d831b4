"""A small document that is written twice: as Markdown with its pictures beside it, and as one stand-alone HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """\
:root { color-scheme: light dark; }
:root { --ink: #1a1a1a; --page: #fff; --soft: #555; --rule: #ddd; --edge: #999; --code: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --page: #16191d; --soft: #a8a8a8; --rule: #33383e; --edge: #777; --code: #22262b; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
body { color: var(--ink); background: var(--page); overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; }
p { max-width: 50rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--rule); text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid var(--edge); }
img { max-width: 100%; height: auto; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; background: var(--code); }
pre { padding: .6rem; overflow-x: auto; }
figure { display: inline-block; vertical-align: top; margin: 1rem 1rem 1rem 0; max-width: min(36rem, 100%); }
figcaption { color: var(--soft); font-size: .9em; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; }
  figure { margin-right: 0; }
  th, td { padding: .25rem .5rem; }
}
"""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines that are shown unchanged."""

    text: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table of cells, as many in every row as in the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """An SVG picture, kept as NAME.svg beside the Markdown file."""

    name: str
    caption: str
    svg: str


Block = Heading | Text | Code | Table | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown; pictures are files beside it."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page that refers to nothing outside of itself."""
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>"
    body = "\n".join(map(_html, blocks))
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Code(text):
            return f"```\n{text}\n```"
        case Picture(name, caption, _):
            return f"![{_plain(caption)}]({name}.svg)\n\n*{_plain(caption)}*"
        case Table(header, rows):
            lines = [map(_plain, header), ["---"] * len(header), *(map(_bold, row) for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bold(cell: Cell) -> str:
    return f"**{_plain(cell.text)}**" if cell.bold else _plain(cell.text)


def _plain(text: str) -> str:
    """Text in which the special characters of Markdown are escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Picture(_, caption, svg):
            data = base64.b64encode(svg.encode()).decode()
            shown = html.escape(caption)
            image = f'<img src="data:image/svg+xml;base64,{data}" alt="{shown}">'
            return f"<figure>{image}<figcaption>{shown}</figcaption></figure>"
        case Table(header, rows):
            head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
            body = "\n".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in rows)
            return (
                f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
            )


def _html_cell(cell: Cell) -> str:
    text = html.escape(cell.text)
    return f"<td><b>{text}</b></td>" if cell.bold else f"<td>{text}</td>"
