"""A report in the three files that SCALE-Sim writes, for the scripts that read those.

What has no meaning here is left empty, never made up: without AXI banks are loaded in no time, and over AXI bytes are not told
apart by operand.
`docs/workloads.md` has what each figure is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from podweave.spec.config import ChipConfig

_COMPUTE = ("Total Cycles", "Stall Cycles", "Overall Util %", "Mapping Efficiency %", "Compute Util %")
_OPERANDS = (("IFMAP", "IFMAP", "Reads"), ("FILTER", "Filter", "Reads"), ("OFMAP", "OFMAP", "Writes"))
_BANDWIDTH = tuple(f"Avg {operand} {memory} BW" for memory in ("SRAM", "DRAM") for operand, _, _ in _OPERANDS)
_DETAILS = tuple(
    f"{memory} {operand} {what}"
    for memory in ("SRAM", "DRAM")
    for _, operand, moved in _OPERANDS
    for what in ("Start Cycle", "Stop Cycle", moved)
)

Cell = int | float | None
Line = tuple[Sequence[Cell], Sequence[Cell], Sequence[Cell]]


def write_scalesim_reports(report: dict[str, Any], config: ChipConfig, folder: Path) -> list[Path]:
    """COMPUTE_REPORT.csv, BANDWIDTH_REPORT.csv and DETAILED_ACCESS_REPORT.csv of what `podweave run` or `podweave model` report.

    A line for each layer; of runs over AXI, for each epoch, which has one layer or several.
    """
    lines = list(_lines(report, config))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, columns) in enumerate(
        (("COMPUTE_REPORT", _COMPUTE), ("BANDWIDTH_REPORT", _BANDWIDTH), ("DETAILED_ACCESS_REPORT", _DETAILS))
    ):
        rows = [", ".join(("LayerID", *columns)), *(_row(layer, line[number]) for layer, line in enumerate(lines))]
        paths.append(folder / f"{name}.csv")
        # Each line of SCALE-Sim's ends with a comma.
        paths[-1].write_text("".join(f"{row},\n" for row in rows), encoding="utf-8")
    return paths


def _row(layer: int, cells: Sequence[Cell]) -> str:
    return ", ".join([str(layer), *("" if cell is None else str(cell) for cell in cells)])


def _lines(report: dict[str, Any], config: ChipConfig) -> Iterator[Line]:
    for network in report.get("networks", ()):
        for row in network.get("layers", ()):
            yield _layer(row, config)
        ended = -1
        for epoch in network.get("timeline", ()):
            yield _epoch(epoch, epoch["ends"] - ended, config)
            ended = epoch["ends"]


def _percent(macs: int, cycles: int, pods: int, config: ChipConfig) -> float:
    return 100 * macs / (cycles * pods * config.array.multipliers)


def _layer(row: dict[str, Any], config: ChipConfig) -> Line:
    """A layer of an epoch. Data is in the banks before it begins, and nothing arbitrates: no cycle is a stall."""
    overall, own = (_percent(row["macs"], row["cycles"], pods, config) for pods in (config.pods, row["pods"]))
    accesses = [row["accesses"][kind] for kind in ("x", "w", "p")]
    bandwidth = [access["numbers"] / row["cycles"] for access in accesses]
    details = [access[part] for access in accesses for part in ("first", "last", "numbers")]
    return (row["cycles"], 0, overall, 100 * row["utilization"], own), [*bandwidth, None, None, None], [*details, *(None,) * 9]


def _epoch(epoch: dict[str, Any], cycles: int, config: ChipConfig) -> Line:
    """``cycles``: from the end of the epoch before, those in which the chip waits for memory included."""
    overall, own = (_percent(epoch["macs"], count, config.pods, config) for count in (cycles, cycles - epoch["waits"]))
    return (cycles, epoch["waits"], overall, None, own), (None,) * 6, (None,) * 18
