"""Reports of area."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import table


def print_area(console: Console, report: dict[str, Any]) -> None:
    rows = []
    for name, block in report["blocks"].items():
        rows.append(
            [
                name,
                str(block["instances"]),
                f"{block['area_each']:,.0f}",
                f"{block['area']:,.0f}",
                f"{block['share']:.1%}",
                f"{block['sequential_share']:.1%}",
                f"{block['sram_bits']:,}" if block["sram_bits"] else "",
            ]
        )
    columns = ["block", "count", "area each", "area", "share", "registers", "SRAM bits"]
    console.print(table(f"{report['config']}, {report['library']} ({report['unit']}), flow {report['flow_name']}", columns, rows))
    console.print(f"SRAM, not in the area: {report['sram_bits']:,} bits", highlight=False)
    if report["array_area_per_mac_vs_bare_mac"] is not None:
        console.print(
            f"array area per multiplier: {report['array_area_per_mac_vs_bare_mac']:.3f} of a bare registered MAC "
            f"({report['bare_mac_area']:,.0f})",
            highlight=False,
        )
    if report["pod_overhead"] is not None:
        console.print(f"pod around the array: {report['pod_overhead']:.1%} of the array, without SRAM", highlight=False)
    if report["chip"]:
        _print_chip_area(console, report["chip"])


def _print_chip_area(console: Console, chip: dict[str, Any]) -> None:
    rows = []
    for name, kind in sorted(chip["kinds"].items(), key=lambda item: -item[1]["area"]):
        sram = f"{kind['sram_bits_per_pod']:,}" if kind["sram_bits"] else ""
        rows.append(
            [name, str(kind["instances"]), f"{kind['area']:,.0f}", f"{kind['area_per_pod']:,.0f}", f"{kind['share']:.1%}", sram]
        )
    console.print(table("\nby kind of block", ["kind", "count", "area", "per pod", "share", "SRAM bits per pod"], rows))
    rows = [
        [
            name.upper(),
            *(f"{row[key]:,.0f}" for key in ("area", "area_per_pod")),
            f"{row['share_of_pod']:.1%}",
            f"{row['share_of_chip']:.1%}",
        ]
        for name, row in chip["networks"].items()
    ]
    title = f"\nnetworks, all planes; one of the {chip['pods']} pods has {chip['pod_area']:,.0f}"
    console.print(table(title, ["network", "area", "per pod", "of a pod", "of the chip"], rows))


def print_network_table(console: Console, report: dict[str, Any]) -> None:
    rows = []
    for row in report["rows"]:
        shares = [f"{row['networks'][name]['share_of_pod']:.1%}" for name in ("x", "w", "p", "y", "all")]
        sizes = [str(row[key]) for key in ("pods", "y_planes", "pipeline")]
        rows.append([*sizes, f"{row['pod_area']:,.0f}", *shares])
    columns = ["pods", "Y planes", "stages", "pod area", "X", "W", "P", "Y", "all"]
    console.print(table(f"{report['config']}, {report['library']} ({report['unit']}), flow {report['flow_name']}", columns, rows))
    console.print(
        "networks, all planes, as shares of pod area, without SRAM; stages: of switches between registers", highlight=False
    )
