"""Reports of runs and models of a chip."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .tables import counted, print_checked, print_verdict, print_wall, say, table


def _chip_table(networks: list[dict[str, Any]]) -> Table:
    columns = ["layer", "MxKxN", "first", "last", "cycles", "pods", "lanes used", "wrong"]
    rows = []
    for network in networks:
        for row in network["layers"]:
            cells = [
                row["layer"],
                f"{row['M']}x{row['K']}x{row['N']}",
                f"{row['first']:,}",
                f"{row['last']:,}",
                f"{row['cycles']:,}",
            ]
            wrong = str(row["mismatches"]) if "mismatches" in row else "-"
            rows.append([*cells, str(row["pods"]), f"{row['utilization']:.1%}", wrong])
    return table("", columns, rows)


def print_chip_model(console: Console, report: dict[str, Any]) -> None:
    console.print(_chip_table(report["networks"]))
    _print_chip_total(console, report)
    print_wall(console, report)


def _print_chip_total(console: Console, report: dict[str, Any]) -> None:
    if report.get("left_out"):
        say(console, f"left out, as layers are alone: {report['left_out']}")
    busy = sum(row["busy"] * row["cycles"] for row in report["networks"]) / report["cycles"]
    merged = {kind: sum(row["merged_words"][kind] for row in report["networks"]) for kind in ("x", "w")}
    console.print(
        f"{report['macs']:,} MAC in {report['cycles']:,} cycles on {counted(report['pods'], 'pod')}: "
        f"{report['macs'] / report['cycles']:,.1f} MAC/cycle, utilisation {report['utilization']:.2%}\n"
        f"from the first word requested to the last sum written: {sum(row['sums_cycles'] for row in report['networks']):,} cycles\n"
        f"pods stream in {busy:.1%} of their cycles; words served by multicast: X {merged['x']:,}, W {merged['w']:,}",
        highlight=False,
    )


def print_chip_run(console: Console, report: dict[str, Any], *, tables: int | None = None) -> None:
    """``tables``: of how many epochs to show the layers; of all by default."""
    if report["networks"]:
        console.print(_chip_table(report["networks"][:tables]))
        if tables is not None and len(report["networks"]) > tables:
            console.print(f"{len(report['networks'])} epochs of the same program, with other data", highlight=False)
    for row in report["networks"]:
        for line in [row.get("first_mismatch"), *row["errors"]]:
            if line:
                console.print(f"  {row['network']}: {line}", style="red", highlight=False, markup=False)
        if row["counters_differing"]:
            names = ", ".join(row["counters_differing"])
            console.print(f"  {row['network']}: counters other than predicted: {names}", style="red", highlight=False, markup=False)
    if report["failure"]:
        console.print(report["failure"], style="red", highlight=False, markup=False)
    if report["networks"]:
        difference = report["cycles"] - report["predicted_cycles"]
        compared = sum(row["compared"] for row in report["networks"])
        _print_chip_total(console, report)
        console.print(
            f"cycles: {report['cycles']:,} in RTL, {report['predicted_cycles']:,} predicted, difference {difference}\n"
            f"{compared:,} accumulators and outputs compared, {report['mismatches']} wrong; "
            f"counters of all nodes compared\nsimulation: {report['sim_cycles_per_s'] / 1e3:,.1f} k cycles/s",
            highlight=False,
        )
    print_checked(console, report)
    print_wall(console, report)
    print_verdict(console, report, "bit-exact, cycle-exact, counters exact", f"seed {report['seed']}")
