"""Bench for a chip: epochs of jobs and data go in, bank contents, counters and exact cycle counts come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from podweave.spec.config import ChipConfig
from podweave.spec.errors import network_error_layout
from podweave.spec.layout import bits_for_index
from podweave.spec.load_port import HostSelect, host_address_width, host_beat_width

from .chip_task import ACCESSES, ChipEpoch, ChipRun, Readback
from .design_bench import BuildOptions, DesignBench, Harness, Sidecar


class ChipBench(DesignBench):
    @classmethod
    def of(cls, config: ChipConfig, **options: Any) -> ChipBench:
        """Emit and build the chip of ``config``, also that of an accelerator. ``options``: those of `BuildOptions`."""

        def harness(sidecar: Sidecar) -> Harness:
            parameters = {
                "MANAGERS": config.managers,
                "DATA_BITS": config.host_bits,
                "SELECT_BITS": bits_for_index(len(HostSelect)),
                "UNIT_BITS": bits_for_index(config.nodes_per_manager),
                "ADDRESS_BITS": host_address_width(config),
                "BEAT_BITS": host_beat_width(config),
                "NETWORK_ERROR_BITS": network_error_layout(config).width,
                "READ_LATENCY": config.host_read_latency,
                "ACCESSES": ACCESSES,
            }
            return Harness("chip_harness", ["clk", "rst", "go", "start", "rewind"], parameters)

        return cls(config, *cls.made(config, harness, BuildOptions(**options), top="chip"))

    def run(
        self,
        epochs: Sequence[ChipEpoch],
        *,
        limits: Sequence[int],
        readback: Sequence[Sequence[Readback]] | None = None,
        through: str = "backdoor",
        seed: int = 0,
        waves: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> ChipRun:
        """Load and run epochs one after the other; stops after one with errors.

        ``limits``: cycles after which an epoch that is still busy is given up, one per epoch. ``readback``: what to bring back
        after each. ``through``: "backdoor" loads and reads in bulk, in no simulated time; "port" word by word through the load
        ports.
        """
        if through not in ("backdoor", "port"):
            raise ValueError(f"through must be backdoor or port, got {through!r}")
        regions = [list(each) for each in readback] if readback is not None else [[] for _ in epochs]
        job = {"config": self.config, "epochs": list(epochs), "limits": list(limits), "readback": regions, "through": through}
        began = time.perf_counter()
        run: ChipRun = self.simulated("chip_run", "run_epochs", job, seed=seed, waves=waves, progress=progress)
        run.wall_s["start"] = time.perf_counter() - began - sum(run.wall_s.values())
        return run

    def idle_cycles_per_s(self, cycles: int) -> float:
        """Speed of the free-running clock: no epoch."""
        job = {"config": self.config, "through": "port", "idle": cycles}
        return cycles / self.simulated("chip_run", "run_idle", job)
