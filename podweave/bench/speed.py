"""Benchmarks: speed of emission, build and simulation, as figures that a later run can be compared with."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from podweave.compiler.compile_network import compile_network
from podweave.predict.chip import predict
from podweave.rtl.accelerator.emit import emit
from podweave.spec.presets import load_config
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.build.toolchain import find_toolchain

from ..runs.chip import run_networks
from ..runs.jobs import chip_graphs, chip_jobs
from .bus import measure_bus
from .chips import measure_chips
from .compilation import measure_compilation
from .links import measure_links

Progress = Callable[[str], None]
PRESETS = ("pod4", "pod16", "pod32")
# A layer per preset that fits its banks, and how often it takes to keep the simulator busy for about a second.
WORKLOADS = {"pod4": ("gemm:64x64x64", 40), "pod16": ("gemm:256x256x256", 8), "pod32": ("gemm:3136x576x256", 1)}
# Banks and stores in which whole networks with all their weights fit.
AMPLE = {
    "x_words": 16384,
    "w_words": 65536,
    "p_words": 8192,
    "parameter_sets": 1024,
    "load_jobs": 65536,
    "stream_jobs": 65536,
    "post_jobs": 65536,
}

STARTS = (["--help"], ["presets"], ["model", "gemm:8x8x8", "--config", "pod4"])
"""Commands of which the start is most of what they take."""


def bench_start(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """Whole processes of the command line."""
    rows = []
    for arguments in STARTS:
        progress(f"starting podweave {arguments[0]}")
        seconds = []
        for _ in range(repeat):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "podweave", *arguments], check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        rows.append({"command": " ".join(arguments), "start_s": statistics.median(seconds)})
    return rows


def bench_emit(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """Configuration to Verilog text."""
    rows = []
    for preset in PRESETS:
        progress(f"emitting {preset}")
        config = load_config(preset)
        seconds: list[float] = []
        for _ in range(repeat):
            began = time.perf_counter()
            emitted = emit(config)
            seconds.append(time.perf_counter() - began)
        rows.append({"preset": preset, "emit_s": statistics.median(seconds), "modules": len(emitted.sidecar["modules"])})
    return rows


def bench_build(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """A simulator from nothing (no object of any earlier build), and until an unchanged design has simulated a layer."""
    rows = []
    for preset in PRESETS:
        cold: list[float] = []
        warm: list[float] = []
        for number in range(repeat):
            progress(f"building {preset} from nothing ({number + 1}/{repeat})")
            with tempfile.TemporaryDirectory(prefix="podweave-bench-") as cache:
                env = {**os.environ, "PODWEAVE_CACHE": cache}
                command = [sys.executable, "-m", "podweave", "run", "gemm:8x8x8", "--config", preset]
                times = []
                for _ in range(2):
                    began = time.perf_counter()
                    subprocess.run(command, env=env, check=True, capture_output=True)
                    times.append(time.perf_counter() - began)
                cold.append(times[0])
                warm.append(times[1])
        rows.append(
            {
                "preset": preset,
                "run_from_nothing_s": statistics.median(cold),
                "run_unchanged_s": statistics.median(warm),
            }
        )
    return rows


def bench_simulation(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """One simulator, one core: free-running, and with the result check."""
    rows = []
    for preset in PRESETS:
        config, (workload, times) = load_config(preset), WORKLOADS[preset]
        progress(f"building {preset}")
        bench = ChipBench.of(config)
        jobs = chip_jobs(workload, 0, scale_bits=config.scale_bits) * times
        free, result, mmac = [], [], []
        for number in range(repeat):
            progress(f"simulating {workload} on {preset} ({number + 1}/{repeat})")
            free.append(bench.idle_cycles_per_s(200_000))
            report, *_ = run_networks(jobs, config, bench=bench, progress=lambda _: None)
            # Loading the banks and reading the results belong to the check.
            seconds = sum(report["wall_s"][phase] for phase in ("load", "simulate", "read"))
            result.append(report["cycles"] / seconds)
            mmac.append(report["macs"] / seconds / 1e6)
        rows.append(
            {
                "preset": preset,
                "workload": workload,
                "free_cycles_per_s": statistics.median(free),
                "result_cycles_per_s": statistics.median(result),
                "result_mmac_per_s": statistics.median(mmac),
            }
        )
    return rows


def bench_model(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """Compiler and exact model of a chip: a whole network, from graph to program to cycles and counters."""
    rows = []
    for preset, name in (("chip4x16", "digits"), ("chip256x32", "bert_medium_100"), ("chip256x32", "resnet50_299")):
        config = load_config(preset)
        (graph,) = chip_graphs(name)
        if name != "digits":
            config = config.replace(**AMPLE)
        began = time.perf_counter()
        network = compile_network(graph, config, progress=progress)
        compiled = time.perf_counter() - began
        seconds = []
        for number in range(repeat):
            progress(f"modelling {name} ({number + 1}/{repeat})")
            began = time.perf_counter()
            figures = predict(network.program)
            seconds.append(time.perf_counter() - began)
        row = {"preset": preset, "network": name, "cycles": figures.cycles}
        rows.append(row | {"compile_s": compiled, "model_s": statistics.median(seconds)})
    return rows


def bench_chip(repeat: int, progress: Progress) -> dict[str, Any]:
    """Chips of 4, 16 and 256 pods: built from nothing, idle, busy, and fed from memory, by the cores used."""
    return measure_chips(repeat, progress)


def bench_bus(repeat: int, progress: Progress) -> dict[str, Any]:
    """How much of a data bus a prefetch engine uses: cycles, so one run is enough."""
    return measure_bus(load_config("chip16x32"), progress)


def bench_links(repeat: int, progress: Progress) -> dict[str, Any]:
    """How much of the links of a ring an all-reduce uses: cycles, so one run is enough."""
    return measure_links(load_config("llm8x16"), progress)


def bench_compile(repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """The compiler: ResNet-50 for 16 and for 256 pods, from nothing and once more."""
    return measure_compilation(AMPLE, repeat, progress)


BENCHES: dict[str, Callable[[int, Progress], Any]] = {
    "start": bench_start,
    "emit": bench_emit,
    "build": bench_build,
    "simulation": bench_simulation,
    "model": bench_model,
    "compile": bench_compile,
    "chip": bench_chip,
    "bus": bench_bus,
    "links": bench_links,
}
BY_NAME = ("compile", "chip", "bus", "links")
"""What takes minutes, or measures no speed: only when asked for."""
ONCE = ("bus", "links")
"""What would be the same again."""


def run_bench(name: str, repeat: int, progress: Progress) -> dict[str, Any]:
    """The figures of one benchmark, or of all, with what they were measured on."""
    toolchain = find_toolchain()
    chosen = {key: bench for key, bench in BENCHES.items() if key not in BY_NAME} if name == "all" else {name: BENCHES[name]}
    return {
        "repeat": repeat,
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "verilator": toolchain.version,
            "compiler": toolchain.compiler,
        },
        "benches": {key: bench(repeat, progress) for key, bench in chosen.items()},
    }
