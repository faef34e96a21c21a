"""Collective engine: when collectives begin and end, and what goes wrong in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Mux, Signal, Value

from podweave.rtl.link.collective_engine import CollectiveEngine
from podweave.rtl.parts.blocks import struct
from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout
from podweave.spec.links import (
    NO_COLLECTIVE,
    CollectiveKind,
    FlitKind,
    LinkError,
    head_layout,
    receive_job_layout,
    send_job_layout,
    word_flits,
)
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_EVENTS = "start", "stop", "crc_error", "overflow", "neighbour_failed", "misdirected"


def _config() -> ChipConfig:
    # A P word of 2 flits of 32 bits, an X word of 1; banks of other depths; a job of the sender in 2 beats.
    config = small(psum_width=32, p_words=4, data_width=128)
    return dataclasses.replace(config, links=LinksConfig(flit_bits=32, buffer_words=2, jobs=4))


CONFIG = _config()


CHOSEN = {"send_job": {"words": 2, "kind": 1, "last": 1, "next": 16}, "receive_job": {"words": 2, "kind": 1, "last": 1}}
"""By store, fields of jobs that rules are about, and of how many bits a solver may choose them; all above are 0."""


def few(layout: Layout, chosen: dict[str, int]) -> Layout:
    """What a solver chooses of a job."""
    return Layout(layout.name, tuple(dataclasses.replace(f, width=chosen[f.name]) for f in layout.fields if f.name in chosen))


class Store:
    """The first jobs of a store: ``chosen`` by the solver, all else of them anything.

    ``jobs``: what is chosen of each. ``first``: the job with which the next collective, or the one that is on, begins, and
    ``last`` that with which it ends, by ``pointer``, to be moved to ``behind`` at an end; ``there``: they were written.
    """

    def __init__(self, h: Harness, layout: Layout, jobs: int, chosen: dict[str, int]):
        m = h.m
        short = few(layout, chosen)
        self.pointer = Signal(2, name=f"{layout.name}_pointer")
        self.words: list[Value] = []
        self.jobs: list[Any] = []
        short_words: list[Value] = []
        for i in range(jobs):
            job, word = (Signal(struct(each), name=f"{name}_{layout.name}_{i}") for name, each in (("few", short), ("all", layout)))
            m.d.comb += job.as_value().eq(h.constant(f"{layout.name}_{i}", short.width))
            if i == jobs - 1:
                m.d.comb += job.last.eq(1)
            m.d.comb += word.as_value().eq(h.free(f"{layout.name}_{i}_rest", layout.width))
            m.d.comb += [word[name].eq(job[name]) for name in chosen]
            self.words.append(word.as_value())
            self.jobs.append(job)
            short_words.append(job.as_value())
        self.first, self.last = (Signal(struct(short), name=f"{what}_{layout.name}") for what in ("first", "last"))
        single = short_words[0][short.offset("last")] & (self.pointer == 0)
        m.d.comb += self.first.as_value().eq(Mux(self.pointer == 0, short_words[0], short_words[-1]))
        m.d.comb += self.last.as_value().eq(Mux(single, short_words[0], short_words[-1]))
        self.behind, self.there = Mux(single, 1, jobs), self.pointer != jobs


def _loaded(h: Harness, stores: Sequence[Store]) -> tuple[Value, dict[str, Value | int]]:
    """Whether all jobs are written; the load port, on which their beats come one after the other, whenever they do (16)."""
    beats = []
    for index in range(len(stores[0].words)):
        for select, store in zip((HostSelect.SEND_STORE, HostSelect.RECEIVE_STORE), stores, strict=True):
            word = store.words[index]
            parts = [word[low : low + CONFIG.host_bits] for low in range(0, len(word), CONFIG.host_bits)]
            beats += [(select, index, beat, beat == len(parts) - 1, part) for beat, part in enumerate(parts)]
    written, valid = Signal(range(len(beats) + 1)), Signal()
    ports = {"select": Signal(4), "address": Signal(9), "beat": Signal(2), "commit": Signal(), "data": Signal(CONFIG.host_bits)}
    for i, values in enumerate(beats):
        with h.m.If(written == i):
            h.m.d.comb += [port.eq(value) for port, value in zip(ports.values(), values, strict=True)]
    h.m.d.comb += valid.eq(h.free("loads") & (written != len(beats)))
    h.m.d.sync += written.eq(written + valid)
    return written == len(beats), {"host_valid": valid, "host_write": 1, **{f"host_{name}": port for name, port in ports.items()}}


def _flits(job: Any) -> Value:
    """Flits of the collective that begins with it, its head included; none of one without words."""
    each = Mux(job.kind == CollectiveKind.X, *(word_flits(CONFIG, kind) for kind in (CollectiveKind.X, CollectiveKind.P)))
    return Mux(job.words == 0, 0, 1 + job.words * each)


class Engine:
    """An engine with whoever uses it, its jobs chosen by the solver (``jobs`` of each store), and what its contract says
    of ports: in this cycle it is ``halted``, ``alive`` (may raise an error) or a collective has ``begun``; flits are ``handed`` on
    or ``taken``; ``heads``: a head is. ``raised``: errors that are known by ports."""

    def __init__(self, h: Harness, jobs: int, chosen: dict[str, dict[str, int]] = CHOSEN):
        self.h, m = h, h.m
        layouts = send_job_layout(CONFIG), receive_job_layout(CONFIG)
        self.send, self.receive = send, receive = [Store(h, layout, jobs, chosen[layout.name]) for layout in layouts]
        self.loaded, port = _loaded(h, (send, receive))
        self.timeout = timeout = h.free("timeout", 3)
        # What seldom comes is anything where ``odd`` says so, which makes no difference but to simulations.
        odd = h.free("odd", 8)
        odds = [odd[3:].all() & odd[i] for i in range(3)]
        kind, data = Signal(2), Signal(32)
        rare = {name: h.free(name) & odds[0] for name in _EVENTS}
        rare["link_up"] = h.free("link_up") | ~odds[0]
        self.dut = dut = h.place(
            CollectiveEngine(CONFIG), "dut", **port, **rare, timeout=timeout, received_kind=kind, received_data=data
        )
        self.start, stop = dut["start"], dut["stop"]
        self.busy, self.epoch, self.error = busy, epoch, error = dut["busy"], dut["epoch"], dut["error"]
        # Halt and begin (1 to 3).
        stopped = Signal()
        m.d.sync += stopped.eq((stop | stopped) & ~self.start)
        self.halted = halted = stop | stopped | (error != 0)
        self.alive = ~halted & (epoch != NO_COLLECTIVE)
        self.raises = self.alive & ~self.start
        self.begun = begun = dut["begins"] & ~busy & self.raises
        self.handed, self.taken = dut["send_valid"] & dut["send_ready"], dut["received_valid"] & dut["received_ready"]
        h.assume(~begun | self.loaded)
        # What is taken (10): mostly what should come.
        head, right = (Signal(struct(head_layout()), name=name) for name in ("head", "right_head"))
        self.expects = expects = Signal()
        m.d.sync += expects.eq(begun | (expects & ~self.taken))
        m.d.comb += [
            *(right[name].eq(value) for name, value in (("id", epoch), *((n, receive.first[n]) for n in ("kind", "words")))),
            kind.eq(Mux(odds[1], h.free("received_kind", 2), Mux(expects, FlitKind.HEAD, FlitKind.WORD))),
            data.eq(Mux(odds[2], h.free("received_data", 32), right.as_value())),
            head.as_value().eq(data),
        ]
        self.unexpected = self.taken & (kind != Mux(expects, FlitKind.HEAD, FlitKind.WORD))
        self.heads = self.taken & expects & ~self.unexpected
        self.mismatch = self.heads & ((head.words != receive.first.words) | (head.kind != receive.first.kind))
        self.raised: dict[LinkError, Value] = {
            LinkError.WRONG_ID: self.heads & (head.id != epoch[: len(head.id)]),
            LinkError.CRC: dut["crc_error"],
            LinkError.LINK_DOWN: busy & ~dut["link_up"],
            LinkError.NEIGHBOUR: dut["neighbour_failed"],
            LinkError.OVERFLOW: dut["overflow"],
            LinkError.WRONG_MANAGER: dut["misdirected"],
        }

    def check_errors(self, perhaps: dict[LinkError, Value]) -> None:
        """Error and its id (12). ``perhaps``: errors that may be raised, if so says; all others are exactly if they should be."""
        h, m, error, raises = self.h, self.h.m, self.error, self.raises
        known = Signal(4)
        for code in sorted(self.raised, reverse=True):
            with m.If(self.raised[code]):
                m.d.comb += known.eq(code)
            h.cover(self.raised[code] & raises & (known == code), f"{code.name} is raised")
        right = error == h.past(Mux(self.start, 0, Mux(raises, known, error)), "due")
        for code, may in perhaps.items():
            seen = h.past(raises & may & ((known == 0) | (known > code)), f"may_{code.name}") & (error == code)
            right = right | seen
            if code not in self.raised:
                h.cover(seen, f"{code.name} is told")
        h.check(right, "error: the first one since the start, of several that of the smallest code")
        id_due = h.past(Mux(self.start, 0, Mux(raises, self.epoch, self.dut["error_id"])), "id_due")
        h.check(self.dut["error_id"] == Mux(error != 0, id_due, 0), "error_id: of the collective in which it was raised")


def errors(h: Harness) -> None:
    m = h.m
    e = Engine(h, 1)
    dut, start, stop = e.dut, e.dut["start"], e.dut["stop"]
    # Of the first collective of a run it is known with which job it begins.
    later, later_on = Signal(), Signal()
    m.d.sync += [later.eq((later | e.begun) & ~start), later_on.eq(Mux(e.begun, later, later_on))]
    moves = e.handed | e.taken
    e.raised[LinkError.WRONG_LENGTH] = e.unexpected | (e.mismatch & ~later_on)
    e.check_errors(
        {
            LinkError.TIMEOUT: e.busy & (e.timeout != 0) & ~moves,
            LinkError.WRONG_LENGTH: e.heads & later_on,
            LinkError.ILLEGAL_JOB: e.busy,
        }
    )
    # An end is where a collective is over that nothing has halted.
    over = h.past(e.busy & ~e.halted & ~start, "goes_on") & ~e.busy
    epoch, armed = h.past(Mux(start, dut["first"], e.epoch), "epoch"), Signal()
    m.d.sync += armed.eq(Mux(start, dut["first"] != NO_COLLECTIVE, armed & ~stop))
    begun, behind = h.past(e.begun, "begun"), Signal()
    m.d.sync += behind.eq(1)
    h.check(~begun | e.busy, "a collective is busy from the cycle after its begin on")
    h.check(~e.busy | begun | h.past(e.busy & ~e.halted & ~start, "was_busy"), "nothing else is, nor behind a halt or a start")
    h.check(Mux(behind, (e.epoch == epoch) | over, e.epoch == NO_COLLECTIVE), "epoch: that of the start, until an end")
    h.check(~e.halted | ~(dut["received_ready"] | dut["send_valid"]), "nothing is taken or handed on while halted")
    h.check(~dut["access_valid"] | ~h.past(e.halted | start, "halted"), "nothing is accessed that was not before a halt or a start")
    h.check(dut["fault"] == (armed & stop & ~start), "fault is told once, of a run with collectives")
    h.cover(over, "a collective ends")
    h.cover(dut["fault"] & e.busy, "a collective is aborted")


def ends(h: Harness) -> None:
    m = h.m
    e = Engine(h, 2)
    send, receive, start = e.send, e.receive, e.start
    h.assume(~e.begun | (send.there & receive.there))
    age, to_send, to_receive = Signal(3), Signal(3), Signal(3)
    with m.If(e.begun):
        m.d.sync += age.eq(1)
    with m.Elif(age != 4):
        m.d.sync += age.eq(age + 1)
    with m.If(age == 2):
        m.d.sync += [counter.eq(_flits(store.first)) for counter, store in ((to_send, send), (to_receive, receive))]
    with m.Else():
        m.d.sync += [to_send.eq(to_send - e.handed), to_receive.eq(to_receive - e.taken)]
    through = (age == 4) & (to_send == 0) & (to_receive == 0)
    over = e.busy & through & ~e.halted & ~start
    with m.If(start):
        m.d.sync += [store.pointer.eq(0) for store in (send, receive)]
    with m.Elif(over):
        m.d.sync += [store.pointer.eq(store.behind) for store in (send, receive)]
    epoch, idle = Signal(16, init=NO_COLLECTIVE), Signal(3)
    m.d.sync += epoch.eq(Mux(start, e.dut["first"], Mux(over, send.last.next, e.epoch)))
    # Time-outs (13).
    moves = e.handed | e.taken
    h.assume(~(e.busy & h.past(e.busy, "was_busy")) | (e.timeout == h.past(e.timeout, "timeout")))
    m.d.sync += idle.eq(Mux(moves | ~e.busy | (e.timeout == 0), 0, idle + 1))
    e.raised[LinkError.TIMEOUT] = e.busy & (e.timeout != 0) & (idle + 1 == e.timeout) & ~moves
    e.raised[LinkError.WRONG_LENGTH] = e.unexpected | e.mismatch
    e.check_errors({LinkError.ILLEGAL_JOB: e.busy})
    busy = h.past(e.begun | (e.busy & ~through & ~e.halted & ~start), "busy_due")
    h.check(e.busy == busy, "busy: from a begin to when both are through")
    h.check(e.epoch == epoch, "epoch: the first one, then the next one of the last job of the sender")
    h.cover(over & (send.first.words == 2) & (receive.first.words == 1), "words were sent and received")
    h.cover(e.busy & (send.pointer != 0) & (receive.pointer != 0), "a collective follows another one")


_ENGINE = "rtl.link.collective_engine"
PROPERTIES = (
    Property(
        name="collective_engine.errors",
        rule="collectives begin when the contract says; the first error since the start is told in its cycle, of several that of "
        "the smallest code, with its collective; nothing is taken, handed on or accessed while halted; a fault is told once",
        sizes="words of 2 flits and of 1; any jobs, the first collective of a run of up to 3 words; time-outs and illegal jobs, "
        "and lengths of later collectives, may be told",
        build=errors,
        faults=(
            Fault(_ENGINE, "self.first != NO_COLLECTIVE, armed & ~self.stop)", "self.first != NO_COLLECTIVE, armed)"),
            Fault(_ENGINE, "for error in sorted(events, reverse=True):", "for error in sorted(events):"),
            Fault(_ENGINE, "stopped.eq((stopped | self.stop) & ~self.start)", "stopped.eq(self.stop & ~self.start)"),
            Fault(_ENGINE, '(head.words == receive["words"]) & (head.kind == receive["bank"])', 'head.kind == receive["bank"]'),
        ),
        reach=24,
    ),
    Property(
        name="collective_engine.ends",
        rule="a collective ends in its cycle, or is told of in that of its time-out, and is followed by the next one of the last "
        "job of its sender; other errors likewise",
        sizes="words of 2 flits and of 1; 2 jobs of each store, otherwise any; collectives of up to 3 words; time-outs of up to 7 "
        "cycles; illegal jobs may be told",
        build=ends,
        faults=(
            Fault(_ENGINE, '~send["active"] & sender["empty"] & ~receive["active"]', '~send["active"] & ~receive["active"]'),
            Fault(_ENGINE, "(self.busy & ~through & ~halted)", "(self.busy & ~through)"),
            Fault(_ENGINE, "idle.eq(Mux(moves | ~self.busy, 0, idle + 1))", "idle.eq(Mux(moves, 0, idle + 1))"),
            Fault("rtl.link.job_walker", "finishes = empty | (step & ends & job.last)", "finishes = empty | (step & ends)"),
        ),
        engine="bounded",
        cycles=24,
        reach=24,
    ),
)
