"""Bench for lockstep of a prefetch engine on a channel of HBM: inputs scripted cycle by cycle, all ports traced."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.prefetch.prefetch_engine import PrefetchEngine
from podweave.spec.config import ChipConfig

from ..benches.block_bench import BlockBench, BlockRun
from ..build.verilate import HARNESS_DIRECTORY
from ..lockstep.ports import Port

DEPTH = 16384
"""Most cycles of a run."""


@dataclass(frozen=True)
class PrefetchLockstep:
    """An engine, its memory, and a chip whose words are a function of where they are read (`chip_data`)."""

    config: ChipConfig
    bench: BlockBench

    @classmethod
    def of(cls, config: ChipConfig, *, alter: Callable[[str], str] | None = None) -> PrefetchLockstep:
        """Emit and build. ``alter`` changes the emitted Verilog: how a test plants a fault."""
        prefetch = config.prefetch
        assert prefetch is not None
        emitted = emit_block(PrefetchEngine(config))
        ports = [port for port in emitted.sidecar["ports"] if port["name"] not in ("clk", "rst")]
        wires: list[tuple[str, Port, bool]] = []
        inputs: list[Port] = []
        outputs: list[Port] = []
        for port in ports:
            name, width = port["name"], port["width"]
            lane = prefetch.address_width if name == "bases" else {"data": 32, "strb": 1}.get(name[-4:], 0)
            made = Port(name, lane, width // lane) if lane else Port(name, width)
            # What the memory says to the engine is an output of the bench as much as what the engine says.
            driven = port["direction"] == "input" and not name.startswith("m_axi_") and name != "host_read_data"
            (inputs if driven else outputs).append(made)
            wires.append((name, made, driven))
        outputs.append(Port("violation", 6))
        sources = {
            "design.v": alter(emitted.verilog) if alter else emitted.verilog,
            "hbm_channel.sv": (HARNESS_DIRECTORY / "sv" / "hbm_channel.sv").read_text(encoding="utf-8"),
            "prefetch_system.sv": _system(config, emitted.top, wires),
        }
        bench = BlockBench.of_sources(
            "prefetch_system", sources, inputs, outputs, control=emitted.control, random_initial_state=True, depth=DEPTH
        )
        return cls(config, bench)

    def run(
        self, stimulus: Mapping[str, NDArray], memory: NDArray[np.uint8], table: NDArray[np.uint32], *, seed: int = 0
    ) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.uint8]]:
        """Ports in every cycle, and the memory afterwards. ``memory``: bytes from address 0 on; ``table``: `HbmTiming.table`."""
        return self.run_all([(stimulus, memory, table)], seed=seed)[0]

    def run_all(
        self, runs: Sequence[tuple[Mapping[str, NDArray], NDArray[np.uint8], NDArray[np.uint32]]], *, seed: int = 0
    ) -> list[tuple[dict[str, NDArray[np.int64]], NDArray[np.uint8]]]:
        """What `run` gives, of several in one simulation, each from a reset on."""
        with tempfile.TemporaryDirectory(prefix="podweave-prefetch-") as name:
            paths = [Path(name) / f"memory{index}.bin" for index in range(len(runs))]
            made = []
            for path, (stimulus, memory, table) in zip(paths, runs, strict=True):
                memory.tofile(path)
                made.append(BlockRun(stimulus, path, {"dut.memory": table}))
            observed = self.bench.run_all(made, seed=seed)
            return [(each, np.fromfile(path, np.uint8)) for each, path in zip(observed, paths, strict=True)]


def chip_data(
    bits: int, select: int, unit: NDArray[np.int64], address: NDArray[np.int64], beat: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """What host reads find in the bench: (n, bytes of a beat)."""
    where = ((address << 16) ^ (beat << 8) ^ (unit << 4) ^ select).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    lanes = np.arange(1, bits // 32 + 1, dtype=np.uint64)
    found = where[:, None] * np.uint64(0x9E3779B1) + lanes * np.uint64(0x01000193)
    return (found & np.uint64(0xFFFFFFFF)).astype("<u4").view(np.uint8).reshape(len(unit), -1)


def _system(config: ChipConfig, engine: str, wires: list[tuple[str, Port, bool]]) -> str:
    assert config.prefetch is not None
    declared = ",\n".join(f"  {'input' if driven else 'output'} wire [{p.bits - 1}:0] {name}" for name, p, driven in wires)
    connected = ", ".join(f".{name}({name})" for name, _, _ in wires)
    names = [name.removeprefix("m_axi_") for name, _, _ in wires if name.startswith("m_axi_")]
    memory = ", ".join(f".{name}(m_axi_{name})" for name in names)
    latency, bits, newline = config.host_read_latency, config.host_bits, "\n"
    lane = "    answer[0][{} +: 32] <= reads ? where * 32'h9E3779B1 + 32'd{} * 32'h01000193 : 0;"
    lanes = newline.join(lane.format(32 * i, i + 1) for i in range(bits // 32))
    return f"""\
module prefetch_system(
  input wire clk,
  input wire rst,
{declared},
  output wire [5:0] violation
);
  {engine} engine(.clk(clk), .rst(rst), {connected});
  hbm_channel #(.DATA_WIDTH({config.prefetch.data_width}), .ADDRESS_WIDTH({config.prefetch.address_width}), .ID_WIDTH(1))
    memory(.clk(clk), .rst(rst), .restart(start & ~rst), .violation(violation), {memory});

  // A read in cycle t is answered in cycle t + {latency}.
  wire reads = host_valid & ~host_write & ~rst;
  wire [31:0] where = (32'(host_address) << 16) ^ (32'(host_beat) << 8) ^ (32'(host_unit) << 4) ^ 32'(host_select);
  logic [{bits - 1}:0] answer [0:{latency - 1}];
  assign host_read_data = answer[{latency - 1}];
  always_ff @(posedge clk) begin
{lanes}
    for (int i = 1; i < {latency}; i++) answer[i] <= rst ? 0 : answer[i-1];
  end
endmodule
"""
