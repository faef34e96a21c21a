"""Bench for a pod on its fixed-latency memory: compiled programs go in, results and exact cycle counts come back."""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.program import Program
from golden.cycle.pod_control import PodGeometry
from golden.timing import Span, pod_span
from rtl.config import ChipConfig
from rtl.emit import emit
from rtl.layouts import Emit, Layout, PodError, bits_for_index, load_job_layout, stream_job_layout

from .build import HARNESS_DIRECTORY, Build, build
from .simulate import simulate

TRACE_CYCLES = 16384
JOB_CAPACITIES = (1024, 16384, 262144)


@dataclass(frozen=True)
class PodRun:
    """What the RTL did with a program.

    ``result``: NHWC int32. ``cycles``: of all epochs, each from the first word requested to the last written. ``counters``: per
    epoch. ``compared``: port values held against the cycle model (lockstep only). ``wall_s``: by phase.
    """

    result: NDArray[np.int32]
    cycles: int
    epoch_cycles: list[int]
    counters: list[dict[str, int]]
    errors: list[str]
    simulated_cycles: int
    compared: int
    wall_s: dict[str, float] = field(default_factory=dict)


def geometry_of(config: ChipConfig) -> PodGeometry:
    """The sizes that the cycle model of a pod needs."""
    array, pod, memory = config.array, config.pod, config.memory
    return PodGeometry(
        rows=array.rows,
        cols=array.cols,
        row_groups=array.row_groups,
        col_groups=array.col_groups,
        psum_width=array.psum_width,
        accumulator_rows=pod.accumulator_rows,
        load_queue_depth=pod.load_queue_depth,
        stream_queue_depth=pod.stream_queue_depth,
        time_width=pod.time_width,
        banks=memory.banks,
        planes=memory.planes,
        x_words=memory.x_words,
        w_words=memory.w_words,
        p_words=memory.p_words,
        latency=memory.latency,
    )


def predicted_spans(program: Program) -> list[Span]:
    """The exact span of every epoch of a program, without RTL."""
    config = program.config
    return [
        pod_span(
            epoch.loads["start"],
            epoch.streams["start"],
            epoch.words_streamed,
            epoch.streams["emit"] != Emit.NONE,
            latency=config.memory.latency,
            row_groups=config.array.row_groups,
            col_groups=config.array.col_groups,
        )
        for epoch in program.epochs
    ]


@dataclass(frozen=True)
class PodBench:
    config: ChipConfig
    build: Build
    emit_seconds: float
    jobs: int

    @classmethod
    def of(
        cls,
        config: ChipConfig,
        *,
        jobs: int = JOB_CAPACITIES[0],
        optimize: str = "speed",
        random_initial_state: bool = False,
        waves: bool = False,
        alter: Callable[[str], str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> PodBench:
        """Emit and build the pod of ``config`` with a program store of at least ``jobs`` jobs.

        ``alter`` changes the emitted Verilog: how a test plants a fault.
        """
        capacity = next((size for size in JOB_CAPACITIES if size >= jobs), jobs)
        began = time.perf_counter()
        emitted = emit(config)
        seconds = time.perf_counter() - began
        made = build(
            {
                "design.v": alter(emitted.verilog) if alter else emitted.verilog,
                "pod_harness.sv": (HARNESS_DIRECTORY / "sv" / "pod_harness.sv").read_text(),
            },
            top="pod_harness",
            public_inputs=["clk", "rst", "go", "tracing"],
            control=emitted.control,
            parameters=_parameters(config, capacity),
            optimize=optimize,
            random_initial_state=random_initial_state,
            waves=waves,
            progress=progress,
        )
        return cls(config, made, seconds, capacity)

    def run(
        self,
        program: Program,
        activations: NDArray[np.int8],
        weights: NDArray[np.int8],
        *,
        lockstep: bool = False,
        seed: int = 0,
        waves: Path | None = None,
        reset_at: int | None = None,
        corrupt: dict[str, Any] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> PodRun:
        """Run every epoch of ``program`` in RTL.

        ``lockstep`` holds every output port against the cycle model in every cycle and raises `SimulationError` at the first
        difference. ``reset_at``: reset the pod that many cycles into the first epoch, then start over. ``corrupt``: flip one
        bit of what a checker sees ({"port", "cycle", "lane", "bit"}), which must make it fail.
        """
        with tempfile.TemporaryDirectory(prefix="podweave-run-") as name:
            directory = Path(name)
            with (directory / "task.pickle").open("wb") as handle:
                task = {
                    "program": program,
                    "activations": activations,
                    "weights": weights,
                    "jobs": self.jobs,
                    "lockstep": lockstep,
                    "reset_at": reset_at,
                    "corrupt": corrupt,
                    "spans": predicted_spans(program),
                }
                pickle.dump(task, handle)
            if progress:
                progress("simulating")
            began = time.perf_counter()
            plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 + 1}"]
            simulate(self.build, "tb.sim.pod_run", directory, seed=seed, plusargs=plusargs, waves=waves)
            whole = time.perf_counter() - began
            outcome = json.loads((directory / "outcome.json").read_text())
            result = np.load(directory / "result.npy")
        wall = {"simulate": outcome["simulate_s"], "check": outcome["check_s"]}
        wall["start"] = whole - wall["simulate"] - wall["check"]
        return PodRun(
            result=result,
            cycles=sum(outcome["epoch_cycles"]),
            epoch_cycles=outcome["epoch_cycles"],
            counters=outcome["counters"],
            errors=outcome["errors"],
            simulated_cycles=outcome["simulated_cycles"],
            compared=outcome["compared"],
            wall_s=wall,
        )


def _parameters(config: ChipConfig, jobs: int) -> dict[str, int]:
    array, memory = config.array, config.memory
    layouts: tuple[Layout, Layout] = (load_job_layout(config), stream_job_layout(config))
    return {
        "ROWS": array.rows,
        "COLS": array.cols,
        "PSUM": array.psum_width,
        "LATENCY": memory.latency,
        "BANKS": memory.banks,
        "BANK_BITS": bits_for_index(memory.banks),
        "PLANE_BITS": bits_for_index(memory.planes),
        "X_WORDS": memory.x_words,
        "W_WORDS": memory.w_words,
        "P_WORDS": memory.p_words,
        "X_BITS": bits_for_index(memory.x_words),
        "W_BITS": bits_for_index(memory.w_words),
        "P_BITS": bits_for_index(memory.p_words),
        "TIME_BITS": config.pod.time_width,
        "ERROR_BITS": len(PodError),
        "LOAD_BITS": layouts[0].width,
        "STREAM_BITS": layouts[1].width,
        "JOBS": jobs,
        "TRACE_CYCLES": TRACE_CYCLES,
    }


