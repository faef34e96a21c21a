"""CSRs: the registers of `register_list` behind an AXI4-Lite subordinate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.register_list import register_list
from podweave.spec.register_types import MANAGER_PITCH, Access, Register, RegisterField, address_width
from podweave.spec.register_types import WORD_WIDTH as DATA_WIDTH

from ..parts.blocks import Block

OKAY, SLVERR = 0, 2


def axil_members(config: ChipConfig) -> dict[str, Any]:
    """The AXI4-Lite port, names as usual behind ``s_axil_``."""
    strobes, address = DATA_WIDTH // 8, address_width(config.managers)
    to_us = {"awaddr": address, "awprot": 3, "awvalid": 1, "wdata": DATA_WIDTH, "wstrb": strobes, "wvalid": 1, "bready": 1}
    to_us |= {"araddr": address, "arprot": 3, "arvalid": 1, "rready": 1}
    from_us = {"awready": 1, "wready": 1, "bresp": 2, "bvalid": 1, "arready": 1, "rdata": DATA_WIDTH, "rresp": 2, "rvalid": 1}
    return {
        **{f"s_axil_{name}": In(width) for name, width in to_us.items()},
        **{f"s_axil_{name}": Out(width) for name, width in from_us.items()},
    }


def csr_members(config: ChipConfig) -> dict[str, Any]:
    """Ports of the registers, by `Register.port`; those of managers side by side, manager 0 least significant."""
    members: dict[str, Any] = {}
    for register in register_list(config):
        if register.constant:
            continue
        for field in register.fields:
            inward = register.access in (Access.RO, Access.W1C)
            members[register.port(field)] = (In if inward else Out)(register.copies * field.width)
        if register.access is Access.WO:
            members[f"{register.name.lower()}_valid"] = Out(1)
    return members


class Csr(Block):
    """Reads and writes of 32 bits, one of each at a time; the two lowest bits of an address do not matter.

    A write takes effect in the first cycle t in which its address and its data, which may come in any order, have both been
    accepted in earlier cycles and no response is waiting: registers and pulses show it in t + 1, with ``bvalid``. It does nothing
    but answer SLVERR where there is no register, where the register is read only, and, of a locked one, with ``status_busy``.
    A read is answered, with the values of cycle t, in t + 1, if its address was accepted in cycle t - 1; SLVERR and 0 where there
    is no register. No ready depends on a valid.

    Latency: 2 cycles from the acceptance of a read's address to its answer; 1 from ``node_data_done`` to the answer of NODE_DATA.

    Parameters
    ----------
    config : ChipConfig
        Gives the registers (`register_list`).

    Members
    -------
    s_axil_* : as in axil_members
        The AXI4-Lite port.
    irq : Out(1)
        An enabled interrupt is pending.
    <register>, <register>_<field> : In(copies * width) or Out(copies * width)
        By `Register.port`: inputs with the value of read-only registers; outputs with that of RW registers.
    irq_pending_* : In(copies * width)
        Set a bit that is cleared by writing 1.
    control_* : Out(copies * width)
        Pulses.
    cancel_valid, cancel_* : Out(1), Out(copies * width)
        A pulse, and what comes with it.
    node_data_read : Out(1)
        A read of NODE_DATA: a pulse.
    node_data_done : In(1)
        Answers it: a pulse in any later cycle, with ``node_data`` or ``node_data_error``.
    node_data_error : In(1)
        There is no such word, with ``node_data_done``.
    """

    kind = "csr"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.registers = register_list(config)
        super().__init__(
            {
                **axil_members(config),
                "irq": Out(1),
                **csr_members(config),
                "node_data_read": Out(1),
                "node_data_done": In(1),
                "node_data_error": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words: list[tuple[int, Value]] = []
        # As wide as the widest of them.
        ends = [f.low + f.width for r in self.registers if r.access is Access.RO and r.words == 2 for f in r.fields]
        self._latch = Signal(max(ends) - DATA_WIDTH, name="second_word")
        self._write_channel(m)
        for register in self.registers:
            content = self._content(m, register)
            for copy, value in enumerate(content):
                offset = register.offset + copy * MANAGER_PITCH
                if register.words == 1:
                    words.append((offset, value))
                elif register.access is Access.RO:
                    words += [(offset, value[:DATA_WIDTH]), (offset + 4, self._latch)]
                else:
                    words += [(offset, value[:DATA_WIDTH]), (offset + 4, value[DATA_WIDTH:])]
        self._read_channel(m, words)
        return m

    def _write_channel(self, m: Module) -> None:
        """Holds an address and a word until both are here; ``self._writes(offset)``: the cycle in which they take effect."""
        self._address, self._data, self._strobes = (
            Signal(width, name=f"write_{name}", reset_less=True)
            for name, width in (("address", len(self.s_axil_awaddr) - 2), ("data", DATA_WIDTH), ("strobes", DATA_WIDTH // 8))
        )
        has_address, has_data = Signal(), Signal()
        self._write, accepted = Signal(name="write"), Signal(name="write_accepted")
        m.d.comb += [
            self.s_axil_awready.eq(~has_address),
            self.s_axil_wready.eq(~has_data),
            self._write.eq(has_address & has_data & ~self.s_axil_bvalid),
        ]
        with m.If(self._write):
            m.d.sync += [has_address.eq(0), has_data.eq(0), self.s_axil_bvalid.eq(1)]
            m.d.sync += self.s_axil_bresp.eq(Mux(accepted, OKAY, SLVERR))
        with m.If(self.s_axil_awvalid & self.s_axil_awready):
            m.d.sync += [has_address.eq(1), self._address.eq(self.s_axil_awaddr[2:])]
        with m.If(self.s_axil_wvalid & self.s_axil_wready):
            m.d.sync += [has_data.eq(1), self._data.eq(self.s_axil_wdata), self._strobes.eq(self.s_axil_wstrb)]
        with m.If(self.s_axil_bvalid & self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.Switch(self._address):
            for register, copy in self._copies():
                if register.access is not Access.RO:
                    with m.Case(*(register.offset + copy * MANAGER_PITCH + 4 * word >> 2 for word in range(register.words))):
                        m.d.comb += accepted.eq(~self.status_busy if register.locked else 1)
        self._mask = Signal(DATA_WIDTH, name="write_mask")
        m.d.comb += self._mask.eq(Cat(strobe.replicate(8) for strobe in self._strobes))
        self._accepted = accepted

    def _copies(self) -> Iterator[tuple[Register, int]]:
        for register in self.registers:
            for copy in range(register.copies):
                yield register, copy

    def _content(self, m: Module, register: Register) -> list[Value]:
        """What each copy of a register reads as, all its words."""
        copies = []
        for copy in range(register.copies):
            if register.constant:
                copies.append(Const(register.reset, DATA_WIDTH))
            elif register.access is Access.RO:
                copies.append(_joined(register, {f.name: self._port(register, f, copy) for f in register.fields}))
            elif register.access is Access.RW:
                copies.append(self._stored(m, register, copy))
            else:
                special = {Access.W1C: self._events, Access.WO: self._command, Access.PULSE: self._pulses}
                copies.append(special[register.access](m, register))
        return copies

    def _port(self, register: Register, field: RegisterField, copy: int) -> Value:
        return getattr(self, register.port(field)).word_select(copy, field.width)

    def _taken(self, m: Module, register: Register, copy: int, word: int, name: str) -> Value:
        """This word of the register is written in this cycle."""
        taken = Signal(name=name)
        here = register.offset + copy * MANAGER_PITCH + 4 * word >> 2
        m.d.comb += taken.eq(self._write & self._accepted & (self._address == here))
        return taken

    def _stored(self, m: Module, register: Register, copy: int) -> Value:
        name = f"{register.name.lower()}_{copy}"
        held = {f.name: Signal(f.width, name=f"{name}_{f.name.lower()}", init=f.value) for f in register.fields}
        content = _joined(register, held)
        for word in range(register.words):
            taken = self._taken(m, register, copy, word, f"{name}_write_{word}")
            low = word * DATA_WIDTH
            merged = Signal(DATA_WIDTH, name=f"{name}_merged_{word}")
            m.d.comb += merged.eq((content[low : low + DATA_WIDTH] & ~self._mask) | (self._data & self._mask))
            with m.If(taken):
                for f in register.fields:
                    first, last = max(f.low, low), min(f.low + f.width, low + DATA_WIDTH)
                    if first < last:
                        m.d.sync += held[f.name][first - f.low : last - f.low].eq(merged[first - low : last - low])
        m.d.comb += [self._port(register, f, copy).eq(held[f.name]) for f in register.fields]
        return content

    def _events(self, m: Module, register: Register) -> Value:
        pending = {f.name: Signal(name=f"pending_{f.name.lower()}") for f in register.fields}
        taken = self._taken(m, register, 0, 0, "pending_write")
        for f in register.fields:
            cleared = taken & self._data[f.low] & self._mask[f.low]
            m.d.sync += pending[f.name].eq((pending[f.name] & ~cleared) | self._port(register, f, 0))
        enabled = [pending[f.name] & getattr(self, f"irq_enable_{f.name.lower()}") for f in register.fields]
        m.d.comb += self.irq.eq(Cat(enabled).any())
        return _joined(register, pending)

    def _command(self, m: Module, register: Register) -> Value:
        taken = self._taken(m, register, 0, 0, f"{register.name.lower()}_write") & self._strobes.any()
        m.d.sync += getattr(self, f"{register.name.lower()}_valid").eq(taken)
        with m.If(taken):
            written = self._data & self._mask
            m.d.sync += [self._port(register, f, 0).eq(written[f.low : f.low + f.width]) for f in register.fields]
        return Const(0, DATA_WIDTH)

    def _pulses(self, m: Module, register: Register) -> Value:
        taken = self._taken(m, register, 0, 0, f"{register.name.lower()}_write")
        for f in register.fields:
            m.d.sync += self._port(register, f, 0).eq(taken & self._data[f.low] & self._mask[f.low])
        return Const(0, DATA_WIDTH)

    def _read_channel(self, m: Module, words: list[tuple[int, Value]]) -> None:
        address = Signal(len(self.s_axil_araddr) - 2, name="read_address", reset_less=True)
        has_address, waiting, known, slow = (Signal(name=f"read_{name}") for name in ("pending", "waiting", "known", "slow"))
        answer = Signal(name="read_answer")
        word = Signal(DATA_WIDTH, name="read_word")
        slow_offset = next(register.offset for register in self.registers if register.name == "NODE_DATA")
        m.d.comb += [
            self.s_axil_arready.eq(~has_address),
            slow.eq(address == slow_offset >> 2),
            self.node_data_read.eq(has_address & slow & ~waiting & ~self.s_axil_rvalid),
            answer.eq(Mux(slow, waiting & self.node_data_done, has_address & ~self.s_axil_rvalid)),
        ]
        with m.Switch(address):
            for offset, value in words:
                with m.Case(offset >> 2):
                    m.d.comb += [word.eq(value), known.eq(1)]
        with m.If(self.s_axil_arvalid & self.s_axil_arready):
            m.d.sync += [has_address.eq(1), address.eq(self.s_axil_araddr[2:])]
        with m.If(self.node_data_read):
            m.d.sync += waiting.eq(1)
        with m.If(self.s_axil_rvalid & self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)
        refused = Signal(name="read_refused")
        m.d.comb += refused.eq(~known | (slow & self.node_data_error))
        with m.If(answer):
            m.d.sync += [
                has_address.eq(0),
                waiting.eq(0),
                self.s_axil_rvalid.eq(1),
                self.s_axil_rdata.eq(Mux(refused, 0, word)),
                self.s_axil_rresp.eq(Mux(refused, SLVERR, OKAY)),
            ]
        # The second words of all registers that change by themselves.
        with m.Switch(address):
            for register, copy in self._copies():
                if register.access is Access.RO and register.words == 2:
                    content = _joined(register, {f.name: self._port(register, f, copy) for f in register.fields})
                    with m.Case(register.offset + copy * MANAGER_PITCH >> 2), m.If(answer):
                        m.d.sync += self._latch.eq(content[DATA_WIDTH:])


def _joined(register: Register, values: dict[str, Value]) -> Value:
    """The fields of a register at their places, with zeros between and up to its end."""
    parts: list[Value] = []
    at = 0
    for f in sorted(register.fields, key=lambda f: f.low):
        if f.low > at:
            parts.append(Const(0, f.low - at))
        parts.append(values[f.name])
        at = f.low + f.width
    end = DATA_WIDTH * register.words
    if end > at:
        parts.append(Const(0, end - at))
    return Cat(*parts)
