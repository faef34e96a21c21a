"""Chip root: what a chip has once: sequencer, host port, and the way to and from the nodes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from .bank import split
from .blocks import Block, delay_line, place, register, struct
from .config import ChipConfig
from .conflicts import NetworkError, record_errors
from .layouts import (
    HOST_BITS,
    Control,
    HostSelect,
    bits_for_index,
    host_address_width,
    host_beat_width,
    network_error_layout,
)
from .sequencer import Sequencer

FANOUT = 16


def host_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of what goes with a host access, beside ``host_valid``."""
    return {
        "host_write": 1,
        "host_commit": 1,
        "host_select": bits_for_index(len(HostSelect)),
        "host_address": host_address_width(config),
        "host_beat": host_beat_width(config),
        "host_data": HOST_BITS,
    }


COMMANDS = ("run", "fill", "rewind", "clear")


class ChipRoot(Block):
    """The sequencer; host accesses and its commands go down to the nodes, answers come up, through ``host_levels`` registers.

    Members
    -------
    Those of a `Chip`; ``group_*``: commands, and host accesses but ``valid``, for each group of `FANOUT` nodes, side by side;
    ``node_valid``, ``node_busy``, ``node_error``, ``node_read_data``: of each node. ``network_error``, ``network_stage``,
    ``network_where``: sticky errors of the blocks of the networks, their stages, and the fields port, plane and network of
    `network_error_layout` side by side.
    """

    kind = "chip_root"

    def __init__(self, config: ChipConfig, network_blocks: int):
        self.config, self.network_blocks = config, network_blocks
        self.groups = -(-config.pods // FANOUT)
        record = {field.name: field.width for field in network_error_layout(config).fields}
        self.stage_width, self.where_width = record["stage"], record["port"] + record["plane"] + record["network"]
        down = {**dict.fromkeys(COMMANDS, 1), **host_members(config)}
        super().__init__(
            {
                **chip_members(config),
                **{f"group_{name}": Out(self.groups * width) for name, width in down.items()},
                "node_valid": Out(config.pods),
                "node_busy": In(config.pods),
                "node_error": In(config.pods),
                "node_read_data": In(config.pods * HOST_BITS),
                "network_error": In(network_blocks),
                "network_stage": In(network_blocks * self.stage_width),
                "network_where": In(network_blocks * self.where_width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self.config
        m = Module()
        sequencer = place(m, "sequencer", Sequencer(config.network_latency + 2))
        to_control = self.host_valid & (self.host_select == HostSelect.CONTROL)
        start = to_control & self.host_write & (self.host_address == Control.START)
        rewind = to_control & self.host_write & (self.host_address == Control.REWIND) & ~sequencer["busy"]
        m.d.comb += [sequencer["start"].eq(start), sequencer["epochs"].eq(self.host_data)]
        self._broadcast(
            m,
            {
                **{name: sequencer[name] for name in ("run", "fill", "clear")},
                "rewind": rewind,
                "host_valid": self.host_valid & ~to_control,
                "host_unit": self.host_unit,
                **{name: getattr(self, name) for name in host_members(config)},
            },
        )
        record = self._network_record(m)
        levels = config.host_levels
        node_error = _gather(m, "error", list(self.node_error), levels)
        m.d.comb += [
            sequencer["node_busy"].eq(_gather(m, "busy", list(self.node_busy), levels)),
            self.error.eq(node_error | record.valid),
            sequencer["error"].eq(self.error),
            self.busy.eq(sequencer["busy"]),
            self.cycles.eq(sequencer["cycles"]),
        ]
        words = split(self.node_read_data, config.pods)
        m.d.comb += self.host_read_data.eq(_gather(m, "read_data", words, levels, self._control(m, sequencer, record)))
        return m

    def _broadcast(self, m: Module, signals: dict[str, Value]) -> None:
        levels, pods = self.config.host_levels, self.config.pods
        data = {"host_unit", *host_members(self.config)}
        copies = [signals]
        for level in range(1, levels):
            copies = [
                {
                    name: register(m, value, name=f"{name}_{level}_{i}", reset_less=name in data)
                    for name, value in copies[i // FANOUT].items()
                }
                for i in range(-(-pods // FANOUT ** (levels - level + 1)))
            ]
        for name in (*COMMANDS, *host_members(self.config)):
            last = [
                register(m, copies[group // FANOUT][name], name=f"{name}_{levels}_{group}", reset_less=name in data)
                for group in range(self.groups)
            ]
            m.d.comb += getattr(self, f"group_{name}").eq(Cat(last))
        # Only the node that an access names sees it as valid.
        named = []
        for i in range(pods):
            source = copies[i // FANOUT // FANOUT]
            valid = source["host_valid"] & (source["host_unit"] == i)
            named.append(register(m, valid, name=f"host_valid_{levels}_{i}", reset_less=False))
        m.d.comb += self.node_valid.eq(Cat(named))

    def _network_record(self, m: Module) -> Any:
        """The first conflict of all networks, as a word of `network_error_layout`."""
        record = Signal(struct(network_error_layout(self.config)), name="network_record")
        valid = Signal(name="conflict")
        stage, where = Signal(self.stage_width, name="stage"), Signal(self.where_width, name="where")
        stages, places = split(self.network_stage, self.network_blocks), split(self.network_where, self.network_blocks)
        errors = [NetworkError(*found) for found in zip(self.network_error, stages, places, strict=True)]
        record_errors(m, errors, error=valid, stage=stage, port=where)
        m.d.comb += [
            record.valid.eq(valid),
            record.stage.eq(stage),
            Cat(record.port, record.plane, record.network).eq(where),
        ]
        return record

    def _control(self, m: Module, sequencer: dict[str, Any], record: Any) -> Value:
        """The word of the sequencer that a host read asks for, in the cycle before it is due."""
        reads = self.host_valid & ~self.host_write & (self.host_select == HostSelect.CONTROL)
        wait = self.config.host_read_latency - 1
        due = delay_line(m, reads, wait, name="control_read", reset_less=False)[-1]
        address = delay_line(m, self.host_address, wait, name="control_address")[-1]
        values = {
            Control.STATUS: Cat(self.busy, self.error),
            Control.CYCLES: sequencer["cycles"],
            Control.TOTAL_CYCLES: sequencer["total_cycles"],
            Control.EPOCHS: sequencer["done"],
            Control.NETWORK_ERROR: Value.cast(record),
        }
        word = Signal(HOST_BITS, name="control_word")
        with m.If(due), m.Switch(address):
            for which, value in values.items():
                with m.Case(which):
                    m.d.comb += word.eq(value)
        return word


def chip_members(config: ChipConfig) -> dict[str, Any]:
    return {
        "host_valid": In(1),
        "host_unit": In(bits_for_index(config.pods)),
        **{name: In(width) for name, width in host_members(config).items()},
        "host_read_data": Out(HOST_BITS),
        "busy": Out(1),
        "error": Out(1),
        "cycles": Out(32),
    }


def _gather(m: Module, name: str, values: list[Value], levels: int, extra: Value | None = None) -> Value:
    """The OR of ``values``, ``levels`` cycles later; ``extra`` joins in the last of them."""
    for level in range(1, levels + 1):
        groups = [values[i : i + FANOUT] for i in range(0, len(values), FANOUT)]
        values = []
        for i, group in enumerate(groups):
            total = group[0]
            for value in group[1:]:
                total = total | value
            if extra is not None and level == levels:
                total = total | extra
            values.append(register(m, total, name=f"{name}_up_{level}_{i}", reset_less=False))
    (value,) = values
    return value
