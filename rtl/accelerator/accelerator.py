"""Accelerator: a chip, a prefetch engine for each of its load ports, and what software sees of them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig

from ..chip.chip import Chip
from ..control.csr import axil_members
from ..control.software_control import CHIP_INPUTS, CHIP_OUTPUTS, SoftwareControl
from ..link.collective_engine import CollectiveEngine
from ..link.link_port import LinkPort, port_members, ring_members
from ..link.stray_jobs import StrayJobs
from ..parts.blocks import place
from ..parts.link_access import link_members
from ..parts.load_port import access_members, load_port_members
from ..parts.wired_block import WiredBlock
from ..prefetch.prefetch_engine import PrefetchEngine, axi_members

SHARED = (
    *("start", "stop", "enable", "gap", "cap", "memory_bytes", "epochs_done", "cancel_tag", "bases"),
    *("passes", "pass_epochs", "pass_stride"),
)
"""What all engines are told alike."""
_ENGINE_PREFIX = "m_axi_"


def manager_prefix(manager: int) -> str:
    """What the AXI4 ports of a manager begin with."""
    return f"m{manager}_axi_"


class Accelerator(WiredBlock):
    """Software writes programs and data into memory, says in registers where they are, and starts; the rest happens here.

    ``rst`` resets everything; the control resets chip and engines alone when software asks for it, or a run needs it. The link
    port is not reset with them: neighbours may be in another run.

    Parameters
    ----------
    config : ChipConfig
        The whole chip, with a ``prefetch``.

    Members
    -------
    s_axil_* : as in axil_members
        Registers, as an AXI4-Lite subordinate (`Csr`).
    irq : Out(1)
        An enabled interrupt is pending.
    m<i>_axi_* : as in axi_members
        AXI4 manager i, of the engine for nodes i * ``nodes_per_manager`` on (`PrefetchEngine`).
    link_tx_*, link_rx_* : as in ring_members
        Only with links: to the next chip of a ring, and from the chip before (`LinkPort`).
    """

    kind = "accelerator"

    def __init__(self, config: ChipConfig):
        self.config = config
        members = {**axil_members(config), "irq": Out(1)}
        for i in range(config.managers):
            members |= {name.replace(_ENGINE_PREFIX, manager_prefix(i)): member for name, member in axi_members(config).items()}
        super().__init__(members | (ring_members(config) if config.links else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = place(m, "control", SoftwareControl(self.config))
        reset = control["core_reset"]
        chip = place(m, "chip", Chip(self.config), reset=reset)
        engine_ports = axi_members(self.config)
        blocks = [PrefetchEngine(self.config) for _ in range(self.config.managers)]
        engines = [place(m, f"engine_{i}", block, reset=reset) for i, block in enumerate(blocks)]
        for name, member in {**axil_members(self.config), "irq": Out(1)}.items():
            self._join(m, member, getattr(self, name), control[name])
        m.d.comb += [chip[name].eq(control[f"chip_{name}"]) for name in CHIP_INPUTS]
        m.d.comb += [control[f"chip_{name}"].eq(chip[name]) for name in CHIP_OUTPUTS]
        m.d.comb += [chip[name].eq(control[name]) for name in load_port_members(self.config)]
        m.d.comb += control["host_read_data"].eq(chip["host_read_data"])
        for i, engine in enumerate(engines):
            for name, member in engine_ports.items():
                self._join(m, member, getattr(self, name.replace(_ENGINE_PREFIX, manager_prefix(i))), engine[name])
        inner = {name: member for name, member in blocks[0].signature.members.items() if name not in engine_ports}
        self._engines(m, inner, control, chip, engines)
        if self.config.links:
            self._links(m, control, chip)
        return m

    def _join(self, m: Module, member: Any, outside: Any, inside: Any) -> None:
        m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)

    def _engines(
        self, m: Module, members: dict[str, Any], control: dict[str, Any], chip: dict[str, Any], engines: list[Any]
    ) -> None:
        """Between control and engines; ports of the control hold those of all engines side by side."""
        for name, member in members.items():
            if member.flow is Out:
                m.d.comb += control[f"engine_{name}"].eq(Cat(engine[name] for engine in engines))
                continue
            source = chip[name] if name == "host_read_data" else control[f"engine_{name}"]
            for i, engine in enumerate(engines):
                m.d.comb += engine[name].eq(source if name in SHARED else source.word_select(i, len(engine[name])))

    def _links(self, m: Module, control: dict[str, Any], chip: dict[str, Any]) -> None:
        """The link port, and the collective engine between it, the control and the chip."""
        engine = place(m, "collective_engine", CollectiveEngine(self.config), reset=control["core_reset"])
        port = place(m, "link_port", LinkPort(self.config))
        for name, member in ring_members(self.config).items():
            self._join(m, member, getattr(self, name), port[name])
        for name, member in port_members(self.config).items():
            self._join(m, member, engine[name], port[name])
        m.d.comb += [
            *(block["start"].eq(control["engine_start"]) for block in (engine, port)),
            port["run"].eq(control["link_run"]),
            engine["begins"].eq(control["link_begin"]),
            *(engine[name].eq(control[f"link_{name}"]) for name in ("first", "stop", "timeout")),
            *(control[f"link_{name}"].eq(engine[name]) for name in ("busy", "epoch", "error", "error_id", "waits")),
            *(control[f"link_{name}"].eq(engine[f"flit_{name}"]) for name in ("sent", "received")),
            *(chip[name].eq(engine[name.replace("link_", "access_")]) for name in link_members(self.config)),
            engine["read_data"].eq(chip["link_read_data"]),
            engine["host_valid"].eq(control["host_valid"][0]),
            *(engine[name].eq(control[name][:width]) for name, width in access_members(self.config).items()),
        ]
        if self.config.managers == 1:
            m.d.comb += engine["misdirected"].eq(Const(0, 1))
            return
        stray = place(m, "stray_jobs", StrayJobs(self.config), reset=control["core_reset"])
        m.d.comb += engine["misdirected"].eq(stray["misdirected"])
        for name in ("host_valid", "host_write", "host_select"):
            m.d.comb += stray[name].eq(control[name][len(control[name]) - len(stray[name]) :])
