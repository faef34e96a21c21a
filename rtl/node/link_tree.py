"""Link tree: the way of accesses of the collective engine to X and P banks of all nodes, and of the words that they read."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig

from ..parts.blocks import Block, register
from ..parts.fanout import FANOUT, fan_out, gather
from ..parts.link_access import link_access_members, link_members
from ..parts.planes import planes_of


class LinkTree(Block):
    """Accesses go down to the nodes, what they read comes up, through ``host_levels`` registers each, whole words at once.

    Latency: ``host_levels`` cycles from the port to a node, and as many back.

    Parameters
    ----------
    config : ChipConfig
        With ``links``: ``pods``, ``host_levels``, ``link_bits`` and the members of the port.

    Members
    -------
    link_valid, link_unit, link_write, ... : In(width in link_members)
        Those of a `Chip`.
    link_read_data : Out(link_bits)
        What a node read, as of a `Chip`.
    group_<name> : Out(groups * width in link_access_members)
        Accesses but ``valid``, for each group of `FANOUT` nodes, side by side.
    node_valid : Out(pods)
        Of each node: the access is for it.
    node_read_data : In(pods * link_bits)
        Of each node: what it read.
    """

    kind = "link_tree"

    def __init__(self, config: ChipConfig):
        self.config = config
        groups = -(-config.pods // FANOUT)
        super().__init__(
            {
                **{name: In(width) for name, width in link_members(config).items()},
                "link_read_data": Out(config.link_bits),
                **{f"group_{name}": Out(groups * width) for name, width in link_access_members(config).items()},
                "node_valid": Out(config.pods),
                "node_read_data": In(config.pods * config.link_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        levels, pods = self.config.host_levels, self.config.pods
        m = Module()
        port = {name: getattr(self, name) for name in link_members(self.config)}
        copies = fan_out(m, port, leaves=pods, levels=levels, reset_less=port.keys() - {"link_valid"})
        for name in link_access_members(self.config):
            m.d.comb += getattr(self, f"group_{name}").eq(Cat(copy[name] for copy in copies[levels]))
        # Only the node that an access is for sees it as valid.
        named = []
        for i in range(pods):
            copy = copies[levels - 1][i // FANOUT // FANOUT]
            valid = copy["link_valid"] & (copy["link_unit"] == i)
            named.append(register(m, valid, name=f"node_valid_{i}", reset_less=False))
        m.d.comb += [
            self.node_valid.eq(Cat(named)),
            self.link_read_data.eq(gather(m, "read_data", planes_of(self.node_read_data, pods), levels)),
        ]
        return m
