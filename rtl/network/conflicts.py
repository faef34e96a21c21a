"""Which of several things came first: sticky records of errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from podweave.spec.layout import bits_for_index


@dataclass(frozen=True)
class NetworkError:
    """Where two words met.

    Members
    -------
    flag : Value
        There was a conflict; sticky.
    stage, port : Value
        Of the first conflict; 0 before.
    """

    flag: Value
    stage: Value
    port: Value


def lowest_set(m: Module, bits: Signal, *, name: str) -> tuple[Signal, Signal]:
    """``bits`` with only its lowest set bit left, and the index of that bit; both 0 if there is none."""
    width = len(bits)
    one = Signal(width, name=f"{name}_lowest")
    index = Signal(bits_for_index(width), name=f"{name}_index")
    m.d.comb += one.eq(bits & (~bits + 1))
    for k in range(len(index)):
        mask = sum(1 << i for i in range(width) if i >> k & 1)
        m.d.comb += index[k].eq((one & mask).any())
    return one, index


def record_conflicts(m: Module, conflicts: Sequence[Signal], *, error: Signal, stage: Signal, port: Signal) -> None:
    """Keep the first conflict until reset: ``conflicts`` has a bit per port for each stage.

    The three outputs show it in the cycle after. Of several in one cycle, the lowest stage and in it the lowest port counts.
    """
    found = Signal(len(conflicts), name="conflict_stages")
    _, first_stage = lowest_set(m, found, name="conflict_stage")
    chosen: Value = conflicts[-1]
    for i in reversed(range(len(conflicts) - 1)):
        m.d.comb += found[i].eq(conflicts[i].any())
        chosen = Mux(found[i], conflicts[i], chosen)
    m.d.comb += found[-1].eq(conflicts[-1].any())
    ports = Signal(len(conflicts[0]), name="conflict_ports")
    m.d.comb += ports.eq(chosen)
    _, first_port = lowest_set(m, ports, name="conflict_port")
    with m.If(~error):
        m.d.sync += [error.eq(found.any()), stage.eq(first_stage), port.eq(first_port)]


def record_errors(m: Module, errors: Sequence[NetworkError], *, error: Signal, stage: Signal, port: Signal) -> None:
    """Keep the first of several sticky errors until reset, one cycle later; of several at once, the first in ``errors``."""
    flags = Signal(len(errors), name="error_flags")
    m.d.comb += flags.eq(Cat(each.flag for each in errors))
    first, _ = lowest_set(m, flags, name="error_first")
    with m.If(~error):
        m.d.sync += error.eq(flags.any())
        for i, one in enumerate(errors):
            with m.If(first[i]):
                m.d.sync += [stage.eq(one.stage), port.eq(one.port)]
