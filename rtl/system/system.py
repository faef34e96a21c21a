"""System: accelerators of one configuration beside each other, with nothing between them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig

from ..accelerator.accelerator import Accelerator
from ..parts.blocks import place
from ..parts.wired_block import WiredBlock


def chip_prefix(chip: int) -> str:
    """What the ports of a chip begin with."""
    return f"c{chip}_"


class System(WiredBlock):
    """What is simulated of several chips; whoever places it joins their links.

    Parameters
    ----------
    config : ChipConfig
        Of every chip, with a ``prefetch``.
    chips : int
        Chip i is the instance ``c<i>``.

    Members
    -------
    c<i>_rst : In(1)
        Resets chip i; ``rst`` resets nothing.
    c<i>_* : as in Accelerator
        Its ports.
    """

    kind = "system"

    def __init__(self, config: ChipConfig, chips: int):
        self.accelerators = [Accelerator(config) for _ in range(chips)]
        members: dict[str, Any] = {}
        for i, accelerator in enumerate(self.accelerators):
            ports = {"rst": In(1), **accelerator.signature.members}
            members |= {chip_prefix(i) + name: member for name, member in ports.items()}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, accelerator in enumerate(self.accelerators):
            ports = place(m, f"c{i}", accelerator, reset=getattr(self, chip_prefix(i) + "rst"))
            for name, member in accelerator.signature.members.items():
                outside = getattr(self, chip_prefix(i) + name)
                m.d.comb += outside.eq(ports[name]) if member.flow is Out else ports[name].eq(outside)
        return m
