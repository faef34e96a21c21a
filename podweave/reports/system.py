"""Reports of runs of several chips in a ring, printed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .accelerator import kind_table, print_outcome, ratios_of
from .tables import print_verdict, print_wall, say, table

_COUNTERS = {
    "in them": "COLLECTIVE_CYCLES",
    "flits sent": "LINK_SENT",
    "waited": "WAIT_NEIGHBOUR",
    "beats beneath": "BENEATH_BEATS",
}
"""By column, the counter that it has: cycles of collectives, flits, cycles in which the neighbour's first word was waited for, and
beats that were prefetched in collectives."""


def print_system_run(console: Console, report: dict[str, Any]) -> None:
    """Chips, figures of the slowest, and the verdict."""
    _print_networks(console, report, measured=True)
    print_outcome(console, report, "cycles from the first start to the last interrupt")
    print_wall(console, report)
    how = f"{report['chips']} chips, seed {report['seed']}, over AXI"
    print_verdict(console, report, "bit-exact, cycle-exact, counters exact on every chip", how)


def print_system_model(console: Console, report: dict[str, Any]) -> None:
    _print_networks(console, report, measured=False)
    print_wall(console, report)


def _print_networks(console: Console, report: dict[str, Any], *, measured: bool) -> None:
    for row in report["networks"]:
        console.print(_chip_table(row, report["delays"], measured=measured))
        last = row["chips"][row["slowest"]]
        how = " (none in collectives)" if report["prefetch"] and not report["beneath"] else ""
        how += ratios_of(report)
        say(
            console,
            f"{row['network']}: {row['macs']:,} MAC in {row['cycles']:,} cycles on {report['chips']} chips of "
            f"{report['pods']} pods, utilisation {row['utilization']:.2%}\n"
            f"chip {row['slowest']}, which ends last: {last['bytes_loaded']:,} bytes loaded; data buses busy in "
            f"{last['hbm_used']:.1%} of the cycles, {last['hbm_used_available']:.1%} of what the memory can send; prefetch "
            f"{'on' if report['prefetch'] else 'off'}{how}: {last['prefetch_hits']} epochs found their words, "
            f"{last['prefetch_late']} waited",
        )
        console.print(kind_table(last))


def _chip_table(row: dict[str, Any], delays: list[int], *, measured: bool) -> Any:
    cycles = ["RTL cycles", "predicted", "difference"] if measured else ["cycles"]
    late = ["starts at"] if any(delays) else []
    rows = []
    for rank, chip in enumerate(row["chips"]):
        cells = [f"{delays[rank]:,}"] if late else []
        cells.append(f"{chip['cycles']:,}")
        if measured:
            cells += [f"{chip['predicted_cycles']:,}", str(chip["cycles"] - chip["predicted_cycles"])]
        cells += [str(chip["epochs"] - chip["collectives"]), str(chip["collectives"])]
        rows.append([str(rank), *cells, *(f"{chip['counters'][name]:,}" for name in _COUNTERS.values())])
    return table("", ["chip", *late, *cycles, "epochs", "collectives", *_COUNTERS], rows)
