"""Link port."""

from __future__ import annotations

import dataclasses

from amaranth.hdl import Cat, Signal

from podweave.rtl.link.link_port import LinkPort, buffer_flits
from podweave.spec.config import ChipConfig
from podweave.spec.links import MAX_CREDITS, RUN_WIDTH, FlitKind
from podweave.spec.links_config import LinksConfig

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small


def _config() -> ChipConfig:
    # A word of 2 flits of 32 bits.
    return dataclasses.replace(small(psum_width=32), links=LinksConfig(flit_bits=32, buffer_words=2, jobs=4))


_CONFIG = _config()
_FLITS = buffer_flits(_CONFIG)


def send(h: Harness) -> None:
    m = h.m
    dut = h.place(LinkPort(_CONFIG))
    valid, ready = dut["link_tx_valid"], dut["link_tx_ready"]
    beside = Cat(dut["link_tx_user"], dut["link_tx_crc"])
    # One bit of the payload, whichever it is.
    bit = h.constant("bit", 5)
    shown = Cat(dut["link_tx_data"].bit_select(bit, 1), beside)
    waits, held = h.past(valid & ~ready, "waits"), h.past(shown, "shown")
    h.check(~waits | (valid & (shown == held)), "a flit holds still until it is accepted")

    run = Signal(RUN_WIDTH)
    with m.If(dut["start"]):
        m.d.sync += run.eq(dut["run"])
    # Credits, of the run that the neighbour named last; it gives no more than it may.
    number, of_run = Signal(range(MAX_CREDITS + 1)), Signal(RUN_WIDTH)
    sent = dut["send_valid"] & dut["send_ready"]
    h.assume(~dut["link_tx_credit"] | (number != MAX_CREDITS))
    with m.If(dut["link_tx_credit"] & (dut["link_tx_credit_run"] != of_run)):
        m.d.sync += [of_run.eq(dut["link_tx_credit_run"]), number.eq(1)]
    with m.Else():
        m.d.sync += number.eq(number + dut["link_tx_credit"] - (sent & dut["send_first"]))
    credit = (number != 0) & (of_run == run)
    h.check(~(sent & dut["send_first"]) | credit, "the first flit of a word is taken only with a credit of this run")

    # Where the next flit stands: in the room before the port, or on it.
    kind, data, of, room = Signal(2), Signal(1), Signal(RUN_WIDTH), Signal()
    moves = ~valid | ready
    free = ~room | moves
    pending = Signal()
    h.check(
        dut["send_ready"] == (free & ~pending & (~dut["send_first"] | credit)),
        "a flit is taken if there is room, and no FAULT to be sent",
    )
    with m.If(free):
        m.d.sync += [room.eq(pending | sent), of.eq(run)]
        with m.If(pending):
            m.d.sync += [kind.eq(FlitKind.FAULT), data.eq(0)]
        with m.Else():
            m.d.sync += [kind.eq(dut["send_kind"]), data.eq(dut["send_data"].bit_select(bit, 1))]
    m.d.sync += pending.eq((dut["fault"] | (pending & ~free)) & ~dut["start"])
    came, what = h.past(room & moves, "moved"), h.past(Cat(kind, of, data), "what")
    h.check(~came | valid, "a flit is on the port 2 cycles after it was taken, or when the one before is accepted")
    h.check(~came | (Cat(dut["link_tx_user"], shown[0]) == what), "kind, run and payload are as they were taken")
    h.check(~(valid & ~came) | waits, "nothing else is")
    h.cover(room & (kind == FlitKind.FAULT) & ~moves, "a FAULT flit waits behind another")
    h.cover(sent & dut["send_first"] & h.past(sent & dut["send_first"], "before"), "two heads in a row")
    h.cover((number != 0) & (of_run != run) & dut["send_valid"] & dut["send_first"], "credits of another run do not count")


def receive(h: Harness) -> None:
    m = h.m
    dut = h.place(LinkPort(_CONFIG))
    start, bit = dut["start"], 0  # All bits of a payload go the same way.
    run = Signal(RUN_WIDTH)
    with m.If(start):
        m.d.sync += run.eq(dut["run"])
    # What is looked at in this cycle came in the one before.
    came, user = h.past(dut["link_rx_valid"], "came"), h.past(dut["link_rx_user"], "user")
    data = h.past(dut["link_rx_data"][bit], "data")
    level = Signal(range(_FLITS + 1))
    wanted = came & (user[:2] != FlitKind.FAULT) & (user[2:] == run)
    full = level == _FLITS
    taken = dut["received_valid"] & dut["received_ready"]
    with m.If(start):
        m.d.sync += level.eq(0)
    with m.Else():
        m.d.sync += level.eq(level + (wanted & ~full) - taken)
    overflow = Signal()
    m.d.sync += overflow.eq((overflow | (wanted & full)) & ~start)
    h.check(dut["overflow"] == overflow, "overflow: a flit of this run found no room, since the start")
    h.check(~dut["received_valid"] | (level != 0), "nothing is handed on that did not come")
    # One flit, of any kind and payload bit, whenever it comes.
    watched, chosen = h.constant("watched", 3), h.free("chosen")
    inside, ahead = Signal(), Signal(range(_FLITS + 1))
    with m.If(start):
        m.d.sync += inside.eq(0)
    with m.Else():
        with m.If(inside & taken):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += inside.eq(0)
        with m.If(wanted & ~full & chosen & ~inside & (Cat(user[:2], data) == watched)):
            m.d.sync += [inside.eq(1), ahead.eq(level - taken)]
    mine = inside & (ahead == 0) & dut["received_valid"]
    found = Cat(dut["received_kind"], dut["received_data"][bit])
    h.check(~mine | (found == watched), "flits of this run are handed on as they came, in their order")
    # Credits: as many as there is room for words at a start, and one for each that is given back.
    due = Signal(range(8))
    h.assume(~dut["give_back"] | (due != 7))
    returns = due != 0
    m.d.sync += due.eq(due + dut["give_back"] - returns)
    with m.If(start):
        m.d.sync += due.eq(2)
    h.assume(due + dut["give_back"] <= 2)
    h.check(dut["link_rx_credit"] == h.past(returns & ~start, "returns"), "credits: room at a start, and what was given back")
    h.check(~dut["link_rx_credit"] | (dut["link_rx_credit_run"] == h.past(run, "run")), "they name this run")
    h.cover(mine & taken & (h.past(ahead, "ahead") == 1), "a flit that was second is taken")
    h.cover(overflow & taken, "after an overflow what came before is taken")
    h.cover(came & (user[2:] != run) & (user[:2] == FlitKind.WORD) & (level == 1), "a flit of another run comes")


_LINK = "rtl.link.link_port"
PROPERTIES = (
    Property(
        name="link_port.send",
        rule="flits go out in order, unchanged, and hold still until accepted; a word only with a credit of this "
        "run; a FAULT flit before all that was not taken",
        sizes="flits of 32 bits",
        build=send,
        faults=(
            Fault(_LINK, "return (number != 0) & (run == self._current)", "return number != 0"),
            Fault(_LINK, "moves.eq(~self.link_tx_valid | self.link_tx_ready)", "moves.eq(1)"),
            Fault(_LINK, "data.eq(Mux(pending, 0, self.send_data))", "data.eq(self.send_data)"),
        ),
    ),
    Property(
        name="link_port.receive",
        rule="flits of this run are handed on in order, unchanged; overflow is told exactly; credits are given as "
        "the contract says",
        sizes="flits of 32 bits, one of which is followed; room for 2 words of 2 flits",
        build=receive,
        faults=(
            Fault(_LINK, "full.eq(level == room)", "full.eq(level == room + 1)"),
            Fault(_LINK, "fits.eq(arrives & ~fault & (run == self._current))", "fits.eq(arrives & ~fault)"),
            Fault(
                _LINK,
                "due.eq(Mux(self.start, words, due + self.give_back - returns))",
                "due.eq(Mux(self.start, words - 1, due + self.give_back - returns))",
            ),
        ),
    ),
)
