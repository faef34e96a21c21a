"""Rules of AXI4 and AXI4-Lite as components that watch a bus, in a proof or in a simulation.

Source of the rules: AMBA AXI and ACE Protocol Specification (Arm IHI 0022), chapters A2, A3 and B1. Bursts of one id are answered
in order; locks, caches, regions and users are not looked at.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

PAGE_BYTES = 4096
_INCREMENTING, _EXCLUSIVE_OKAY = 1, 1


def _changes(m: Module, valid: Value, ready: Value, payload: Value, name: str) -> Value:
    """What was valid and not accepted is not valid any more, or another."""
    waits, held = Signal(name=f"{name}_waits"), Signal(len(payload), name=f"{name}_held")
    m.d.sync += [waits.eq(valid & ~ready), held.eq(payload)]
    return waits & (~valid | (payload != held))


def _first_cycle(m: Module) -> Signal:
    """The first cycle behind a reset."""
    first = Signal(init=1, name="first_cycle")
    m.d.sync += first.eq(0)
    return first


class _Lengths:
    """Bursts that wait, in order, up to ``depth`` of them."""

    def __init__(self, m: Module, depth: int, push: Value, length: Value, pop: Value, name: str):
        self.count = Signal(range(depth + 1), name=f"{name}_count")
        held = Array(Signal(8, name=f"{name}_{i}") for i in range(depth + 1))
        self.head: Value = held[0]
        self.full = self.count == depth
        with m.If(pop & (self.count != 0)):
            m.d.sync += [held[i].eq(held[i + 1]) for i in range(depth)]
        at = Signal(range(depth + 2), name=f"{name}_at")
        m.d.comb += at.eq(self.count - (pop & (self.count != 0)))
        with m.If(push & ~(self.full & ~pop)):
            m.d.sync += held[at].eq(length)
        m.d.sync += self.count.eq(at + (push & ~(self.full & ~pop)))


class AddressRules(wiring.Component):
    """An address channel of an AXI4 manager: AR, or AW.

    Parameters
    ----------
    address_width, data_width : int
        Of the bus.

    Members
    -------
    valid, ready, addr, len, size, burst : In
        The channel.
    broken : Out(len(RULES))
        In this cycle, a bit for each of `RULES`.
    """

    RULES = (
        "valid in the first cycle behind a reset",
        "valid or what comes with it changed before ready",
        "not a burst of incrementing addresses",
        "beats are wider than the bus",
        "the burst crosses a multiple of 4 KiB",
    )

    def __init__(self, address_width: int, data_width: int):
        self.widest = (data_width // 8).bit_length() - 1
        channel = {"valid": 1, "ready": 1, "addr": address_width, "len": 8, "size": 3, "burst": 2}
        super().__init__({**{name: In(width) for name, width in channel.items()}, "broken": Out(len(self.RULES))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Cat(self.addr, self.len, self.size, self.burst)
        bytes_within = Signal(20)
        m.d.comb += [
            bytes_within.eq((self.addr[:12] >> self.size << self.size) + ((self.len + 1) << self.size)),
            self.broken.eq(
                Cat(
                    self.valid & _first_cycle(m),
                    _changes(m, self.valid, self.ready, payload, "address"),
                    self.valid & (self.burst != _INCREMENTING),
                    self.valid & (self.size > self.widest),
                    self.valid & (bytes_within > PAGE_BYTES),
                )
            ),
        ]
        return m


class WriteRules(wiring.Component):
    """The data and response channels of an AXI4 manager that writes.

    Parameters
    ----------
    data_width : int
        Of the bus.
    outstanding : int
        Bursts, at most, whose data or responses are to come.

    Members
    -------
    announced, length : In(1), In(8)
        In the first cycle in which a burst is on AW: its beats - 1.
    valid, ready, data, strb, last : In
        The W channel.
    bvalid, bready, bresp : In
        The B channel.
    broken, wrong : Out(len(RULES)), Out(len(MEMORY_RULES))
        In this cycle, a bit for each rule of the manager (of the memory) that is broken.
    """

    RULES = (
        "valid in the first cycle behind a reset",
        "valid or what comes with it changed before ready",
        "data before their address",
        "last is not on the last beat, or on another one",
        "more bursts than are allowed",
    )
    MEMORY_RULES = ("response changed before ready", "response before the last beat was accepted")

    def __init__(self, data_width: int, outstanding: int):
        self.outstanding = outstanding
        channel = {
            "valid": 1,
            "ready": 1,
            "data": data_width,
            "strb": data_width // 8,
            "last": 1,
            "bvalid": 1,
            "bready": 1,
            "bresp": 2,
        }
        members: dict[str, Any] = {name: In(width) for name, width in channel.items()}
        results = {"broken": Out(len(self.RULES)), "wrong": Out(len(self.MEMORY_RULES))}
        super().__init__({"announced": In(1), "length": In(8), **members, **results})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, sent, ends, answers = self.valid & self.ready, Signal(8), Signal(), Signal()
        bursts = _Lengths(m, self.outstanding, self.announced, self.length, ends, "write")
        unanswered, open_bursts = (Signal(range(self.outstanding + 2), name=name) for name in ("unanswered", "open"))
        m.d.comb += [ends.eq(beat & (sent == bursts.head) & (bursts.count != 0)), answers.eq(self.bvalid & self.bready)]
        with m.If(beat):
            m.d.sync += sent.eq(sent + 1)
            with m.If(ends):
                m.d.sync += sent.eq(0)
        fits = open_bursts != self.outstanding + 1
        m.d.sync += [
            unanswered.eq(unanswered + (ends & (unanswered != self.outstanding + 1)) - (answers & (unanswered != 0))),
            open_bursts.eq(open_bursts + (self.announced & fits) - (answers & (open_bursts != 0))),
        ]
        m.d.comb += [
            self.broken.eq(
                Cat(
                    self.valid & _first_cycle(m),
                    _changes(m, self.valid, self.ready, Cat(self.data, self.strb, self.last), "write"),
                    self.valid & (bursts.count == 0),
                    self.valid & (bursts.count != 0) & (self.last != (sent == bursts.head)),
                    open_bursts > self.outstanding,
                )
            ),
            self.wrong.eq(
                Cat(
                    _changes(m, self.bvalid, self.bready, self.bresp, "response"),
                    self.bvalid & (unanswered == 0),
                )
            ),
        ]
        return m


class ReadRules(wiring.Component):
    """The data channel of an AXI4 manager that reads: what the memory must keep to, and how many bursts are under way.

    Parameters
    ----------
    data_width : int
        Of the bus.
    outstanding : int
        Bursts, at most, whose data are to come.

    Members
    -------
    announced, accepted, length : In(1), In(1), In(8)
        A burst is on AR for the first time (is accepted there), and its beats - 1.
    valid, ready, data, resp, last : In
        The R channel.
    broken, wrong : Out(len(RULES)), Out(len(MEMORY_RULES))
        As of `WriteRules`.
    """

    RULES = ("more bursts than are allowed",)
    MEMORY_RULES = ("valid or what comes with it changed before ready", "data that nobody asked for", "last is on another beat")

    def __init__(self, data_width: int, outstanding: int):
        self.outstanding = outstanding
        channel = {"announced": 1, "accepted": 1, "length": 8, "valid": 1, "ready": 1, "data": data_width, "resp": 2, "last": 1}
        results = {"broken": Out(len(self.RULES)), "wrong": Out(len(self.MEMORY_RULES))}
        super().__init__({**{name: In(width) for name, width in channel.items()}, **results})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, sent, ends = self.valid & self.ready, Signal(8), Signal()
        bursts = _Lengths(m, self.outstanding, self.accepted, self.length, ends, "read")
        open_bursts = Signal(range(self.outstanding + 2), name="open")
        m.d.comb += ends.eq(beat & (sent == bursts.head) & (bursts.count != 0))
        with m.If(beat):
            m.d.sync += sent.eq(sent + 1)
            with m.If(ends):
                m.d.sync += sent.eq(0)
        fits = open_bursts != self.outstanding + 1
        m.d.sync += open_bursts.eq(open_bursts + (self.announced & fits) - (ends & (open_bursts != 0)))
        m.d.comb += [
            self.broken.eq(open_bursts > self.outstanding),
            self.wrong.eq(
                Cat(
                    _changes(m, self.valid, self.ready, Cat(self.data, self.resp, self.last), "read"),
                    self.valid & (bursts.count == 0),
                    self.valid & (bursts.count != 0) & (self.last != (sent == bursts.head)),
                )
            ),
        ]
        return m


class LiteRules(wiring.Component):
    """An AXI4-Lite subordinate that takes one write and one read at a time.

    Parameters
    ----------
    address_width, data_width : int
        Of the bus.
    cycles : int
        In which it answers, at most, as long as nothing that was answered waits for its ready.

    Members
    -------
    awaddr, awvalid, awready, wdata, wstrb, wvalid, wready, bresp, bvalid, bready : In
        The channels of a write.
    araddr, arvalid, arready, rdata, rresp, rvalid, rready : In
        The channels of a read.
    slow : In(1)
        The read that is under way may take longer.
    broken, wrong : Out(len(RULES)), Out(len(MANAGER_RULES))
        In this cycle, a bit for each rule of the subordinate (of its manager) that is broken.
    """

    RULES = (
        "a response in the first cycle behind a reset",
        "the response of a write changed before ready",
        "the response of a read changed before ready",
        "a response without a write",
        "a response without a read",
        "EXOKAY, which AXI4-Lite has not",
        "a write is not answered in time",
        "a read is not answered in time",
    )
    MANAGER_RULES = (
        "AW changed before ready",
        "W changed before ready",
        "AR changed before ready",
    )

    def __init__(self, address_width: int, data_width: int, cycles: int):
        self.cycles = cycles
        channels = {
            **{"awaddr": address_width, "awvalid": 1, "awready": 1},
            **{"wdata": data_width, "wstrb": data_width // 8, "wvalid": 1, "wready": 1},
            **{"bresp": 2, "bvalid": 1, "bready": 1},
            **{"araddr": address_width, "arvalid": 1, "arready": 1},
            **{"rdata": data_width, "rresp": 2, "rvalid": 1, "rready": 1, "slow": 1},
        }
        results = {"broken": Out(len(self.RULES)), "wrong": Out(len(self.MANAGER_RULES))}
        super().__init__({**{name: In(width) for name, width in channels.items()}, **results})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A response takes one of each; of each there may be one more, which waits for it.
        counts = {name: Signal(2, name=f"{name}_count") for name in ("aw", "w", "ar")}
        answered = {"aw": self.bvalid & self.bready, "ar": self.rvalid & self.rready}
        answered["w"] = answered["aw"]
        for name, count in counts.items():
            taken = getattr(self, f"{name}valid") & getattr(self, f"{name}ready") & (count != 3)
            m.d.sync += count.eq(count + taken - (answered[name] & (count != 0)))
        may_b, may_r = (counts["aw"] != 0) & (counts["w"] != 0), counts["ar"] != 0
        waits = {}
        for name, due in (("b", may_b & ~self.bvalid), ("r", may_r & ~self.rvalid & ~self.slow)):
            waits[name] = Signal(range(self.cycles + 1), name=f"{name}_waits")
            with m.If(~due):
                m.d.sync += waits[name].eq(0)
            with m.Elif(waits[name] != self.cycles):
                m.d.sync += waits[name].eq(waits[name] + 1)
        exclusive = (self.bvalid & (self.bresp == _EXCLUSIVE_OKAY)) | (self.rvalid & (self.rresp == _EXCLUSIVE_OKAY))
        m.d.comb += [
            self.broken.eq(
                Cat(
                    (self.bvalid | self.rvalid) & _first_cycle(m),
                    _changes(m, self.bvalid, self.bready, self.bresp, "b"),
                    _changes(m, self.rvalid, self.rready, Cat(self.rdata, self.rresp), "r"),
                    self.bvalid & ~may_b,
                    self.rvalid & ~may_r,
                    exclusive,
                    waits["b"] == self.cycles,
                    waits["r"] == self.cycles,
                )
            ),
            self.wrong.eq(
                Cat(
                    _changes(m, self.awvalid, self.awready, self.awaddr, "aw"),
                    _changes(m, self.wvalid, self.wready, Cat(self.wdata, self.wstrb), "w"),
                    _changes(m, self.arvalid, self.arready, self.araddr, "ar"),
                )
            ),
        ]
        return m
