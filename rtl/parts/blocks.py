"""Blocks that are emitted once per distinct configuration and instantiated wherever they repeat.

Amaranth writes one Verilog module per *instance*. A `Block` instead is converted by itself, under a name that its
configuration determines, and its parent holds an ``Instance`` of that name: cost then grows with the number of
distinct blocks, for emission, for Verilator and for synthesis alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring

from podweave.spec.layout import Layout

from .amaranth_internals import mark_used
from .prefix import check_prefix

_prefix: ContextVar[str] = ContextVar("prefix", default="")
_placements: ContextVar[list[Block] | None] = ContextVar("placements", default=None)


class Block(wiring.Component):
    """A component with a flat signature that is emitted once.

    Subclasses name themselves with `kind` (the field's name of the block) and `variant` (what distinguishes two
    configurations of it; equal variants must elaborate to the same hardware).
    """

    kind: str
    variant: str = ""
    sram_bits: int = 0
    inline: bool = False
    """Too small to be a class of its own in simulation: Verilator may dissolve it in its parent."""

    @property
    def module_name(self) -> str:
        """Its kind and variant, behind the prefix of the emission that is on."""
        return "_".join(filter(None, (_prefix.get(), self.kind, self.variant)))

    def verilog(self) -> str | None:
        """Verilog text of a block that is written by hand (SRAM); None for a block that is elaborated."""
        return None


def place(m: Module, name: str, block: Block, *, reset: Value | None = None) -> dict[str, Any]:
    """Instantiate ``block`` in ``m`` as submodule ``name``; returns its ports by name, to be driven or read.

    ``reset``: its reset, in place of that of ``m``, which it should include.
    """
    placements = _placements.get()
    if placements is None:
        raise RuntimeError(f"{block.module_name} was placed outside of emission: convert the design with rtl.accelerator.emit")
    placements.append(block)
    # Only the first placement of a block is ever elaborated; Amaranth would warn of all the others.
    mark_used(block)
    ports: dict[str, Any] = {}
    arguments: dict[str, Value] = {"i_clk": ClockSignal(), "i_rst": ResetSignal() if reset is None else reset}
    for port, member in block.signature.members.items():
        ports[port] = Signal(member.shape, name=f"{name}__{port}")
        prefix = "o" if member.flow is wiring.Out else "i"
        arguments[f"{prefix}_{port}"] = Value.cast(ports[port])
    m.submodules[name] = Instance(block.module_name, **arguments)
    return ports


@contextmanager
def prefixed_names(prefix: str) -> Iterator[None]:
    """In the ``with`` body, names of modules begin with ``prefix`` and an underscore; with "", they are plain."""
    if prefix:
        check_prefix(prefix)
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


@contextmanager
def collecting_placements() -> Iterator[list[Block]]:
    """Collects the blocks that elaboration places inside the ``with`` body."""
    token = _placements.set([])
    try:
        found = _placements.get()
        assert found is not None
        yield found
    finally:
        _placements.reset(token)


def struct(layout: Layout) -> data.StructLayout:
    """The Amaranth shape of a packed word."""
    return data.StructLayout({f.name: _shape(f.width, f.signed) for f in layout.fields})


def _shape(width: int, is_signed: bool) -> Shape:
    return signed(width) if is_signed else unsigned(width)


def register(m: Module, value: Value, *, name: str, reset_less: bool = True) -> Signal:
    """``value`` one cycle later. Datapath registers carry no reset: half the speed of a simulation, and area."""
    delayed = Signal(value.shape(), name=name, reset_less=reset_less)
    m.d.sync += delayed.eq(value)
    return delayed


def delay_line(m: Module, value: Value, cycles: int, *, name: str, reset_less: bool = True) -> list[Signal | Value]:
    """``value`` delayed by 0, 1, ... ``cycles`` cycles, as a list indexed by the delay."""
    taps: list[Signal | Value] = [value]
    for cycle in range(1, cycles + 1):
        taps.append(register(m, Value.cast(taps[-1]), name=f"{name}_{cycle}", reset_less=reset_less))
    return taps
