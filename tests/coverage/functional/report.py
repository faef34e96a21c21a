"""The table of points: how many of each group were seen, and the names of those that were not."""

from __future__ import annotations

from collections.abc import Mapping

from tests.coverage.functional.tally import Table, Tally
from tests.coverage.functional.watch import TABLES

Seen = Mapping[str, Mapping[str, Mapping[str, int]]]
"""By target, as `Tally.seen`."""


def added(seen: Seen, *tables: Table) -> dict[str, dict[str, int]]:
    """Counts of all points of tables (default: `TABLES`), over all targets. Raises `KeyError` for one that is in no table."""
    tally = Tally(*(tables or TABLES))
    for groups in seen.values():
        for group, names in groups.items():
            for name, count in names.items():
                tally.add([(group, name)], count)
    return tally.counts


def points_table(seen: Seen, *tables: Table) -> list[str]:
    """Lines of Markdown."""
    lines, total = ["| points | seen | not seen |", "|---|---|---|"], [0, 0]
    for group, counts in added(seen, *tables).items():
        missed = [name for name, count in counts.items() if not count]
        total[0] += len(counts) - len(missed)
        total[1] += len(counts)
        names = "all" if len(missed) == len(counts) else "; ".join(missed) or "-"
        lines.append(f"| {group} | {len(counts) - len(missed)} of {len(counts)} | {names} |")
    return [*lines, f"| all | {total[0]} of {total[1]}, {100 * total[0] / max(1, total[1]):.1f}% | |"]
