"""Bench for a chip: epochs of jobs and data go in, bank contents, counters and exact cycle counts come back."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podweave.spec.config import ChipConfig
from podweave.spec.errors import network_error_layout
from podweave.spec.layout import bits_for_index
from podweave.spec.load_port import HostSelect, host_address_width, host_beat_width

from ..build.emission import emitted_design
from ..build.simulate import simulate
from ..build.verilate import HARNESS_DIRECTORY, Build, build
from .chip_task import ACCESSES, ChipEpoch, ChipRun, Readback

HIERARCHICAL_FROM = 2048
"""Multipliers of a chip from which its repeated blocks are verilated on their own: below, one model builds faster."""


@dataclass(frozen=True)
class ChipBench:
    config: ChipConfig
    build: Build
    emit_seconds: float

    @classmethod
    def of(
        cls,
        config: ChipConfig,
        *,
        hierarchical: bool | None = None,
        optimize: str = "speed",
        random_initial_state: bool = False,
        waves: bool = False,
        alter: Callable[[str], str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> ChipBench:
        """Emit and build the chip of ``config``.

        ``hierarchical``: verilate nodes and blocks of networks once each; None leaves it to the size. ``alter`` changes the
        emitted Verilog: how a test plants a fault.
        """
        began = time.perf_counter()
        verilog, control, sidecar = emitted_design(config, top="chip")
        seconds = time.perf_counter() - began
        made = build(
            {
                "design.v": alter(verilog) if alter else verilog,
                "chip_harness.sv": (HARNESS_DIRECTORY / "sv" / "chip_harness.sv").read_text(encoding="utf-8"),
            },
            top="chip_harness",
            public_inputs=["clk", "rst", "go", "start", "rewind"],
            control=control + public_arrays(sidecar),
            parameters={
                "MANAGERS": config.managers,
                "DATA_BITS": config.host_bits,
                "SELECT_BITS": bits_for_index(len(HostSelect)),
                "UNIT_BITS": bits_for_index(config.nodes_per_manager),
                "ADDRESS_BITS": host_address_width(config),
                "BEAT_BITS": host_beat_width(config),
                "NETWORK_ERROR_BITS": network_error_layout(config).width,
                "READ_LATENCY": config.host_read_latency,
                "ACCESSES": ACCESSES,
            },
            optimize=optimize,
            random_initial_state=random_initial_state,
            waves=waves,
            hierarchical=hierarchical_blocks(config, sidecar, hierarchical),
            progress=progress,
        )
        return cls(config, made, seconds)

    def run(
        self,
        epochs: Sequence[ChipEpoch],
        *,
        limits: Sequence[int],
        readback: Sequence[Sequence[Readback]] | None = None,
        host: str = "backdoor",
        seed: int = 0,
        waves: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> ChipRun:
        """Load and run epochs one after the other; stops after one with errors.

        ``limits``: cycles after which an epoch that is still busy is given up, one per epoch. ``readback``: what to bring back
        after each. ``host``: "backdoor" loads and reads in bulk, in no simulated time; "port" word by word through the load ports.
        """
        if host not in ("backdoor", "port"):
            raise ValueError(f"host must be backdoor or port, got {host!r}")
        regions = [list(each) for each in readback] if readback is not None else [[] for _ in epochs]
        job = {"config": self.config, "epochs": list(epochs), "limits": list(limits), "readback": regions, "host": host}
        began = time.perf_counter()
        run: ChipRun = self._simulate("run_epochs", job, seed=seed, waves=waves, progress=progress)
        run.wall_s["start"] = time.perf_counter() - began - sum(run.wall_s.values())
        return run

    def idle_cycles_per_s(self, cycles: int) -> float:
        """Speed of the free-running clock: no epoch."""
        job = {"config": self.config, "host": "port", "idle": cycles}
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
        with tempfile.TemporaryDirectory(prefix="podweave-chip-") as name:
            directory = Path(name)
            with (directory / "job.pickle").open("wb") as handle:
                pickle.dump(job | {"waves": waves is not None}, handle)
            plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]
            simulate(
                self.build,
                "podweave.tb.sim.chip_run",
                directory,
                test=test,
                seed=seed,
                plusargs=plusargs,
                waves=waves,
                progress=progress,
            )
            with (directory / "outcome.pickle").open("rb") as handle:
                return pickle.load(handle)


def hierarchical_blocks(config: ChipConfig, sidecar: dict[str, Any], hierarchical: bool | None) -> list[str]:
    """Modules of a chip to verilate on their own; none if ``hierarchical`` is False, or None for a small chip."""
    if hierarchical is None:
        hierarchical = config.pods * config.array.multipliers >= HIERARCHICAL_FROM
    instances = sidecar["modules"]["chip"]["instances"]
    return [name for name, count in instances.items() if count > 1] if hierarchical else []


def public_arrays(sidecar: dict[str, Any]) -> str:
    """Lines of a control file for the arrays that a bench reaches past the ports."""
    variables = {"sram": "words", "lookup_table": "words", "counters": "values"}
    kinds = {name: module["kind"] for name, module in sidecar["modules"].items()}
    return "".join(
        f'public_flat_rw -module "{name}" -var "{variables[kind]}"\n' for name, kind in kinds.items() if kind in variables
    )
