"""Chips of a ring that are only link port, collective engine and banks, on links of any latency and rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.link.ring import LinkRate
from podweave.golden.cycle.link.words import P, X
from podweave.predict.link_timing import LinkTiming
from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.link.collective_engine import CollectiveEngine
from podweave.rtl.link.link_port import LinkPort
from podweave.spec.config import ChipConfig
from podweave.spec.links import flit_user_layout
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.benches.design_bench import sv_source
from podweave.tb.lockstep.ports import Port

DEPTH = 16384
RING = Path(__file__).with_name("ring.sv")


@dataclass(frozen=True)
class RingBench:
    """``chips`` of them. Of ports that each chip has, chip 0 is lane 0. A word of a bank begins as a function of its place."""

    config: ChipConfig
    chips: int
    bench: BlockBench

    @classmethod
    def of(cls, config: ChipConfig, chips: int, *, alter: Callable[[str], str] | None = None) -> RingBench:
        """``alter`` changes the emitted Verilog: how a test plants a fault."""
        engine, port = emit_block(CollectiveEngine(config)), emit_block(LinkPort(config))
        modules = {text: None for emitted in (engine, port) for text in _modules(emitted.verilog)}
        design = "\n".join(modules)
        width = {p["name"]: p["width"] for emitted in (engine, port) for p in emitted.sidecar["ports"]}
        array = config.array
        single = ("first", "run", "timeout", "host_select", "host_address", "host_beat", "host_commit")
        inputs = [Port(name, 1, chips) for name in ("start", "begins", "stop", "host_valid", "up")]
        inputs += [Port(name, width[name]) for name in single]
        inputs += [Port("host_data", 32, width["host_data"] // 32)]
        inputs += [Port(name, 16) for name in ("peek_unit", "peek_address")]
        outputs = [Port("violation", 1, chips), *(Port(name, width[name], chips) for name in _SEEN)]
        outputs += [Port("peek_p", array.psum_width, chips * array.cols, True), Port("peek_x", 8, chips * array.rows)]
        sources = {
            "design.v": alter(design) if alter else design,
            "ring.sv": _ring(config, chips, inputs, outputs, width, (engine.top, port.top)),
            "link.sv": sv_source("link.sv"),
        }
        bench = BlockBench.of_sources(
            "ring", sources, inputs, outputs, control=engine.control.replace(engine.top, "design"), depth=DEPTH
        )
        return cls(config, chips, bench)

    def run(self, stimulus: dict[str, NDArray[np.int64]], rates: Sequence[LinkRate], seed: int = 0) -> dict[str, NDArray[np.int64]]:
        """What is on the outputs in each cycle. ``rates``: of the link behind each chip."""
        tables = {f"dut.link_{i}": LinkTiming(**dataclasses.asdict(rate)).table() for i, rate in enumerate(rates)}
        observed = self.bench.run(stimulus, seed=seed, tables=tables)
        assert not observed["violation"].any()
        return observed

    def idle(self, cycles: int) -> dict[str, NDArray[np.int64]]:
        """Inputs of a ring in which nothing happens."""
        found = {p.name: np.zeros((cycles, p.lanes) if p.lanes else cycles, np.int64) for p in self.bench.inputs}
        found["up"][:] = 1
        return found


def content(config: ChipConfig, chip: int, unit: NDArray[np.int64], address: NDArray[np.int64], lane: int) -> NDArray[np.int64]:
    """Lane ``lane`` of words of chip ``chip`` at the begin, before it is cut to its width: 32 bits."""
    where = (chip << 24) ^ (unit << 16) ^ (address << 6) ^ lane
    return where * 0x9E3779B1 + (where >> 3) * 0x01000193 & 0xFFFFFFFF


def _modules(verilog: str) -> list[str]:
    """Modules of emitted Verilog, each by itself: blocks may share some."""
    found, begin = [], 0
    while (end := verilog.find("\nendmodule", begin)) >= 0:
        end += len("\nendmodule\n")
        found.append(verilog[begin:end].strip())
        begin = end
    return found


def _ring(
    config: ChipConfig, chips: int, inputs: list[Port], outputs: list[Port], width: dict[str, int], blocks: tuple[str, str]
) -> str:
    names = sorted(name for name in width if name not in ("clk", "rst"))
    shared = [name for name in names if name.startswith(("send_", "received_")) or name in _SHARED]
    lines = [f"  wire [{width[name] - 1}:0] {name}_w [0:{chips - 1}];" for name in names]
    common = ("first", "run", "timeout", "host_select", "host_address", "host_beat", "host_commit", "host_data")
    for i in range(chips):
        driven = {
            **{name: f"{name}[{i}]" for name in ("start", "begins", "host_valid")},
            # As run control does: an error stops the chip.
            "stop": f"stop[{i}] | error_w[{i}] != 0",
            **{name: name for name in common},
            "host_write": "1'b1",
            "misdirected": "1'b0",
            "link_tx_up": f"up[{i}]",
            "link_rx_up": f"up[{(i - 1) % chips}]",
        }
        lines += [f"  assign {name}_w[{i}] = {value};" for name, value in driven.items()]
        lines += [f"  assign {name}[{i * width[name]} +: {width[name]}] = {name}_w[{i}];" for name in _SEEN]
        of_engine = [name for name in names if name.startswith(("access_", "host_")) or name in _ENGINE] + shared
        of_port = [name for name in names if name.startswith(("link_tx", "link_rx"))] + ["run", *shared]
        for kind, ports in zip(blocks, (of_engine, of_port), strict=True):
            lines.append(_instance(kind, f"{kind}_{i}", {name: f"{name}_w[{i}]" for name in ["start", *ports]}))
        lines += [_link(i, chips, config), *_banks(config, i)]
    declared = [f"  input wire [{p.bits - 1}:0] {p.name}" for p in inputs] + [
        f"  output wire [{p.bits - 1}:0] {p.name}" for p in outputs
    ]
    head = ",\n".join(["module ring(input wire clk, input wire rst", *declared])
    return "\n".join([head + ");", *lines, "endmodule", "", RING.read_text(encoding="utf-8")])


def _instance(kind: str, name: str, ports: dict[str, str]) -> str:
    return f"  {kind} {name}(.clk(clk), .rst(rst), " + ", ".join(f".{port}({value})" for port, value in ports.items()) + ");"


def _link(i: int, chips: int, config: ChipConfig) -> str:
    """From chip ``i`` to the next one."""
    to = (i + 1) % chips
    ports = {
        "restart": f"start[{i}]",
        "tx_rst": "rst",
        **{f"tx_{name}": f"link_tx_{name}_w[{i}]" for name in ("valid", "ready", "data", "user", "crc", "credit", "credit_run")},
        **{f"rx_{name}": f"link_rx_{name}_w[{to}]" for name in ("valid", "data", "user", "crc", "credit", "credit_run")},
        # Whether links are up the bench says, of each chip.
        "up": "",
        "violation": f"violation[{i}]",
    }
    assert config.links is not None
    return _instance(f"link #({config.links.flit_bits}, {flit_user_layout().width})", f"link_{i}", ports)


def _banks(config: ChipConfig, i: int) -> list[str]:
    """Of chip ``i``: all P banks, all X banks, and the way back of what they read."""
    array, memory, bits = config.array, config.memory, config.link_bits
    found = []
    for kind, code, lanes, lane, words in (
        ("p", P, array.cols, array.psum_width, memory.p_words),
        ("x", X, array.rows, 8, memory.x_words),
    ):
        ports = {
            "valid": f"access_valid_w[{i}] & (access_kind_w[{i}] == {code})",
            **{name: f"access_{name}_w[{i}]" for name in ("write", "add")},
            **{name: f"16'(access_{name}_w[{i}])" for name in ("unit", "address")},
            "data": f"access_data_w[{i}][{lanes * lane - 1}:0]",
            "found": f"found_{kind}_{i}",
            **{name: name for name in ("peek_unit", "peek_address")},
            "peek": f"peek_{kind}[{i * lanes * lane} +: {lanes * lane}]",
        }
        found.append(f"  wire [{lanes * lane - 1}:0] found_{kind}_{i};")
        found.append(_instance(f"ring_bank #({i}, {lanes}, {lane}, {config.pods}, {words})", f"bank_{kind}_{i}", ports))
    ports = {"in": f"{bits}'(found_p_{i}) | {bits}'(found_x_{i})", "out": f"read_data_w[{i}]"}
    return [*found, _instance(f"ring_delay #({bits}, {config.link_read_latency - 1})", f"delay_{i}", ports)]


_SEEN = ("busy", "epoch", "error", "error_id", "flit_sent", "flit_received", "waits")
_SHARED = ("fault", "give_back", "crc_error", "overflow", "neighbour_failed", "link_up")
_ENGINE = (
    *("first", "begins", "stop", "timeout", "busy", "epoch", "error", "error_id", "misdirected", "read_data"),
    *("flit_sent", "flit_received", "waits"),
)
