"""Bench for a pod on its fixed-latency memory: compiled programs go in, results and exact cycle counts come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podweave.predict.pod import predicted_spans
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import bits
from podweave.spec.errors import PodError
from podweave.spec.jobs import load_job_layout, stream_job_layout
from podweave.spec.layout import Layout, bits_for_index

from .design_bench import BuildOptions, DesignBench, Harness
from .pod_task import TRACE_CYCLES, PodRun, Task

JOB_CAPACITIES = (1024, 16384, 262144)


@dataclass(frozen=True)
class PodBench(DesignBench):
    """``jobs``: those that the program store of the harness holds."""

    jobs: int

    @classmethod
    def of(cls, config: ChipConfig, *, jobs: int = JOB_CAPACITIES[0], **options: Any) -> PodBench:
        """Emit and build the pod of ``config`` with a program store of at least ``jobs`` jobs.

        ``options``: those of `BuildOptions`.
        """
        capacity = next((size for size in JOB_CAPACITIES if size >= jobs), jobs)
        harness = Harness("pod_harness", ["clk", "rst", "go", "tracing"], _parameters(config, capacity))
        return cls(config, *cls.made(config, lambda _: harness, BuildOptions(**options)), capacity)

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
        }
        began = time.perf_counter()
        runs: list[PodRun] = self.simulated("pod_run", "run_programs", job, seed=seed, waves=waves, progress=progress)
        inside = sum(sum(run.wall_s.values()) for run in runs)
        runs[0].wall_s["start"] = time.perf_counter() - began - inside
        return runs

    def idle_cycles_per_s(self, cycles: int) -> float:
        """Speed of the free-running clock: no job, no trace, no check."""
        job = {"tasks": [], "jobs": self.jobs, "lockstep": False, "idle": cycles}
        return cycles / self.simulated("pod_run", "run_idle", job)


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
        "X_PLANE_BITS": bits(memory.x_planes),
        "W_PLANE_BITS": bits(memory.w_planes),
        "P_PLANE_BITS": bits(memory.p_planes),
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
