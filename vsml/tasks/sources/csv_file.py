"""A table of the user's own: a CSV file with numbers and one column of labels.

Source: the format of RFC 4180, "Common format and MIME type for comma-separated values (CSV) files", 2005.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml.errors import UserError
from vsml.tasks.base import Dataset, Source
from vsml.tasks.sources.files import find, name_of_file
from vsml.tasks.sources.table import read_table


@dataclass(frozen=True)
class CsvFile(Source):
    """A CSV file: one example per line, one column of labels, numbers in all others.

    Labels are numbers or text; sorted, they become the classes 0, 1, ... Features are standardised; see `table`.

    Attributes:
      path: of the file, UTF-8.
      label: column of the labels, by its name in the header or by its index from 0, negative from the right.
      header: whether the first line names the columns.
      delimiter: the character between columns.
      split: `all`, `train` (every second line of each class, its first one included), `test` (the others) or a slice
        of one.
    """

    path: str
    label: str | int = -1
    header: bool = True
    delimiter: str = ","
    split: str = "all"

    def __post_init__(self):
        if len(self.delimiter) != 1 or self.delimiter in '\r\n"':
            raise UserError(f"sources.CsvFile.delimiter is {self.delimiter!r}: give one character, such as ','")

    @property
    def data(self) -> str:
        return name_of_file(self.path)

    def read(self) -> Dataset:
        path = find(self.path)
        lines = _lines(path, self.delimiter)
        if not lines:
            raise UserError(f"{path} is empty: give a CSV file")
        if self.header and all(_as_number(cell) is not None for cell in lines[0][1]):
            raise UserError(
                f"{path} line {lines[0][0]}: the first line should name the columns, but holds numbers alone: add "
                "names, or set sources.CsvFile.header=False to read it as an example"
            )
        names = lines[0][1] if self.header else [str(i) for i in range(len(lines[0][1]))]
        rows = lines[1:] if self.header else lines
        if not rows or len(names) < 2:
            raise UserError(f"{path} has {len(rows)} examples of {len(names)} columns: give one or more, of 2 or more")
        column = self._column(path, names)
        texts = [_text(path, number, row, names)[column] for number, row in rows]
        features = [_numbers(path, number, row, names, column) for number, row in rows]
        return read_table(str(path), np.asarray(features, np.float64), _classes(texts), self.split)

    def _column(self, path: Path, names: Sequence[str]) -> int:
        """Index of the column of labels."""
        if isinstance(self.label, int):
            if not -len(names) <= self.label < len(names):
                raise UserError(f"{path} has {len(names)} columns: sources.CsvFile.label cannot be {self.label}")
            return self.label % len(names)
        if not self.header:
            raise UserError(f"{path} has no header: give sources.CsvFile.label as an index, not as {self.label!r}")
        if names.count(self.label) != 1:
            times = "no" if self.label not in names else "more than one"
            raise UserError(f"{path} has {times} column {self.label!r}, but {', '.join(names)}: name one of these")
        return names.index(self.label)


def _lines(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a readable file") from error
    return [(number, row) for number, row in lines if row and row != [""]]


def _text(path: Path, number: int, row: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """The cells of a line, none missing."""
    if len(row) != len(names):
        raise UserError(f"{path} line {number}: {len(row)} columns instead of {len(names)}; mend or remove the line")
    for name, cell in zip(names, row, strict=True):
        if not cell:
            raise UserError(f"{path} line {number}: column {name!r} is empty; fill it in or remove the line")
    return row


def _numbers(path: Path, number: int, row: Sequence[str], names: Sequence[str], label: int) -> list[float]:
    """The features of a line."""
    return [_number(path, number, names[i], cell) for i, cell in enumerate(row) if i != label]


def _number(path: Path, number: int, name: str, cell: str) -> float:
    value = _as_number(cell)
    if value is None:
        raise UserError(f"{path} line {number}: column {name!r} is {cell!r}, not a finite number; mend it")
    return value


def _as_number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _classes(texts: Sequence[str]) -> np.ndarray:
    """Labels as integers from 0: in the order of numbers where all are numbers, of the alphabet otherwise."""
    numbers = [_as_number(text) for text in texts]
    labels = texts if None in numbers else numbers
    return np.unique(np.asarray(labels), return_inverse=True)[1]
