"""Node window: reads counters and errors of nodes over the load ports, between the accesses of the prefetch engines."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import NodeErrors
from podweave.spec.load_port import Counter, HostSelect
from podweave.spec.register_types import WORD_WIDTH, NodeWords

from ..parts.blocks import Block
from ..parts.load_port import load_port_members
from ..parts.planes import planes_of

NODE_WIDTH = 8


def window_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of what of a load port tells a read from what an engine does."""
    return {name: width for name, width in load_port_members(config).items() if name != "host_data"}


class NodeWindow(Block):
    """The accesses of the engines go through to the chip in the same cycle; one of ours takes a cycle in which there is none.

    A ``read`` in cycle t, while none is under way, stands on the load port of the node's manager in the first cycle g > t without
    ``engine_host_valid`` of that manager; its ``done`` comes in g + `ChipConfig.host_read_latency`. If there is no such node or
    word, ``done`` comes in t + 1, with ``error``. Ports of managers lie side by side, manager 0 least significant.

    Latency: ``g - t + host_read_latency`` cycles from ``read`` to ``done``, 1 with ``error``.

    Parameters
    ----------
    config : ChipConfig
        Managers, nodes, and the members of a load port.

    Members
    -------
    read : In(1)
        A pulse: read.
    node : In(NODE_WIDTH)
        The node; holds still until ``done``.
    words : In(1)
        Which words, `NodeWords`; holds still until ``done``.
    index : In(4)
        The word of these; holds still until ``done``.
    done : Out(1)
        A pulse.
    error : Out(1)
        There is no such node or word, with ``done``.
    data : Out(WORD_WIDTH)
        The word, with ``done``.
    engine_host_* : In(managers * width in window_members)
        The accesses of all engines, without ``host_data``, which a read leaves alone.
    host_* : Out(managers * width in window_members)
        The load ports of the `Chip`, without ``host_data``.
    read_data : In(managers * WORD_WIDTH)
        The low bits of each ``host_read_data``.
    """

    kind = "node_window"

    def __init__(self, config: ChipConfig):
        self.config = config
        port = window_members(config)
        super().__init__(
            {
                "read": In(1),
                "node": In(NODE_WIDTH),
                "words": In(1),
                "index": In(4),
                "done": Out(1),
                "error": Out(1),
                "data": Out(WORD_WIDTH),
                **{f"engine_{name}": In(config.managers * width) for name, width in port.items()},
                **{name: Out(config.managers * width) for name, width in port.items()},
                "read_data": In(config.managers * WORD_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self.config
        m = Module()
        within = (config.nodes_per_manager - 1).bit_length()
        manager, asking, reading, refused = (
            Signal(width, name=name) for name, width in (("manager", NODE_WIDTH), ("asking", 1), ("reading", 1), ("refused", 1))
        )
        known = Signal()
        wait = Signal(range(config.host_read_latency))
        counters = self.words == NodeWords.COUNTERS
        m.d.comb += [
            manager.eq(self.node >> within),
            known.eq((self.node < config.pods) & (self.index < Mux(counters, len(Counter), len(NodeErrors)))),
        ]
        ours = {
            **dict.fromkeys(window_members(config), Const(0)),
            "host_valid": Const(1),
            "host_unit": self.node[:within],
            "host_select": Mux(counters, HostSelect.COUNTERS, HostSelect.ERRORS),
            "host_address": self.index,
        }
        grants = []
        for i in range(config.managers):
            grant = Signal(name=f"grant_{i}")
            m.d.comb += grant.eq(asking & (manager == i) & ~self.engine_host_valid[i])
            grants.append(grant)
            for name, width in window_members(config).items():
                theirs = getattr(self, f"engine_{name}").word_select(i, width)
                m.d.comb += getattr(self, name).word_select(i, width).eq(Mux(grant, ours[name], theirs))
        m.d.sync += refused.eq(self.read & ~known)
        with m.If(self.read):
            m.d.sync += asking.eq(known)
        with m.If(Cat(grants).any()):
            m.d.sync += [asking.eq(0), reading.eq(1), wait.eq(config.host_read_latency - 1)]
        with m.If(reading):
            m.d.sync += [wait.eq(wait - 1), reading.eq(wait != 0)]
        m.d.comb += [
            self.done.eq(refused | (reading & (wait == 0))),
            self.error.eq(refused),
            self.data.eq(Array(planes_of(self.read_data, config.managers))[manager]),
        ]
        return m
