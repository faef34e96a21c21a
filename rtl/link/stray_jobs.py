"""Stray jobs: jobs of the collective engine on load ports of other managers than the first."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect

from ..parts.blocks import Block
from ..parts.load_port import access_members
from ..parts.planes import planes_of


class StrayJobs(Block):
    """Looks at the load ports of all managers but the first, whose jobs alone reach the collective engine.

    Latency: 1 cycle from a write to ``misdirected``.

    Parameters
    ----------
    config : ChipConfig
        ``managers``, at least 2.

    Members
    -------
    host_valid, host_write : In(managers - 1), In(managers - 1)
        As on the load ports of a `Chip`, of managers from 1 on side by side.
    host_select : In((managers - 1) * bits_for_index(len(HostSelect)))
        Likewise.
    misdirected : Out(1)
        A job was written.
    """

    kind = "stray_jobs"

    def __init__(self, config: ChipConfig):
        self.ports = config.managers - 1
        select = access_members(config)["host_select"]
        super().__init__(
            {
                "host_valid": In(self.ports),
                "host_write": In(self.ports),
                "host_select": In(self.ports * select),
                "misdirected": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        jobs = [
            (select == HostSelect.SEND_STORE) | (select == HostSelect.RECEIVE_STORE)
            for select in planes_of(self.host_select, self.ports)
        ]
        m.d.sync += self.misdirected.eq((self.host_valid & self.host_write & Cat(jobs)).any())
        return m
