"""Load tree: the way of host accesses from a load port of a chip to the nodes of its manager, and of what they read back."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig

from ..parts.blocks import Block, register
from ..parts.fanout import FANOUT, fan_out, gather
from ..parts.load_port import access_members, load_port_members
from ..parts.planes import planes_of


class LoadPortTree(Block):
    """Host accesses go down to the nodes of one manager, what they read comes up, through ``host_levels`` registers each.

    Latency: ``host_levels`` cycles from the load port to a node, and as many back.

    Parameters
    ----------
    config : ChipConfig
        ``nodes_per_manager``, ``host_levels``, ``host_bits`` and the members of a load port.

    Members
    -------
    host_valid, host_broadcast, host_unit, ... : In(width in load_port_members)
        Those of one load port of a `Chip`.
    host_read_data : Out(host_bits)
        What a node read, as of a `Chip`.
    group_<name> : Out(groups * width in access_members)
        Accesses but ``valid``, for each group of `FANOUT` nodes, side by side.
    node_valid : Out(nodes_per_manager)
        Of each node: the access is for it.
    node_read_data : In(nodes_per_manager * host_bits)
        Of each node: what it read.
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
            copy = copies[max(0, levels - 1)][i // FANOUT // FANOUT]
            valid = copy["host_valid"] & (copy["host_broadcast"] | (copy["host_unit"] == i))
            named.append(register(m, valid, name=f"node_valid_{i}", reset_less=False) if levels else valid)
        m.d.comb += [
            self.node_valid.eq(Cat(named)),
            self.host_read_data.eq(gather(m, "read_data", planes_of(self.node_read_data, self.nodes), levels)),
        ]
        return m
