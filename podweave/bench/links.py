"""Bench of links: how much of the bandwidth of a ring an all-reduce uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_system
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import Prediction
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.config import ChipConfig

from ..runs.jobs import Job, chip_jobs
from ..runs.system import SystemWay, run_on_system

Progress = Callable[[str], None]
LINK = LinkTiming(latency=100)
HIDDEN = 512
ROWS = (16, 256)
"""Sums of as many rows of `HIDDEN` channels in two planes: 64 KiB and 1 MiB."""
IN_RTL = (2, 3, 4)
BY_MODEL = (8, 16)
"""Chips: those that are simulated too, and those that are not."""
P_WORDS = 8192
"""Words of a P bank, so that a collective has all sums of the largest."""


def measure_links(config: ChipConfig, progress: Progress) -> dict[str, Any]:
    """All-reduces of two sizes on rings of several chips with links of `LINK`, as feed-forward layers have them.

    ``bound``: cycles in which a link sends 2 (n - 1) / n of the bytes; ``share``: bound / cycles of the collective, of the slowest
    chip. In RTL every output and every cycle of all chips is compared, and ``cycles`` are those of the counters.
    """
    config = config.replace(p_words=P_WORDS)
    rows = []
    for count in ROWS:
        workload = f"gated_{HIDDEN}_48,rows={count}"
        (job,) = chip_jobs(workload, 0, scale_bits=config.scale_bits)
        rows += [_in_rtl(config, job, chips, count, progress) for chips in IN_RTL]
        rows += [_by_model(config, job, chips, count, progress) for chips in BY_MODEL]
    assert config.links is not None
    return {"config": config.name, "flit_bits": config.links.flit_bits, "latency": LINK.latency, "rings": rows}


def _row(config: ChipConfig, chips: int, rows: int, cycles: int, **more: Any) -> dict[str, Any]:
    assert config.links is not None
    size = 2 * rows * HIDDEN * config.array.psum_width // 8
    bound = 2 * (chips - 1) / chips * size / (config.links.flit_bits // 8)
    return {"chips": chips, "bytes": size, "bound": bound, "cycles": cycles, "share": bound / cycles, **more}


def _collective_cycles(timeline: list[dict[str, Any]]) -> int:
    """Cycles of the only collective."""
    (found,) = (epoch["cycles"] for epoch in timeline if epoch["collective"])
    return int(found)


def _in_rtl(config: ChipConfig, job: Job, chips: int, rows: int, progress: Progress) -> dict[str, Any]:
    way = SystemWay(config, chips, link=LINK)
    report, _, _ = run_on_system([job], way, progress=lambda text: progress(f"{chips} chips, {rows} rows: {text}"))
    (row,) = report["networks"]
    of_chips = row["chips"]
    # A run counts one cycle more for a collective: the one in which it is seen to be over.
    found = max(chip["counters"]["COLLECTIVE_CYCLES"] - 1 for chip in of_chips)
    predicted = max(_collective_cycles(chip["timeline"]) for chip in of_chips)
    return _row(config, chips, rows, found, by="RTL", predicted=predicted, verdict=report["verdict"])


def _by_model(config: ChipConfig, job: Job, chips: int, rows: int, progress: Progress) -> dict[str, Any]:
    progress(f"{chips} chips, {rows} rows: predicting")
    assert isinstance(job.graph, RowGraph)
    networks = compile_system(partition(job.graph, job.constants, chips), config, CompileOptions(from_memory=True))
    found: tuple[Prediction, ...] = predict_system(networks, HbmTiming(), LINK)
    cycles = max(_collective_cycles(chip.timeline) for chip in found)
    return _row(config, chips, rows, cycles, by="model", predicted=cycles, verdict="none")
