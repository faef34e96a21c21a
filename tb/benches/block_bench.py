"""Bench for one block: a table of inputs goes in, one row per cycle; a table of all outputs comes back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import Block

from ..build.simulate import simulate
from ..build.verilate import Build, build
from ..lockstep.ports import LockstepError, Port, compared, first_mismatch
from .storage import stride

MAX_CYCLES = 4096


@dataclass(frozen=True)
class BlockRun:
    """A run of a block, from a reset on.

    Parameters
    ----------
    stimulus : mapping of str to array
        By input port, its values per cycle.
    memory : Path, optional
        The file that is the memory of channels of HBM.
    tables : mapping of str to array
        By the names of instances, what they find in their ``settings`` (`HbmTiming.table`, `LinkTiming.table`).
    """

    stimulus: Mapping[str, NDArray]
    memory: Path | None = None
    tables: Mapping[str, NDArray[np.uint32]] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        return len(next(iter(self.stimulus.values())))


@dataclass(frozen=True)
class BlockBench:
    """A built block, ready to be driven. ``inputs``, ``outputs``: its ports in trace order. ``depth``: most cycles of a run."""

    name: str
    build: Build
    inputs: list[Port]
    outputs: list[Port]
    depth: int = MAX_CYCLES

    @classmethod
    def of(
        cls,
        block: Block,
        lanes: Mapping[str, tuple[int, int, bool]],
        *,
        random_initial_state: bool = False,
        alter: Callable[[str], str] = lambda verilog: verilog,
        depth: int = MAX_CYCLES,
    ) -> BlockBench:
        """Emit and build ``block``. ``lanes`` gives (width, count, signed) of ports that are more than one value.

        ``alter`` changes the emitted Verilog: how a test plants a fault. ``depth``: most cycles of a run.
        """
        emitted = emit_block(block)
        ports: dict[str, list[Port]] = {"input": [], "output": []}
        for port in emitted.sidecar["ports"]:
            if port["name"] in ("clk", "rst"):
                continue
            width, count, signed = lanes.get(port["name"], (port["width"], 0, False))
            if width * max(1, count) != port["width"]:
                raise ValueError(f"port {port['name']} has {port['width']} bits, not {count} lanes of {width}")
            ports[port["direction"]].append(Port(port["name"], width, count, signed))
        return cls.of_sources(
            emitted.top,
            {"design.v": alter(emitted.verilog)},
            ports["input"],
            ports["output"],
            control=emitted.control,
            random_initial_state=random_initial_state,
            depth=depth,
        )

    @classmethod
    def of_sources(
        cls,
        top: str,
        sources: Mapping[str, str],
        inputs: list[Port],
        outputs: list[Port],
        *,
        control: str = "",
        random_initial_state: bool = False,
        depth: int = MAX_CYCLES,
    ) -> BlockBench:
        """Build module ``top`` of ``sources`` (file name -> text), which has these ports beside ``clk`` and ``rst``."""
        made = build(
            {**sources, "harness.sv": _harness(top, inputs, outputs, depth)},
            top="block_harness",
            public_inputs=["clk", "rst"],
            control=control,
            optimize="build",
            random_initial_state=random_initial_state,
        )
        return cls(top, made, inputs, outputs, depth)

    def run(
        self,
        stimulus: Mapping[str, NDArray],
        *,
        seed: int = 0,
        reset: bool = True,
        reset_at: int | None = None,
        memory: Path | None = None,
        tables: Mapping[str, NDArray[np.uint32]] | None = None,
    ) -> dict[str, NDArray[np.int64]]:
        """Drive ``stimulus`` (port -> values per cycle) after a reset; returns the outputs in each cycle.

        With ``reset_at``, the block runs that many cycles first, is reset, and starts over; without ``reset``, it never is, and
        begins in whatever state its registers have. ``seed`` chooses the initial state of a bench built with a random one.
        ``memory``, ``tables``: as of a `BlockRun`.
        """
        return self.run_all([BlockRun(stimulus, memory, tables or {})], seed=seed, reset=reset, reset_at=reset_at)[0]

    def run_all(
        self, runs: Sequence[BlockRun], *, seed: int = 0, reset: bool = True, reset_at: int | None = None
    ) -> list[dict[str, NDArray[np.int64]]]:
        """The outputs of each of some runs in one simulation: before each there is a reset of what the one before has left."""
        for run in runs:
            if run.cycles > self.depth:
                raise ValueError(f"this block bench holds {self.depth} cycles, got {run.cycles}")
        with tempfile.TemporaryDirectory(prefix="podweave-block-") as name:
            directory = Path(name)
            widths = [_row_bits(ports) for ports in (self.inputs, self.outputs)]
            task: dict[str, Any] = {"reset": reset, "reset_at": reset_at, "depth": self.depth, "widths": widths, "runs": []}
            for index, run in enumerate(runs):
                packed = [port.pack(run.stimulus[port.name]) for port in self.inputs]
                used = sum(port.bytes for port in self.inputs)
                unused = np.zeros((run.cycles, stride(widths[0]) - used), np.uint8)
                (directory / f"stimulus{index}").write_bytes(np.concatenate([*packed, unused], axis=1).tobytes())
                tables = {f"block_harness.{name}": table.tolist() for name, table in run.tables.items()}
                task["runs"].append({"tables": tables, "memory": str(run.memory.resolve()) if run.memory else None})
            (directory / "task.json").write_text(json.dumps(task), encoding="utf-8")
            plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]
            simulate(self.build, "podweave.tb.sim.block_run", directory, seed=seed, plusargs=plusargs)
            traces = [np.fromfile(directory / f"trace{index}", np.uint8) for index in range(len(runs))]
            return [self._observed(trace.reshape(-1, stride(widths[1]))) for trace in traces]

    def _observed(self, trace: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
        observed, offset = {}, 0
        for port in self.outputs:
            observed[port.name] = port.unpack(trace[:, offset : offset + port.bytes])
            offset += port.bytes
        return observed

    def check(self, expected: dict[str, PortTrace], observed: Mapping[str, NDArray[np.int64]]) -> int:
        """Hold every output against the model; returns how many values were compared."""
        missing = {port.name for port in self.outputs} - set(expected)
        if missing:
            raise ValueError(f"the model of {self.name} says nothing of ports {sorted(missing)}")
        mismatch = first_mismatch(expected, dict(observed))
        if mismatch:
            raise LockstepError(self.name, mismatch)
        return compared(expected, len(next(iter(observed.values()))))


def _row_bits(ports: list[Port]) -> int:
    # More than 64 bits, so that every row is an array of 32-bit words in the simulator.
    return max(96, 32 * ((8 * sum(port.bytes for port in ports) + 31) // 32))


def _harness(top: str, inputs: list[Port], outputs: list[Port], depth: int) -> str:
    connections, wires, traced, offset = [], [], [], 0
    for port in inputs:
        connections.append(f".{port.name}(now[{offset} +: {port.bits}])")
        offset += 8 * port.bytes
    for port in outputs:
        wires.append(f"  wire [{port.bits - 1}:0] out_{port.name};")
        connections.append(f".{port.name}(out_{port.name})")
        padding = 8 * port.bytes - port.bits
        traced.append(f"{{{padding}'b0, out_{port.name}}}" if padding else f"out_{port.name}")
    stimulus_bits, trace_bits = _row_bits(inputs), _row_bits(outputs)
    newline = "\n"
    return f"""\
module block_harness(input logic clk, input logic rst);
  logic [{stimulus_bits - 1}:0] stimulus [0:{depth - 1}] /*verilator public_flat_rw*/;
  logic [{trace_bits - 1}:0] trace [0:{depth - 1}] /*verilator public_flat_rw*/;
  logic [31:0] cycle = 0;
  wire [{stimulus_bits - 1}:0] now = stimulus[cycle];
{newline.join(wires)}
  {top} dut(.clk(clk), .rst(rst), {", ".join(connections)});
  always_ff @(posedge clk)
    if (rst) cycle <= 0;
    else begin
      trace[cycle] <= {trace_bits}'({{{", ".join(reversed(traced))}}});
      cycle <= cycle + 1;
    end
endmodule
"""
