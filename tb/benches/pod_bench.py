"""Bench for a pod on its fixed-latency memory: compiled programs go in, results and exact cycle counts come back."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podweave.predict.pod import predicted_spans
from podweave.spec.config import ChipConfig
from podweave.spec.errors import PodError
from podweave.spec.jobs import load_job_layout, stream_job_layout
from podweave.spec.layout import Layout, bits_for_index

from ..build.emission import emitted_verilog
from ..build.simulate import simulate
from ..build.verilate import HARNESS_DIRECTORY, Build, build
from .pod_task import TRACE_CYCLES, PodRun, Task

JOB_CAPACITIES = (1024, 16384, 262144)


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
        verilog, control = emitted_verilog(config)
        seconds = time.perf_counter() - began
        made = build(
            {
                "design.v": alter(verilog) if alter else verilog,
                "pod_harness.sv": (HARNESS_DIRECTORY / "sv" / "pod_harness.sv").read_text(encoding="utf-8"),
            },
            top="pod_harness",
            public_inputs=["clk", "rst", "go", "tracing"],
            control=control,
            parameters=_parameters(config, capacity),
            optimize=optimize,
            random_initial_state=random_initial_state,
            waves=waves,
            progress=progress,
        )
        return cls(config, made, seconds, capacity)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        lockstep: bool = False,
        seed: int = 0,
        waves: Path | None = None,
        reset_at: int | None = None,
        corrupt: dict[str, Any] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> list[PodRun]:
        """Run programs in RTL, one after the other in one simulation.

        ``lockstep`` holds every output port against the cycle model in every cycle and raises `SimulationError` at the first
        difference. ``reset_at``: reset the pod that many cycles into the first epoch, then start over. ``corrupt``: flip one
        bit of what the checker sees ({"port", "cycle", "lane", "bit"}), which must make it fail.
        """
        job = {
            "tasks": [(task, predicted_spans(task.program)) for task in tasks],
            "jobs": self.jobs,
            "lockstep": lockstep,
            "reset_at": reset_at,
            "corrupt": corrupt,
            "waves": waves is not None,
        }
        began = time.perf_counter()
        runs: list[PodRun] = self._simulate("run_programs", job, seed=seed, waves=waves, progress=progress)
        inside = sum(sum(run.wall_s.values()) for run in runs)
        runs[0].wall_s["start"] = time.perf_counter() - began - inside
        return runs

    def idle_cycles_per_s(self, cycles: int) -> float:
        """Speed of the free-running clock: no job, no trace, no check."""
        job = {"tasks": [], "jobs": self.jobs, "lockstep": False, "waves": False, "idle": cycles}
        return cycles / self._simulate("run_idle", job)

    def _simulate(
        self,
        test: str,
        job: dict[str, Any],
        *,
        seed: int = 0,
        waves: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Any:
        with tempfile.TemporaryDirectory(prefix="podweave-run-") as name:
            directory = Path(name)
            with (directory / "job.pickle").open("wb") as handle:
                pickle.dump(job, handle)
            plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]
            simulate(
                self.build,
                "podweave.tb.sim.pod_run",
                directory,
                test=test,
                seed=seed,
                plusargs=plusargs,
                waves=waves,
                progress=progress,
            )
            with (directory / "outcome.pickle").open("rb") as handle:
                return pickle.load(handle)


def _parameters(config: ChipConfig, jobs: int) -> dict[str, int]:
    array, memory = config.array, config.memory
    layouts: tuple[Layout, Layout] = (load_job_layout(config), stream_job_layout(config))
    return {
        "ROWS": array.rows,
        "COLS": array.cols,
        "PSUM": array.psum_width,
        "LATENCY": config.read_latency,
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
