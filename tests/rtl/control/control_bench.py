"""Bench for the parts of the control: run control, performance counters and node window in one build, each driven by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib.wiring import Out
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.control.node_window import NodeWindow
from podweave.rtl.control.run_control import RunControl
from podweave.rtl.control.run_counters import RunCounters
from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.parts.wired_block import WiredBlock
from podweave.spec.config import ChipConfig
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError, Port, compared, first_mismatch

# Names of ports that have one lane per manager.
_OF_MANAGERS = {
    "run_control": r"(demand|prefetch)_(base|size|complete)|quiet|engine_(error|cancel)",
    "performance": r"(read|write)_(beat|class)|stall_\w+|unconsumed",
    "node_window": r"(engine_)?host_\w+|read_data",
}


class ControlParts(WiredBlock):
    """The parts side by side; ports are those of a part behind its name."""

    kind = "control_parts"

    def __init__(self, config: ChipConfig):
        self.parts: dict[str, Block] = {
            block.kind: block for block in (RunControl(config), RunCounters(config), NodeWindow(config))
        }
        super().__init__(
            {f"{kind}_{name}": member for kind, block in self.parts.items() for name, member in block.signature.members.items()}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for kind, block in self.parts.items():
            ports = place(m, kind, block)
            for name, member in block.signature.members.items():
                outer = getattr(self, f"{kind}_{name}")
                m.d.comb += outer.eq(ports[name]) if member.flow is Out else ports[name].eq(outer)
        return m


@dataclass(frozen=True)
class ControlBench:
    bench: BlockBench

    @classmethod
    def of(cls, config: ChipConfig) -> ControlBench:
        parts = ControlParts(config)
        lanes: dict[str, tuple[int, int, bool]] = {}
        for kind, block in parts.parts.items():
            for name, member in block.signature.members.items():
                if re.fullmatch(_OF_MANAGERS[kind], name):
                    lanes[f"{kind}_{name}"] = (member.shape // config.managers, config.managers, False)
        return cls(BlockBench.of(parts, lanes, random_initial_state=True))

    def ports(self, part: str, *, outputs: bool = False) -> dict[str, Port]:
        """Ports of a part by their names there."""
        ports = self.bench.outputs if outputs else self.bench.inputs
        return {port.name.removeprefix(f"{part}_"): port for port in ports if port.name.startswith(f"{part}_")}

    def idle(self, part: str, cycles: int) -> dict[str, NDArray[np.int64]]:
        """A stimulus in which all inputs are 0."""
        shapes = {name: (cycles, port.lanes) if port.lanes else (cycles,) for name, port in self.ports(part).items()}
        return {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}

    def run(self, part: str, stimulus: Mapping[str, NDArray], **options: Any) -> dict[str, NDArray[np.int64]]:
        """Outputs of a part in each cycle; ``options`` as of `BlockBench.run`."""
        cycles = len(next(iter(stimulus.values())))
        rows = {port.name: np.zeros((cycles, max(1, port.lanes)), np.int64) for port in self.bench.inputs}
        rows |= {f"{part}_{name}": values for name, values in stimulus.items()}
        observed = self.bench.run(rows, **options)
        return {name: observed[port.name] for name, port in self.ports(part, outputs=True).items()}

    def check(self, part: str, expected: dict[str, PortTrace], observed: Mapping[str, NDArray[np.int64]]) -> int:
        """Hold every output of a part against its model; returns how many values were compared."""
        if set(expected) != set(self.ports(part, outputs=True)):
            raise ValueError(f"the model of {part} has other ports: {sorted(set(expected) ^ set(self.ports(part, outputs=True)))}")
        mismatch = first_mismatch(expected, dict(observed))
        if mismatch:
            raise LockstepError(part, mismatch)
        return compared(expected, len(next(iter(observed.values()))))
