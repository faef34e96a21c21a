"""Cover points of Verilator: read from what simulators write, and added up by module."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

KINDS = ("line", "branch", "toggle")
# Fields of a key are separated by byte 1, a name from its value by byte 2.
_LINE = re.compile(r"^C '(.*)' (\d+)$")
_PAGE = re.compile(rf"v_({'|'.join(KINDS)})/(.+)")


class Point(NamedTuple):
    """Parameters
    ----------
    module, kind : str
        Where, and one of `KINDS`.
    line, column : int
        In the module, from its first point on, wherever in a file it stands.
    name : str
        What must happen: ``if``, ``cond_else``, ``signal[3]:0->1``.
    """

    module: str
    kind: str
    line: int
    column: int
    name: str


def points_of(text: str) -> Counter[Point]:
    """How often each point was reached in one run, in all instances of its module."""
    rows = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            fields = dict(part.split("\2", 1) for part in match[1].split("\1") if "\2" in part)
            page = _PAGE.fullmatch(fields.get("page", ""))
            if page:
                rows.append((page[2], page[1], int(fields["l"]), int(fields["n"]), fields["o"], int(match[2])))
    first: dict[str, int] = {}
    for module, _, number, *_ in rows:
        first[module] = min(number, first.get(module, number))
    found: Counter[Point] = Counter()
    for module, kind, number, column, name, count in rows:
        found[Point(module, kind, number - first[module], column, name)] += count
    return found


def merged(files: Iterable[Path]) -> Counter[Point]:
    """Of several runs; a point that is reached in none is there, too."""
    total: Counter[Point] = Counter()
    for file in files:
        for point, count in points_of(file.read_text(encoding="utf-8")).items():
            total[point] += count
    return total
