"""Bench of a prefetch engine: memory on one side, a recording of every port in every cycle on the other."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.prefetch.prefetch_engine import PrefetchEngine
from podweave.spec.config import ChipConfig

from ..build.simulate import simulate
from ..build.verilate import HARNESS_DIRECTORY, Build, build
from ..lockstep.prefetch_expected import Descriptor

ROWS = 1 << 15
MEMORY_BYTES = 1 << 21
_FLAGS = (
    *("arvalid", "arready", "awvalid", "awready", "wvalid", "wlast", "wready", "rvalid", "rlast", "rready", "bvalid", "bready"),
    *("host_valid", "host_write", "host_commit", "host_broadcast", "quiet"),
    *("stall_gate", "stall_cap", "stall_gap", "stall_buffer", "stall_bus", "rst", "read_beat", "write_beat", "error_ring"),
    *("stop", "start", "gap"),
)
SETTINGS = (
    *("latency", "stall_ar", "stall_r", "stall_aw", "stall_w", "stall_b", "seed", "epoch_cycles"),
    *("error_first", "error_beyond", "error_response", "aw_after_w", "epochs"),
)
"""Of the memory and the epochs of the harness, in the order of its table."""
INPUTS = (
    *("start", "stop", "enable", "cap", "memory_bytes", "epochs_given", "gap_given", "demand_base", "prefetch_base"),
    *("demand_size", "prefetch_size", "demand_tail", "prefetch_tail", "cancel_valid", "cancel_tag"),
)
_AXI_OUTPUTS = ("id", "addr", "len", "size", "burst", "valid", "ready")
_AXI = (
    *(f"m_axi_{channel}{name}" for channel in ("aw", "ar") for name in _AXI_OUTPUTS),
    *(f"m_axi_w{name}" for name in ("data", "strb", "last", "valid", "ready")),
    *(f"m_axi_b{name}" for name in ("id", "resp", "valid", "ready")),
    *(f"m_axi_r{name}" for name in ("id", "data", "resp", "last", "valid", "ready")),
)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Set ``inputs``, then go on for ``cycles``; with ``until_quiet``, only until it stays quiet."""

    inputs: Mapping[str, int] = field(default_factory=dict)
    cycles: int = 1
    until_quiet: bool = False
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A run from a reset on. ``settings`` of the harness by name (`SETTINGS`); ``errors``: for the outside memory, (first, beyond,
    response); ``stalls``: chance that one of its channels stalls in a cycle."""

    memory: NDArray[np.uint8]
    phases: Sequence[Phase]
    settings: Mapping[str, int] = field(default_factory=dict)
    stalls: float = 0.0
    errors: Sequence[tuple[int, int, int]] = ()


@dataclass(frozen=True)
class Recording:
    """``rows``: every port in every cycle, by name, from the first cycle after the reset on; ``memory``: as it was left."""

    rows: NDArray
    memory: NDArray[np.uint8]

    @property
    def accesses(self) -> NDArray:
        return self.rows[self.rows["host_valid"] == 1]


def start_phases(
    demand: Sequence[Descriptor], prefetch: Sequence[Descriptor], bases: tuple[int, int], cycles: int, **inputs: int
) -> list[Phase]:
    """Start with all descriptors published, in rings that just hold them, and go on until quiet."""
    given = {
        **{"enable": 1, "gap_given": 1, "epochs_given": 0, "cap": 0, "memory_bytes": MEMORY_BYTES, "stop": 0, "cancel_valid": 0},
        **{"demand_base": bases[0], "prefetch_base": bases[1], "demand_size": max(1, len(demand))},
        **{"prefetch_size": max(1, len(prefetch)), "demand_tail": len(demand), "prefetch_tail": len(prefetch)},
        **inputs,
    }
    return [Phase(inputs={**given, "start": 1}), Phase(inputs={"start": 0}, cycles=cycles, until_quiet=True)]


@dataclass(frozen=True)
class PrefetchBench:
    """A built harness (tb/sv/prefetch_harness.sv) with the engine of a configuration."""

    config: ChipConfig
    build: Build

    @classmethod
    def of(cls, config: ChipConfig, *, random_initial_state: bool = False, optimize: str = "build") -> PrefetchBench:
        engine = PrefetchEngine(config)
        emitted = emit_block(engine)
        ports = {port["name"]: port["width"] for port in emitted.sidecar["ports"]}
        parameters = {
            "DATA": config.host_bits,
            "ADDRESS": ports["m_axi_araddr"],
            "HOST_ADDRESS": ports["host_address"],
            "HOST_BEAT": ports["host_beat"],
            "HOST_UNIT": ports["host_unit"],
            "READ_LATENCY": config.host_read_latency,
            "MEMORY_BEATS": MEMORY_BYTES // (config.host_bits // 8),
            "ROWS": ROWS,
        }
        harness = (HARNESS_DIRECTORY / "sv" / "prefetch_harness.sv").read_text(encoding="utf-8")
        made = build(
            {"design.v": emitted.verilog, "harness.sv": harness},
            top="prefetch_harness",
            public_inputs=["clk", "rst", "internal", "settled", *INPUTS, *_AXI],
            control=emitted.control,
            parameters=parameters,
            optimize=optimize,
            random_initial_state=random_initial_state,
        )
        return cls(config, made)

    def run(self, scenarios: Sequence[Scenario], *, seed: int = 0, outside: bool = False) -> list[Recording]:
        """Run each of ``scenarios``. ``outside``: the memory is that of cocotbext-axi, not that of the harness."""
        with tempfile.TemporaryDirectory(prefix="podweave-prefetch-") as name:
            directory = Path(name)
            tasks = []
            for i, scenario in enumerate(scenarios):
                np.save(directory / f"memory_{i}.npy", scenario.memory)
                settings = {"latency": 8, "seed": seed * 977 + i + 1, **scenario.settings}
                tasks.append(
                    {
                        "settings": [settings.get(name, 0) for name in SETTINGS],
                        "phases": [dataclasses.asdict(phase) for phase in scenario.phases],
                        "stalls": scenario.stalls,
                        "errors": list(scenario.errors),
                        "seed": seed * 977 + i,
                    }
                )
            widths = [576 + 3 * self.config.host_bits, self.config.host_bits]
            depths = [ROWS, MEMORY_BYTES // (self.config.host_bits // 8)]
            task = {"scenarios": tasks, "widths": widths, "depths": depths, "inputs": INPUTS}
            (directory / "task.json").write_text(json.dumps(task), encoding="utf-8")
            module = "podweave.tb.sim.prefetch_axi" if outside else "podweave.tb.sim.prefetch_run"
            plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]
            simulate(self.build, module, directory, seed=seed, plusargs=plusargs)
            return [self._recording(directory, i, len(scenario.memory)) for i, scenario in enumerate(scenarios)]

    def _recording(self, directory: Path, i: int, memory_bytes: int) -> Recording:
        raw = np.load(directory / f"rows_{i}.npy")
        if len(raw) == ROWS:
            raise RuntimeError(f"scenario {i} took more than the {ROWS} cycles that the harness records")
        rows = raw.view(_row_dtype(self.config.host_bits // 8))[:, 0]
        return Recording(_unpacked(rows), np.load(directory / f"memory_after_{i}.npy")[:memory_bytes])


def _row_dtype(beat: int) -> np.dtype[Any]:
    names = (
        *(("flags", "<u4"), ("rresp", "u1"), ("bresp", "u1"), ("unused", "<u2")),
        *((name, "u1") for name in ("arsize", "awsize", "arburst", "awburst", "arlen", "awlen", "read_class", "error")),
        *(("host_select", "u1"), ("host_unit", "u1"), ("host_beat", "<u2"), ("host_address", "<u4")),
        *((name, "<u2") for name in ("demand_complete", "prefetch_complete", "epochs_done", "error_tag")),
        *((name, "<u8") for name in ("araddr", "awaddr", "wstrb", "error_address", "unconsumed")),
        *((name, "u1", (beat,)) for name in ("wdata", "rdata", "host_data")),
    )
    return np.dtype(list(names))


def _unpacked(rows: NDArray) -> NDArray:
    """The same with a field for each flag."""
    assert rows.dtype.names is not None
    kept = [name for name in rows.dtype.names if name not in ("flags", "unused")]
    found = np.zeros(len(rows), np.dtype([*((name, rows.dtype[name]) for name in kept), *((name, "u1") for name in _FLAGS)]))
    for name in kept:
        found[name] = rows[name]
    for i, name in enumerate(_FLAGS):
        found[name] = rows["flags"] >> i & 1
    return found
