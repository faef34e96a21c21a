"""Blocks beside each other, in one simulation."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.parts.wired_block import WiredBlock


class SideBySide(WiredBlock):
    """Some blocks, whose ports have their names in front; ``clear`` is their reset."""

    kind = "side_by_side"

    def __init__(self, parts: Mapping[str, Block]):
        self.parts = dict(parts)
        members = {f"{key}_{name}": member for key, part in self.parts.items() for name, member in part.signature.members.items()}
        super().__init__({"clear": In(1), **members})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for key, part in self.parts.items():
            ports = place(m, key, part, reset=self.clear)
            for name, member in part.signature.members.items():
                outer = getattr(self, f"{key}_{name}")
                m.d.comb += outer.eq(ports[name]) if member.flow is Out else ports[name].eq(outer)
        return m
