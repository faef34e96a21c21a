"""Collective engine: which words of banks are written and read, and when; what is sent."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.spec.links import (
    ID_WIDTH,
    CollectiveKind,
    FlitKind,
    LinkError,
    head_layout,
    receive_job_layout,
    send_job_layout,
    word_flits,
)

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from .collective import CONFIG, Engine, Store

_BITS = 32
_FEW = {"n0": 2, "n1": 2, "n2": 2, "words": 2, "needs": 2}
WHOLE = {
    layout.name: {field.name: _FEW.get(field.name, field.width) for field in layout.fields}
    for layout in (send_job_layout(CONFIG), receive_job_layout(CONFIG))
}
"""By store, all that a job says: trips of loops and words of a collective are up to 3."""
NO_WORDS, LENGTH = {"words": 2, "last": 1, "id": ID_WIDTH}, {"words": 2, "last": 1, "kind": 1}
"""Of a sender, what says that it has none; of a receiver, how much comes."""


class Word:
    """Word ``number`` of the collective that begins with the first job of a store: where it is, of which ``job``, as which word
    ``within``; ``legal``: it may be, as may all words before it."""

    def __init__(self, h: Harness, store: Store, number: Value, epoch: Value, name: str):
        memory, one, other = CONFIG.memory, store.jobs[0], store.jobs[-1]
        count = one.n0 * one.n1 * one.n2
        second = (count != 0) & (number >= count) & ~one.last
        self.job = Signal(one.shape(), name=f"{name}_job")
        h.m.d.comb += self.job.as_value().eq(Mux(second, other.as_value(), one.as_value()))
        job = self.job
        self.within = Signal(2, name=f"{name}_within")
        h.m.d.comb += self.within.eq(Mux(second, number - count[:2], number))
        # How often a loop has advanced, an outer one in place of those inside of it.
        trips, loops = self.within, [_times(self.within, job.n0), _times(self.within, job.n0 * job.n1)]
        outermost, middle, inner = loops[1], loops[0] - loops[1], trips - loops[0]
        self.address = job.address + inner * job.step0 + middle * job.step1 + outermost * job.step2
        self.unit = job.unit + middle * job.unit1 + outermost * job.unit2
        x = job.kind == CollectiveKind.X
        inside = (self.address >= 0) & (self.address < Mux(x, memory.x_words, memory.p_words))
        inside = inside & (self.unit >= 0) & (self.unit < CONFIG.pods)
        ends = (self.within + 1 == job.n0 * job.n1 * job.n2) & job.last
        adds = x & job.add if "add" in one.shape().members else Const(0)
        right = (job.id == epoch) & (job.n0 != 0) & (job.n1 != 0) & (job.n2 != 0) & (job.kind == one.kind) & ~adds
        self.legal = right & inside & (ends == (number + 1 == one.words))
        self.nothing = (one.words == 0) & (one.id == epoch) & one.last


def _times(number: Value, trips: Value) -> Value:
    """How often so many trips of a loop were made, of numbers up to 3."""
    return Mux(trips == 1, number, Mux(trips == 2, number[1], (trips == 3) & (number == 3)))


def _flits(kind: Value) -> Value:
    return Mux(kind == CollectiveKind.X, *(word_flits(CONFIG, each) for each in (CollectiveKind.X, CollectiveKind.P)))


class _Opening:
    """When the first collective of a run has words: ``there`` from t + 3 on. There is no second one."""

    def __init__(self, e: Engine):
        m = e.h.m
        used, wait, self.there = Signal(), Signal(2), Signal()
        m.d.sync += [used.eq((used | e.begun) & ~e.start), wait.eq(Mux(e.begun, 2, Mux(wait != 0, wait - 1, 0)))]
        e.h.assume(~(used & e.begun))
        m.d.sync += self.there.eq(((wait == 1) | (self.there & e.busy)) & ~e.start)
        with m.If(e.start):
            m.d.sync += wait.eq(0)


def receive(h: Harness) -> None:
    m = h.m
    e = Engine(h, 2, WHOLE | {"send_job": NO_WORDS})
    dut, store = e.dut, e.receive
    opening = _Opening(e)
    number, flit = Signal(2), Signal()
    word = Word(h, store, number, e.epoch, "received")
    words, kind = store.jobs[0].words, store.jobs[0].kind
    done = Signal()
    present = opening.there & (words != 0) & ~done
    ready = present & word.legal & ~e.halted
    last = flit + 1 == _flits(kind)
    taken = ready & dut["received_valid"]
    ends = taken & ~e.expects & last
    writes = ends & ~e.unexpected
    with m.If(e.begun):
        m.d.sync += [number.eq(0), flit.eq(0), done.eq(0)]
    with m.Elif(taken & ~e.expects):
        m.d.sync += [flit.eq(Mux(last, 0, flit + 1)), number.eq(number + last), done.eq(last & (number + 1 == words))]
    h.check(dut["received_ready"] == ready, "a flit is taken in every cycle in which there is a word, from the head on")
    h.check(dut["give_back"] == (taken & (e.expects | last)), "give_back: with a head, and the last flit of a word")
    h.check(dut["flit_received"] == h.past(taken, "taken"), "flit_received: one was taken in the cycle before")
    h.check(dut["waits"] == h.past(ready & e.expects & ~dut["received_valid"], "waiting"), "waits: for a head")
    written = dut["access_valid"] & dut["access_write"]
    h.check(written == h.past(writes & ~e.start, "writes"), "every whole word is written in the cycle after, and nothing else")
    place = Signal(8)
    m.d.comb += place.eq(Cat(word.address[:3], word.unit[0], kind, word.job.add))
    shown = Cat(dut["access_address"], dut["access_unit"], dut["access_kind"], dut["access_add"])
    h.check(~written | (shown == h.past(place, "place")), "it is written where its job says, and added if that says so")
    # The first bit of either flit of all words: all bits of a flit go the same way.
    part, held = h.constant("part", 1), Signal()
    with m.If(taken & ~e.expects & (flit == part)):
        m.d.sync += held.eq(dut["received_data"][0])
    there = ~part | (kind == CollectiveKind.P)
    h.check(~(written & there) | (dut["access_data"].word_select(part, _BITS)[0] == held), "what is written is what came")
    illegal = h.past(e.raises & e.busy & opening.there & Mux(words == 0, ~word.nothing, present & ~word.legal), "illegal")
    told = dut["error"] == LinkError.ILLEGAL_JOB
    h.check(~illegal | told | ((dut["error"] != 0) & (dut["error"] < LinkError.ILLEGAL_JOB)), "what is illegal is told")
    # The sender may be illegal as well, but for one without words.
    other = e.send.jobs[0]
    quiet = (other.words == 0) & other.last & (other.id == e.epoch)
    h.check(~(told & h.past((dut["error"] == 0) & quiet, "quiet")) | illegal, "and nothing else is")
    h.cover(written & ~dut["access_add"] & (number == 2), "a second word is written")
    h.cover(written & dut["access_add"] & dut["access_unit"], "a word of another node is added to")
    h.cover(illegal & (dut["error"] == LinkError.ILLEGAL_JOB) & (number == 1), "a second word is illegal")


def send(h: Harness) -> None:
    m = h.m
    latency = CONFIG.link_read_latency
    e = Engine(h, 1, WHOLE | {"receive_job": LENGTH})
    dut, store = e.dut, e.send
    opening = _Opening(e)
    read, written = dut["access_valid"] & ~dut["access_write"], dut["access_valid"] & dut["access_write"]
    # Words of which the read is on the port, this cycle included, and words received.
    before, number, received = (Signal(2, name=name) for name in ("before", "number", "received"))
    m.d.comb += number.eq(before + read)
    m.d.sync += [before.eq(Mux(e.begun, 0, number)), received.eq(Mux(e.begun, 0, received + written))]
    word = Word(h, store, number, e.epoch, "sent")
    words, kind = store.jobs[0].words, store.jobs[0].kind
    present = opening.there & (words != 0) & (number != words)
    waits = word.job.follows & (received <= word.job.needs + word.within)
    reads = h.past(present & word.legal & ~waits & ~e.halted & ~e.start, "reads")
    h.check(read == (reads & ~written), "a word is read when it is there and may be, unless one is written")
    place = h.past(Cat(word.address[:3], word.unit[0], kind), "place")
    h.check(~read | (Cat(dut["access_address"], dut["access_unit"], dut["access_kind"]) == place), "it is read where its job says")
    illegal = h.past(e.raises & e.busy & opening.there & Mux(words == 0, ~word.nothing, present & ~word.legal), "illegal")
    h.check(~illegal | ((dut["error"] != 0) & (dut["error"] <= LinkError.ILLEGAL_JOB)), "what is illegal is told")
    # What was read comes ``latency`` cycles later, and may be sent 2 cycles after that.
    line: list[Value] = [read]
    for i in range(latency + 2):
        line.append(h.past(line[-1] & ~e.start, f"read_{i}"))
    came, there, over = (Signal(2, name=name) for name in ("came", "there", "over"))
    head, flit, began = Signal(), Signal(), h.past(opening.there, "opened")
    opens = opening.there & ~began
    arrived = there + line[latency + 2]
    last = flit + 1 == _flits(kind)
    m.d.sync += [came.eq(Mux(e.begun | e.start, 0, came + line[latency])), there.eq(Mux(e.begun | e.start, 0, arrived))]
    with m.If(e.begun | e.start):
        m.d.sync += [head.eq(0), over.eq(0), flit.eq(0)]
    with m.Elif(opens):
        m.d.sync += head.eq(words != 0)
    with m.Elif(e.handed & head):
        m.d.sync += head.eq(0)
    with m.Elif(e.handed):
        m.d.sync += [flit.eq(Mux(last, 0, flit + 1)), over.eq(over + last)]
    valid = dut["send_valid"]
    h.check(valid == ((head | (arrived != over)) & ~e.halted), "a head, and what was read, is to be sent until it is handed on")
    h.check(~valid | (dut["send_first"] == (head | (flit == 0))), "send_first: a head, and the first flit of a word")
    h.check(~valid | (dut["send_kind"] == Mux(head, FlitKind.HEAD, FlitKind.WORD)), "send_kind: as it is")
    content = Signal(struct(head_layout()), name="head")
    m.d.comb += content.as_value().eq(dut["send_data"])
    right = (content.id == e.epoch[: len(content.id)]) & (content.kind == kind) & (content.words == words)
    h.check(~(valid & head) | right, "a head says which collective it is, of which kind, and how many words follow")
    h.check(dut["flit_sent"] == h.past(e.handed, "handed"), "flit_sent: one was handed on in the cycle before")
    # The first bit of either flit of one word, whichever it is.
    part, watched, held = h.constant("part", 1), h.constant("watched", 2), Signal()
    with m.If(line[latency] & (came == watched)):
        m.d.sync += held.eq(dut["read_data"].word_select(part, _BITS)[0])
    mine = valid & ~head & (over == watched) & (flit == part)
    h.check(~mine | (dut["send_data"][0] == held), "what is sent of a word is what was read")
    h.cover(mine & (watched == 1) & part, "the second flit of a second word is sent")
    h.cover(read & word.job.follows & (received != 0), "a word is read that waited")
    h.cover(reads & written, "a word is written before one is read")
    h.cover(illegal & (dut["error"] == LinkError.ILLEGAL_JOB) & (number == 1), "a second word is illegal")


_ENGINE, _WALKER, _SENDER = "rtl.link.collective_engine", "rtl.link.job_walker", "rtl.link.sender"
PROPERTIES = (
    Property(
        name="collective_engine.receive",
        rule="a flit is taken whenever there is a word that may be; every whole word is written once, in the next cycle, with what "
        "came, where and as the jobs say; credits are given back; what is illegal is told, and nothing else is",
        sizes="words of 2 flits and of 1, of which a bit is followed; the first collective of a run, of 2 jobs with loops of up to "
        "3 trips, 3 words at most",
        build=receive,
        faults=(
            Fault(_ENGINE, "number.eq(Mux(expects | last, 0, number + 1))", "number.eq(Mux(last, 0, number + 1))"),
            Fault(_ENGINE, "writes.eq(takes & ~expects & last & ~unexpected)", "writes.eq(takes & ~expects & last)"),
            Fault(_WALKER, "Mux(wraps[1], job.step2, job.step1), job.step0", "Mux(wraps[1], job.step1, job.step2), job.step0"),
            Fault(_WALKER, "self._address.as_unsigned() < Mux(", "self._address.as_unsigned() <= Mux("),
        ),
        engine="bounded",
        cycles=17,
        reach=17,
    ),
    Property(
        name="collective_engine.send",
        rule="words are read in order, at their places, when they may be, unless one is written; a head and then what was read is "
        "sent, flit by flit, from the cycle on that the contract says; what is illegal is told",
        sizes="words of 2 flits and of 1, of one of which a bit is followed; the first collective of a run, of a job with loops of "
        "up to 3 trips, 3 words at most",
        build=send,
        faults=(
            Fault(_ENGINE, 'received > send["needs"]', 'received >= send["needs"]'),
            Fault(_ENGINE, 'sender["blocked"].eq(writes)', 'sender["blocked"].eq(0)'),
            Fault(_SENDER, "word.word_select(number, width)", "word.word_select(0, width)"),
            Fault(_WALKER, "*([self.needs.eq(self.needs + 1)] if waits else []),", ""),
        ),
        engine="bounded",
        cycles=18,
        reach=18,
    ),
)
