"""An IP directory: everything that somebody needs who puts a configuration into a larger design."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from podweave import __version__
from podweave.rtl.accelerator.emit import Emitted, emit
from podweave.rtl.parts.prefix import check_prefix
from podweave.spec.config import ChipConfig
from podweave.spec.register_types import address_width
from podweave.synth.blocks import Hierarchy

from .register_pages import c_header, register_page

_CHANNELS = {
    "aw": "write address",
    "w": "write data",
    "b": "write response",
    "ar": "read address",
    "r": "read data",
}
_AXI_SIGNALS = {
    "valid": "valid",
    "ready": "ready",
    "addr": "byte address",
    "prot": "protection: ignored",
    "data": "data, byte 0 least significant",
    "strb": "one bit per byte of data",
    "resp": "0 OKAY, 2 SLVERR, 3 DECERR",
    "last": "last beat of the burst",
    "len": "beats of the burst less 1",
    "size": "bytes of a beat as a power of two: always those of the bus",
    "burst": "always 1 (INCR)",
    "id": "always 0",
}
_PORTS = {
    "clk": "the one clock; everything is at its rising edge",
    "rst": "synchronous reset, high for at least 2 cycles",
    "irq": "interrupt, a level: an enabled event is pending",
}
_LINK_SIGNALS = {
    "valid": "there is a flit",
    "ready": "it is accepted",
    "data": "its payload",
    "user": "what goes beside it: kind in bits 1:0, number of the run in bits 5:2",
    "crc": "CRC-16 of both",
    "credit": "the receiver has room for one more word",
    "credit_run": "number of the run that the credit is for",
    "up": "the link is there; 1 if nothing knows better",
}
_LINK_PORT = re.compile(r"link_(?P<way>tx|rx)_(?P<signal>[a-z_]+)")
_AXI_PORT = re.compile(r"(?P<bus>s_axil|m\d+_axi)_(?P<channel>aw|w|b|ar|r)(?P<signal>[a-z]+)")


def write_ip(config: ChipConfig, directory: Path, *, prefix: str | None = None) -> list[Path]:
    """Write an IP directory; returns the paths of its files. The same configuration and prefix always give the same bytes.

    PREFIX, by default the name of the configuration in lower case, is in all names of modules, of files, and in C: blocks of
    different prefixes fit into one design. Raises `ConfigError` if names cannot begin with it.

    ``PREFIX_TOP.v``, ``PREFIX_TOP.vlt``, ``PREFIX_TOP.json``
        Verilog, waivers for Verilator and a JSON description, as of `rtl.accelerator.emit`.
    ``podweave_PREFIX.core``
        CAPI2 core for FuseSoC: targets ``default``, ``lint`` (Verilator) and ``synth`` (with the ``.sdc``). Waivers are in
        ``default``, so that a core that depends on this one gets them.
    ``podweave_PREFIX_ports.md``, ``podweave_PREFIX_constraints.md``, ``podweave_PREFIX.sdc``
        Ports; clock, reset, memories to replace and rules of the buses; the same for synthesis, as far as that is a constraint.
    ``podweave_PREFIX_registers.md``, ``podweave_PREFIX.h``
        Registers for people and for C. Only of accelerators: a chip or pod without AXI4 managers has none.
    """
    if prefix is None:
        prefix = config.name.lower()
    # An empty one is as bad as any other here.
    check_prefix(prefix)
    emitted = emit(config, prefix=prefix)
    name = f"podweave_{prefix}"
    accelerator = any(port["name"].startswith("s_axil_") for port in emitted.sidecar["ports"])
    contents = {
        f"{name}.core": _core(config, emitted, prefix, accelerator),
        f"{name}_ports.md": _ports_page(config, emitted),
        f"{name}_constraints.md": _constraints_page(config, emitted, prefix, accelerator),
        f"{name}.sdc": _sdc(config, emitted),
    }
    if accelerator:
        contents |= {f"{name}_registers.md": register_page(config), f"{name}.h": c_header(config, prefix)}
    written = emitted.write(directory)
    for file, content in contents.items():
        (directory / file).write_text(content, encoding="utf-8")
        written.append(directory / file)
    return written


def _core(config: ChipConfig, emitted: Emitted, prefix: str, accelerator: bool) -> str:
    top, name = emitted.top, f"podweave_{prefix}"
    # Without its metadata, a package says that its version is not known.
    match = re.match(r"\d+(\.\d+)+", __version__)
    version = match[0] if match else "0.0.0"
    text = f"""\
CAPI=2:
name: "podweave:ip:{prefix}:{version}"
description: "podweave {config.name}: {config.pods} pod{"s" * (config.pods > 1)} of {config.array.rows} x {config.array.cols}"

filesets:
  rtl:
    files:
      - "{top}.v"
    file_type: "verilogSource-2005"
  waivers:
    files:
      - "{top}.vlt"
    file_type: "vlt"
  constraints:
    files:
      - "{name}.sdc"
    file_type: "SDC"
"""
    if accelerator:
        text += f"""\
  driver:
    files:
      - "{name}.h"
    file_type: "user"
"""
    return f"""\
{text}
targets:
  # Of this target a core that depends on this one gets the files. Waivers come before what they are about, whatever the tool:
  # flows (unlike tools) set no flag to ask for, and tools other than Verilator pass over files of this type; some warn once.
  default: &default
    filesets:
      - "waivers"
      - "rtl"
    toplevel: "{top}"
  lint:
    <<: *default
    description: "Lint with Verilator."
    flow: "lint"
    flow_options:
      tool: "verilator"
      verilator_options:
        - "-Wall"
  synth:
    <<: *default
    description: "Sources and constraints, for the synthesis tool of your choice."
    filesets:
      - "rtl"
      - "constraints"
"""


def _what(port: str) -> str:
    link = _LINK_PORT.fullmatch(port)
    if link:
        return _LINK_SIGNALS[link["signal"]]
    match = _AXI_PORT.fullmatch(port)
    if not match:
        return _PORTS.get(port, "")
    return f"{_CHANNELS[match['channel']]}: {_AXI_SIGNALS[match['signal']]}"


def _ports_page(config: ChipConfig, emitted: Emitted) -> str:
    ports = emitted.sidecar["ports"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for port in ports:
        match, link = _AXI_PORT.fullmatch(port["name"]), _LINK_PORT.fullmatch(port["name"])
        bus = match["bus"] if match else f"link_{link['way']}" if link else ""
        groups.setdefault(bus, []).append(port)
    lines = [f"# Ports of `{emitted.top}` ({config.name})", ""]
    lines += ["All are synchronous to `clk`.", ""]
    for bus, members in groups.items():
        if bus:
            lines += ["", f"## {_bus_title(config, bus)}", ""]
        lines += ["| name | direction | width | |", "|---|---|---|---|"]
        lines += [f"| {port['name']} | {port['direction']} | {port['width']} | {_what(port['name'])} |" for port in members]
    return "\n".join([*lines, ""])


def _bus_title(config: ChipConfig, bus: str) -> str:
    if bus == "s_axil":
        return "`s_axil_*`: registers, an AXI4-Lite subordinate"
    if bus.startswith("link_"):
        return f"`{bus}_*`: {'to the next chip of a ring' if bus == 'link_tx' else 'from the chip before in a ring'}"
    manager = int(bus[1:].split("_")[0])
    first = manager * config.nodes_per_manager
    return f"`{bus}_*`: AXI4 manager {manager}, for nodes {first} to {first + config.nodes_per_manager - 1}"


def _memories(emitted: Emitted) -> list[tuple[str, str, int, int]]:
    """Module, kind, instances and bits of each memory, the largest total first."""
    hierarchy = Hierarchy(emitted)
    counts = hierarchy.count([emitted.top])
    found = [(name, hierarchy[name].kind, count, hierarchy[name].sram_bits) for name, count in counts.items()]
    return sorted((memory for memory in found if memory[3]), key=lambda memory: (-memory[2] * memory[3], memory[0]))


_GENERAL = """\
# Putting {config} into a design

## Clock and reset

- One clock, `clk`, rising edge. No generated or gated clocks, no latches, no asynchronous logic, no false or multicycle paths.
- `rst` is synchronous and high for at least 2 cycles. Data paths have no reset: before the first word of an array, a bank or a
  buffer has been written it holds anything, and nothing depends on it.
- Every port is synchronous to `clk`; podweave_{prefix}.sdc has the period, and the share of it that is spent outside. Where a bus
  has another clock, put a converter in front.

## Memories to replace by macros

Each is a module of its own, to be replaced by one with the same ports and the behaviour that the comment above it states: one cycle
from a read to its data; a read of a word in the cycle in which it is written may return anything. None needs initial values.

| module | kind | instances | bits each |
|---|---|---|---|
{memories}

Names of all modules begin with `{prefix}_`, names in C with `podweave_{prefix}_`: for two blocks in one design, give them different
prefixes (`podweave ip ... --prefix NAME`).
"""

_BUSES = """
## AXI4 managers

- {managers} of {data_width} bits of data and {address_width} of address. Bursts are INCR, of whole beats, aligned, of up to
  {max_burst} beats, and cross no multiple of 4 KiB. Writes have byte strobes: nothing beside what a descriptor names is written.
- One ID, 0, per manager: responses come in order. Up to {outstanding} reads are under way, or writes. No data are read while
  writes of the manager wait for their responses; descriptors may be. There is no order between managers.
- `rready` is always 1: room for the data is reserved before a read is issued. No `valid` waits for its `ready`.
- An error response ends the run with a named error, when all transfers under way have ended. Nothing hangs on it.
- There are no lock, cache, prot, qos, region or user signals: tie those of the interconnect to constants. Software and
  accelerator see the same bytes between runs only if caches on the way are coherent, or flushed.

## AXI4-Lite subordinate

- 32 bits of data, {offset_width} bits of address. Address and data of a write come in any order; reads and writes are
  independent, one of each at a time. A read of NODE_DATA waits for a free cycle of a load port.

## Order of resets

- `rst` drops transfers that are under way. Reset what is at the managers' ports with it, or let it finish them (answer to nobody
  what was read, take no more of what is written), or wait until STATUS.BUSY is 0, after ABORT: a response that comes after `rst`
  would be taken for that of the next burst. What was being stored is in memory in part.
- SOFT_RESET, and a START after an error, reset chip and engines from inside, and only when no transfer is under way: nothing
  outside needs to know.
- After `rst` all `valid` outputs and `irq` are 0. Software sets MEMORY_BYTES and the rings before the first START.
"""


_RING = """
## Links

- `link_tx_*` of a chip goes to `link_rx_*` of the next one in a ring, that of the last to the first; `credit` and `credit_run` go
  back. What is between them, wires or a bridge, may take any time, and keeps the order.
- `link_tx_valid`, `ready`, `data`, `user` and `crc` are as on AXI-Stream: they hold still until they are accepted. `link_rx_*` has
  no `ready`: there is room for all that has a credit. A credit is a pulse, and none may be lost.
- `up` of both ends is 1 while the bridge works; without one tie them to 1. Low in a collective, it ends the run with LINK_DOWN.
- `rst` alone resets the link port. All chips of a ring are reset together before their first run; later one may be at any time:
  runs of the others then end with TIMEOUT, and the next run of all is as ever. Flits and credits that are under way may arrive or
  be lost: they carry the number of their run. A flit that waits at `link_tx_*` is taken back, which a bridge must allow. A bridge
  that is reset with a chip, with `up` 0 at both ends, ends the runs with LINK_DOWN at once.
"""


def _constraints_page(config: ChipConfig, emitted: Emitted, prefix: str, accelerator: bool) -> str:
    memories = "\n".join(f"| {module} | {kind} | {count} | {bits} |" for module, kind, count, bits in _memories(emitted))
    page = _GENERAL.format(config=config.name, prefix=prefix, memories=memories)
    if accelerator:
        assert config.prefetch is not None
        page += _BUSES.format(**dataclasses.asdict(config.prefetch), offset_width=address_width(config.managers))
    return page + _RING if config.links else page


def _sdc(config: ChipConfig, emitted: Emitted) -> str:
    ports: dict[str, list[str]] = {"input": [], "output": []}
    for port in emitted.sidecar["ports"]:
        if port["name"] != "clk":
            ports[port["direction"]].append(f"{port['name']}[*]" if port["width"] > 1 else port["name"])
    inputs, outputs = ("\n  ".join(ports[direction]) for direction in ("input", "output"))
    return f"""\
# podweave {config.name}: one clock, everything synchronous to it. Set `period` (in the time unit of the library) and `outside`
# (share of a cycle that a signal spends outside, on its way in or out) before reading this file, or change them here.
if {{![info exists period]}} {{ set period 2.0 }}
if {{![info exists outside]}} {{ set outside 0.3 }}
create_clock -name clk -period $period [get_ports clk]
set_input_delay [expr {{$outside * $period}}] -clock clk [get_ports {{
  {inputs}
}}]
set_output_delay [expr {{$outside * $period}}] -clock clk [get_ports {{
  {outputs}
}}]
"""
