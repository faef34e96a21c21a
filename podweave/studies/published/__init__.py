"""Published and reproduced figures of other systems, to be printed beside ours; each table says where it is from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podweave.ir.layers import WorkloadError

_DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """``rows``: one value per column, None where nothing was published. ``note``: what a reader must know before comparing."""

    name: str
    title: str
    unit: str
    provenance: str
    note: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]

    def value(self, row: str, column: str) -> float | None:
        """The figure, or None where there is none, be it that the row or the column is unknown."""
        if row not in self.rows or column not in self.columns:
            return None
        return self.rows[row][self.columns.index(column)]

    def column(self, column: str) -> dict[str, float]:
        """The figures of a column by row, without those that are missing."""
        values = {row: self.value(row, column) for row in self.rows}
        return {row: value for row, value in values.items() if value is not None}


@dataclass(frozen=True)
class Published:
    """``source``: the system and its publication. ``provenance``: what the provenance words of the tables mean."""

    name: str
    source: str
    provenance: dict[str, str]
    tables: dict[str, Table]


def published_names() -> list[str]:
    return sorted(path.stem for path in _DIRECTORY.glob("*.json"))


def load_published(name: str = "sosa") -> Published:
    """The figures of a system.

    >>> load_published().tables["partition"].value("hmean", "32")
    206.5
    """
    if name not in published_names():
        raise WorkloadError(f"no published figures of {name!r}; there are those of {', '.join(published_names())}")
    data: dict[str, Any] = json.loads((_DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    tables = {}
    for key, table in data["tables"].items():
        columns = tuple(table["columns"])
        rows = {row: tuple(values) for row, values in table["rows"].items()}
        for row, values in rows.items():
            if len(values) != len(columns):
                raise WorkloadError(f"{name}: {key}: row {row} has {len(values)} values for {len(columns)} columns")
        tables[key] = Table(key, table["title"], table["unit"], table["provenance"], table["note"], columns, rows)
    return Published(name, data["source"], data["provenance"], tables)
