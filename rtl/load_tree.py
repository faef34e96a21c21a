"""Load tree: the way of host accesses from a load port of a chip to the nodes of its manager, and of what they read back."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index
from podweave.spec.load_port import HostSelect, host_address_width, host_beat_width

from .bank import split
from .blocks import Block, register
from .fanout import FANOUT, fan_out, gather


def access_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of what goes with a host access all the way to its node."""
    return {
        "host_write": 1,
        "host_commit": 1,
        "host_select": bits_for_index(len(HostSelect)),
        "host_address": host_address_width(config),
        "host_beat": host_beat_width(config),
        "host_data": config.host_bits,
    }


def load_port_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of a load port but ``host_read_data``."""
    return {"host_valid": 1, "host_broadcast": 1, "host_unit": bits_for_index(config.nodes_per_manager), **access_members(config)}


class LoadTree(Block):
    """Host accesses go down to the nodes of one manager, what they read comes up, through ``host_levels`` registers each.

    Members
    -------
    Those of one load port of a `Chip`; ``group_*``: accesses but ``valid``, for each group of `FANOUT` nodes, side by side;
    ``node_valid``, ``node_read_data``: of each node.
    """

    kind = "load_tree"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.nodes = config.nodes_per_manager
        groups = -(-self.nodes // FANOUT)
        super().__init__(
            {
                **{name: In(width) for name, width in load_port_members(config).items()},
                "host_read_data": Out(config.host_bits),
                **{f"group_{name}": Out(groups * width) for name, width in access_members(config).items()},
                "node_valid": Out(self.nodes),
                "node_read_data": In(self.nodes * config.host_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        levels = self.config.host_levels
        m = Module()
        port = {name: getattr(self, name) for name in load_port_members(self.config)}
        copies = fan_out(m, port, leaves=self.nodes, levels=levels, reset_less=port.keys() - {"host_valid"})
        for name in access_members(self.config):
            m.d.comb += getattr(self, f"group_{name}").eq(Cat(copy[name] for copy in copies[levels]))
        # Only the nodes that an access is for see it as valid.
        named = []
        for i in range(self.nodes):
            copy = copies[levels - 1][i // FANOUT // FANOUT]
            valid = copy["host_valid"] & (copy["host_broadcast"] | (copy["host_unit"] == i))
            named.append(register(m, valid, name=f"node_valid_{i}", reset_less=False))
        m.d.comb += [
            self.node_valid.eq(Cat(named)),
            self.host_read_data.eq(gather(m, "read_data", split(self.node_read_data, self.nodes), levels)),
        ]
        return m
