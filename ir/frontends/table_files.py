"""Tables in text files, as spreadsheets and people write them: what is harmless is read, the rest is named with its line."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ..layers import MAX_SIZE, WorkloadError
from ..texts import whole_number

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class RowError(WorkloadError):
    """Something in a file, with its line."""


@dataclass(frozen=True)
class Row:
    """A line of a file: ``cells`` without spaces around them, and without empty ones at the end."""

    path: Path
    line: int
    cells: tuple[str, ...]

    def __str__(self) -> str:
        return repr(",".join(self.cells))

    def error(self, text: str) -> RowError:
        return RowError(f"{self.path}: line {self.line}: {text}")

    def number(self, column: str, cell: str) -> int:
        """A cell that is a size."""
        value = whole_number(cell)
        if value is None or not 1 <= value <= MAX_SIZE:
            raise self.error(f"{column} must be a whole number from 1 to {MAX_SIZE:,}, got {cell!r}")
        return value


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, header included: UTF-8, with or without byte order mark.

    Cells are separated by commas, semicolons or tabs, whichever the header has, and may be quoted. Empty lines, lines of empty
    cells and lines that begin with # are left out.
    """
    if not path.is_file():
        raise WorkloadError(f"workload file {str(path)!r} does not exist")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content.count(b"\n", 0, error.start)
        raise WorkloadError(f"{path}: line {before + 1}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
    rows: list[Row] = []
    separator = None
    # Not splitlines: it also splits at characters that are no ends of lines to anybody else.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if separator is None:
            separator = _separator(path, number, line)
        cells = _cells(path, number, line, separator)
        if cells:
            rows.append(Row(path, number, cells))
    return rows


def _separator(path: Path, number: int, line: str) -> str:
    """That of the header: the one that stands in it outside of quotes; tabs beside others may also be spaces."""
    bare = re.sub('"[^"]*"', "", line.strip())
    present = [separator for separator in _SEPARATORS if separator in bare]
    alone = [
        separator
        for separator in present
        if not any(other in cell.strip() for other in present for cell in bare.split(separator) if other != separator)
    ]
    if present and not alone:
        names = " and ".join(_SEPARATORS[separator] for separator in present)
        raise WorkloadError(f"{path}: line {number}: cells stand between commas, semicolons or tabs, but there are {names}")
    return alone[0] if alone else ","


def _cells(path: Path, number: int, line: str, separator: str) -> tuple[str, ...]:
    try:
        (row,) = csv.reader([line], delimiter=separator, skipinitialspace=separator != "\t", strict=True)
    except (csv.Error, ValueError) as error:
        raise WorkloadError(f"{path}: line {number}: {error}") from error
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return tuple(cells)
