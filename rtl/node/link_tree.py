"""Link tree: the way of accesses of the collective engine to X and P banks of all nodes, and of the words that they read."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, register
from ..parts.fanout import gather
from ..parts.link_access import link_access_members
from ..parts.planes import planes_of


class LinkTree(Block):
    """One level of the tree: accesses go down to one of up to `FANOUT` nodes or trees, what they read comes up, a word at once.

    Latency: 1 cycle down, and 1 up.

    Parameters
    ----------
    config : ChipConfig
        With ``links``: ``link_bits`` and what goes with an access.
    children : int
        Nodes or trees below.
    nodes : int
        Nodes below each of these, a power of two.

    Members
    -------
    link_valid, link_unit : In(1), In(bits_for_index(children * nodes))
        An access, and its node, counted from the first one below.
    link_write, link_add, link_kind, link_address, link_data : In(width in link_access_members)
        As of a `Chip`.
    link_read_data : Out(link_bits)
        What a node read; 0 in all other cycles.
    child_valid : Out(children)
        Of each child: the access is for it.
    child_unit : Out(bits_for_index(nodes))
        Its node, counted from the first one of the child; not if that is a node.
    child_write, child_add, child_kind, child_address, child_data : Out(width in link_access_members)
        The access, for all children.
    child_read_data : In(children * link_bits)
        Of each child: what was read.
    """

    kind = "link_tree"

    def __init__(self, config: ChipConfig, children: int, nodes: int):
        self.config, self.children, self.nodes = config, children, nodes
        self.variant = f"{children}x{nodes}"
        self.unit_width = bits_for_index(nodes) if nodes > 1 else 0
        accesses = link_access_members(config)
        super().__init__(
            {
                "link_valid": In(1),
                "link_unit": In(bits_for_index(children * nodes)),
                **{name: In(width) for name, width in accesses.items()},
                "link_read_data": Out(config.link_bits),
                "child_valid": Out(children),
                **({"child_unit": Out(self.unit_width)} if self.unit_width else {}),
                **{name.replace("link_", "child_"): Out(width) for name, width in accesses.items()},
                "child_read_data": In(children * config.link_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name in link_access_members(self.config):
            m.d.comb += getattr(self, name.replace("link_", "child_")).eq(register(m, getattr(self, name), name=f"{name}_held"))
        if self.unit_width:
            m.d.comb += self.child_unit.eq(register(m, self.link_unit[: self.unit_width], name="link_unit_held"))
        named = self.link_unit[self.unit_width :]
        # Only the child that an access is for sees it as valid.
        valid = [
            register(m, self.link_valid & (named == i), name=f"child_valid_{i}", reset_less=False) for i in range(self.children)
        ]
        m.d.comb += [
            self.child_valid.eq(Cat(valid)),
            self.link_read_data.eq(gather(m, "read_data", planes_of(self.child_read_data, self.children), 1)),
        ]
        return m
