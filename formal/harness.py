"""Harnesses: a block, free inputs, and what its contract says of its ports."""

from __future__ import annotations

from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cover, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring

from podweave.rtl.parts.blocks import Block, place

TOP = "formal_top"


class Harness:
    """A module around the block that is proven.

    Its inputs are free: a solver may give them any value in any cycle. The first cycle is one of reset, in which registers of the
    block hold anything; later ones may be, whenever the solver likes. Rules are about cycles without reset.

    Members
    -------
    m : Module
        For registers and logic of the rules. Registers that are not reset must be given an initial value by whoever uses them.
    facts, covers : list[str]
        What each assertion and each cover says, in the order in which they were stated.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.facts: list[str] = []
        self.covers: list[str] = []
        self._free: list[Value] = []
        started = Signal(name="formal_started", reset_less=True)
        self.m.d.sync += started.eq(1)
        self.m.d.comb += Assume(started | ResetSignal())

    def free(self, name: str, shape: Any = 1) -> Any:
        """An input that may have any value in any cycle."""
        signal = Signal(shape, name=name)
        self._free.append(Value.cast(signal))
        return signal

    def constant(self, name: str, width: int) -> Signal:
        """A value that the solver chooses once: what is proven of it is proven of all values."""
        signal = Signal(width, name=name)
        self.m.submodules[f"choice_{name}"] = Instance("$anyconst", p_WIDTH=width, o_Y=signal)
        return signal

    def place(self, block: Block, name: str = "dut", **driven: Any) -> dict[str, Any]:
        """Its ports by name. ``driven``: values of inputs; all others are free."""
        ports = place(self.m, name, block)
        for port, member in block.signature.members.items():
            if member.flow is wiring.In:
                value = driven.pop(port) if port in driven else self.free(f"free_{name}_{port}", member.shape)
                self.m.d.comb += Value.cast(ports[port]).eq(Value.cast(value))
        if driven:
            raise ValueError(f"{block.module_name} has no inputs {', '.join(driven)}")
        return ports

    def check(self, fact: Value, says: str) -> None:
        """``fact`` holds in every cycle without reset."""
        self.facts.append(says)
        with self.m.If(~ResetSignal()):
            self.m.d.comb += Assert(fact)

    def assume(self, premise: Value) -> None:
        """Only cycles in which ``premise`` holds count, reset or not: what a contract asks of whoever uses the block."""
        self.m.d.comb += Assume(premise)

    def cover(self, happens: Value, says: str) -> None:
        """``happens`` must be shown to happen: what a rule is about is not empty."""
        self.covers.append(says)
        with self.m.If(~ResetSignal()):
            self.m.d.comb += Cover(happens)

    def past(self, value: Value, name: str) -> Signal:
        """``value`` one cycle earlier; 0 after a reset."""
        before = Signal(Value.cast(value).shape(), name=f"past_{name}")
        self.m.d.sync += before.eq(value)
        return before

    def text(self) -> str:
        """RTLIL of the harness, without what it places."""
        text = rtlil.convert(self.m, name=TOP, ports=self._free)
        # Amaranth takes every instance for a module of a user.
        return text.replace("cell \\$anyconst", "cell $anyconst")
