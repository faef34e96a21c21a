"""Chip root: what a chip has once: the sequencer, the way of its commands to the nodes, and the record of the networks."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import network_error_layout

from ..network.conflicts import NetworkError, record_errors
from ..parts.blocks import Block, place, struct
from ..parts.fanout import FANOUT, fan_out, gather
from ..parts.planes import planes_of
from .sequencer import Sequencer

COMMANDS = ("run", "fill", "rewind", "clear")


def root_members(config: ChipConfig) -> dict[str, Any]:
    """Members that a chip has of its root."""
    return {
        "start": In(1),
        "epochs": In(32),
        "rewind": In(1),
        "hold": In(1),
        "busy": Out(1),
        "error": Out(1),
        "cycles": Out(32),
        "total_cycles": Out(32),
        "done": Out(32),
        "network_error": Out(network_error_layout(config).width),
    }


class ChipRoot(Block):
    """The sequencer; its commands go down to the nodes, and ``busy`` and ``error`` come up, through ``host_levels`` registers.

    Latency: ``host_levels`` cycles from a command of the sequencer to ``group_*``, and from ``node_busy`` to the sequencer.

    Parameters
    ----------
    config : ChipConfig
        ``pods``, ``host_levels``, ``network_latency`` and the layout of the network record.
    network_blocks : int
        Blocks of all networks; 0 of one pod, whose networks are wires.

    Members
    -------
    start, epochs, rewind, hold, busy, error, cycles, total_cycles, done, network_error : as in root_members
        Those of a `Chip` without its load ports.
    group_run, group_fill, group_rewind, group_clear : Out(groups)
        Commands for each group of `FANOUT` nodes, side by side.
    node_busy, node_error : In(pods)
        Of each node.
    conflict_valid : In(network_blocks)
        Sticky errors of the blocks of the networks, if there are any; so the next two.
    conflict_stage : In(network_blocks * width of stage)
        Their stages.
    conflict_where : In(network_blocks * width of port, plane and network)
        The fields port, plane and network of `network_error_layout`, side by side.
    """

    kind = "chip_root"

    def __init__(self, config: ChipConfig, network_blocks: int):
        self.config, self.network_blocks = config, network_blocks
        groups = -(-config.pods // FANOUT)
        record = {field.name: field.width for field in network_error_layout(config).fields}
        self.stage_width, self.where_width = record["stage"], record["port"] + record["plane"] + record["network"]
        conflict = {"conflict_valid": 1, "conflict_stage": self.stage_width, "conflict_where": self.where_width}
        super().__init__(
            {
                **root_members(config),
                **{f"group_{name}": Out(groups) for name in COMMANDS},
                "node_busy": In(config.pods),
                "node_error": In(config.pods),
                **({name: In(network_blocks * width) for name, width in conflict.items()} if network_blocks else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, levels = self.config, self.config.host_levels
        m = Module()
        sequencer = place(m, "sequencer", Sequencer(config.network_latency + 2))
        record = self._network_record(m)
        m.d.comb += [
            *(sequencer[name].eq(getattr(self, name)) for name in ("start", "epochs", "hold")),
            sequencer["node_busy"].eq(gather(m, "busy", list(self.node_busy), levels)),
            sequencer["error"].eq(self.error),
            *(getattr(self, name).eq(sequencer[name]) for name in ("busy", "cycles", "total_cycles", "done")),
            self.error.eq(gather(m, "error", list(self.node_error), levels) | record.valid),
            self.network_error.eq(Value.cast(record)),
        ]
        commands: dict[str, Value] = {name: sequencer[name] for name in ("run", "fill", "clear")}
        commands["rewind"] = self.rewind & ~sequencer["busy"]
        copies = fan_out(m, commands, leaves=config.pods, levels=levels)
        for name in COMMANDS:
            m.d.comb += getattr(self, f"group_{name}").eq(Cat(copy[name] for copy in copies[levels]))
        return m

    def _network_record(self, m: Module) -> Any:
        """The first conflict of all networks, as a word of `network_error_layout`."""
        record = Signal(struct(network_error_layout(self.config)), name="network_record")
        if not self.network_blocks:
            return record
        stages, places = planes_of(self.conflict_stage, self.network_blocks), planes_of(self.conflict_where, self.network_blocks)
        errors = [NetworkError(*found) for found in zip(self.conflict_valid, stages, places, strict=True)]
        valid = Signal(name="conflict")
        stage, where = Signal(self.stage_width, name="stage"), Signal(self.where_width, name="where")
        record_errors(m, errors, error=valid, stage=stage, port=where)
        m.d.comb += [
            record.valid.eq(valid),
            record.stage.eq(stage),
            Cat(record.port, record.plane, record.network).eq(where),
        ]
        return record
