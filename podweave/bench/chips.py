"""Speed of simulated chips: what building them takes, and how many of their cycles are simulated per second."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.build.make import cores

from ..runs.accelerator import run_on_device
from ..runs.chip import run_networks
from ..runs.jobs import Job, chip_jobs

Progress = Callable[[str], None]

ENCODER = "Encoder-1-"
# By preset: what keeps its pods busy with words that are in its banks, and what is loaded and stored over AXI meanwhile.
BUSY = {"chip4x16": "conv:14x14x64x64,kernel=3x3,padding=1", "chip16x32": "conv:28x28x128x512,kernel=3x3,padding=1"}
FROM_MEMORY = {"chip4x16": "conv:14x14x64x64,kernel=3x3,padding=1", "chip16x32": "resnet50", "chip256x32": "gemm:100x512x512"}
PRESETS = ("chip4x16", "chip16x32", "chip256x32")
IDLE_CYCLES = 200_000
# What takes a minute is run once.
LARGE = ("chip256x32",)


@contextmanager
def empty_cache() -> Iterator[None]:
    """Nothing of any earlier build is there in the ``with`` body."""
    before = os.environ.get("PODWEAVE_CACHE")
    with tempfile.TemporaryDirectory(prefix="podweave-bench-") as folder:
        os.environ["PODWEAVE_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["PODWEAVE_CACHE"]
            if before is not None:
                os.environ["PODWEAVE_CACHE"] = before


def measure_chips(repeat: int, progress: Progress) -> dict[str, Any]:
    """``builds``: a row per preset, from an empty cache: first its chip, then the accelerator around it. ``speeds``: medians by
    what is done and by how many cores; ``simulate_s`` and ``cycles_per_s`` are of the simulator only."""
    report: dict[str, Any] = {"builds": [], "speeds": []}
    for preset in PRESETS:
        with empty_cache():
            build, speeds = _measured(preset, 1 if preset in LARGE else repeat, progress)
        report["builds"].append(build)
        report["speeds"] += speeds
    return report


def _measured(preset: str, repeat: int, progress: Progress) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config, threads = load_config(preset), sorted({1, cores()})

    def told(text: str) -> None:
        progress(f"{preset}: {text}")

    began = time.perf_counter()
    told("emitting")
    chips = {count: ChipBench.of(config, threads=count, progress=told) for count in threads}
    first = time.perf_counter() - began
    accelerators = {count: AcceleratorBench.of(config, threads=count, progress=told) for count in threads}
    then = time.perf_counter() - began - first
    jobs, memory_jobs = _busy_jobs(config), chip_jobs(FROM_MEMORY[preset], 0, scale_bits=config.scale_bits)
    found: list[dict[str, Any]] = []
    for number in range(repeat):
        # One after the other in each round: the noise of the machine is the same for all.
        for count in threads:
            told(f"{count} of {cores()} cores, round {number + 1}/{repeat}")
            found.append({"what": "idle", "threads": count, "cycles_per_s": chips[count].idle_cycles_per_s(IDLE_CYCLES)})
            report, *_ = run_networks(jobs, config, bench=chips[count], progress=_quiet)
            found.append({"what": "busy", "threads": count} | _figures(report))
            report, *_ = run_on_device(memory_jobs, config, bench=accelerators[count], progress=_quiet)
            found.append({"what": "from memory", "threads": count} | _figures(report))
    workloads = {"idle": "", "busy": BUSY.get(preset, "encoder layer of BERT medium"), "from memory": FROM_MEMORY[preset]}
    speeds = [
        {"preset": preset, "what": what, "workload": workload} | _median(found, what, count)
        for what, workload in workloads.items()
        for count in threads
    ]
    units = accelerators[1].units()
    build = {
        "preset": preset,
        "chip_from_nothing_s": first,
        "accelerator_then_s": then,
        "distinct_blocks": len(set(units.values())),
    }
    peak = max(row.get("peak_gib", 0.0) for row in found)
    return build | {"blocks": len(units), "simulator_peak_gib": peak}, speeds


def _busy_jobs(config: ChipConfig) -> list[Job]:
    if config.name in BUSY:
        return chip_jobs(BUSY[config.name], 0, scale_bits=config.scale_bits)
    jobs = chip_jobs("bert_medium_100", 0, per_layer=True, scale_bits=config.scale_bits)
    return [job for job in jobs if job.graph.name.startswith(ENCODER)]


def _quiet(_: str) -> None:
    pass


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    exact = report["verdict"] == "pass" and report["cycles"] == report["predicted_cycles"]
    figures = {"exact": exact, "cycles": report["cycles"], "simulate_s": report["wall_s"]["simulate"]}
    figures |= {"cycles_per_s": report["sim_cycles_per_s"], "mmac_per_s": report["sim_mmac_per_s"]}
    return figures | {"peak_gib": report["sim_peak_bytes"] / 2**30}


def _median(found: list[dict[str, Any]], what: str, threads: int) -> dict[str, Any]:
    rows = [row for row in found if (row["what"], row["threads"]) == (what, threads)]
    keys = ("cycles", "simulate_s", "cycles_per_s", "mmac_per_s")
    medians = {key: statistics.median(row.get(key, 0) for row in rows) for key in keys}
    return {"threads": threads, "exact": all(row.get("exact", True) for row in rows), **medians}
