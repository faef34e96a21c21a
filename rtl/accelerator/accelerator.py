"""Accelerator: a chip, a prefetch engine for each of its load ports, and what software sees of them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig

from ..chip.chip import Chip
from ..control.csr import axil_members
from ..control.software_control import CHIP_INPUTS, CHIP_OUTPUTS, SoftwareControl
from ..parts.blocks import place
from ..parts.load_port import load_port_members
from ..parts.wired_block import WiredBlock
from ..prefetch.prefetch_engine import PrefetchEngine, axi_members

SHARED = ("start", "stop", "enable", "gap", "cap", "memory_bytes", "epochs_done", "cancel_tag", "bases")
"""What all engines are told alike."""
_ENGINE_PREFIX = "m_axi_"


def manager_prefix(manager: int) -> str:
    """What the AXI4 ports of a manager begin with."""
    return f"m{manager}_axi_"


class Accelerator(WiredBlock):
    """Software writes programs and data into memory, says in registers where they are, and starts; the rest happens here.

    ``rst`` resets everything; the control resets chip and engines alone when software asks for it, or a run needs it.

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
    """

    kind = "accelerator"

    def __init__(self, config: ChipConfig):
        self.config = config
        members = {**axil_members(), "irq": Out(1)}
        for i in range(config.managers):
            members |= {name.replace(_ENGINE_PREFIX, manager_prefix(i)): member for name, member in axi_members(config).items()}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = place(m, "control", SoftwareControl(self.config))
        reset = control["core_reset"]
        chip = place(m, "chip", Chip(self.config), reset=reset)
        engine_ports = axi_members(self.config)
        blocks = [PrefetchEngine(self.config) for _ in range(self.config.managers)]
        engines = [place(m, f"engine_{i}", block, reset=reset) for i, block in enumerate(blocks)]
        for name, member in {**axil_members(), "irq": Out(1)}.items():
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
