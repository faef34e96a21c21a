"""Collective engine: moves words between the banks of a chip and its neighbours in a ring, as jobs say.

Timing
------
A cycle is named by what is on the ports in it. L is `ChipConfig.link_read_latency`, F the flits of a word of the kind of the
collective.

1.  *Start.* ``start`` in cycle t: from t + 1 on ``epoch`` is ``first`` of cycle t, the next job of both stores is their job 0,
    there is no error, and nothing is going on; what was read before is dropped.
2.  *Halt.* The engine is halted in cycle c if ``stop`` is high in c, or was in a cycle before and after the last start, or
    ``error`` is not 0 in c. In a halted cycle nothing is read, taken, handed on, begun or raised; ``busy`` is low in the cycle
    after.
3.  *Begin.* ``begins`` in cycle t, if the engine is not halted, ``busy`` is low in it, and ``epoch`` is not NO_COLLECTIVE:
    ``busy`` is high from t + 1 on. In t + 3 there is the first word of the sender and that of the receiver.
4.  *Words.* Word j + 1 of a walk is there in the cycle after word j was read (written), within a job as from job to job.
5.  *Illegal.* A word that is there and against a rule of ``LinkError.ILLEGAL_JOB`` is neither read nor are flits taken for it;
    a job without words must be the last of its collective and have its id. Whether it is the last word of the last job is held
    against the number of words that the first job says.
6.  *Head.* From t + 4 on, if ``words`` of the sender is not 0, a head is to be sent: it is on ``send_*``, with ``send_first``,
    in all cycles not halted until it is handed on, in the first of them with ``send_ready``.
7.  *Read.* The word of the sender is read in the first cycle d in which it is there, the receiver does not write (9), fewer
    than `words_ahead` words were read and not handed on (a word read in d counts from d + 1 on, one whose last flit is handed
    on in p up to p), and, if its job has ``follows``, more words of this collective were received than ``needs`` + j. The read
    is on ``access_*`` in d + 1, its word on ``read_data`` in d + 1 + L. `words_ahead` is the least power of two that is more
    than (L + 3) / F, rounded up, with the smaller F of the two kinds.
8.  *Flits.* The flits of a word are on ``send_*`` from d + 3 + L on, or from the cycle after the last flit of the word before
    was handed on, whichever is later, and not before the head was handed on; one in each cycle with ``send_ready``, the first
    one with ``send_first``. Flit k has bits k x ``flit_bits`` on of ``read_data``, zeros beyond.
9.  *Receive.* ``received_ready`` is high in the cycles, not halted, in which there is a word of the receiver: of a collective
    with words, first its head is taken, then F flits for each word. ``give_back`` is high with a head, and with the last flit
    of a word, whatever they are. A word whose last flit is taken in cycle x is written: it is on ``access_*`` in x + 1, and
    counts as received from x + 2 on. Flit k of a word is written into bits k x ``flit_bits`` on of ``access_data``, from the
    cycle after it was taken on.
10. *Checks.* A flit taken that is no HEAD where one is expected, or no WORD where that is: WRONG_LENGTH, and it is not written.
    A head of another id (its low bits): WRONG_ID; of another number of words or kind: WRONG_LENGTH.
11. *End.* The sender is through from the cycle after its last flit was handed on, the receiver from the cycle after it took its
    last flit; each in t + 4 if it has no words. In the first cycle c, not halted, in which both are, ``busy`` is high for the
    last time; ``epoch`` is ``next`` of the last job of the sender from c + 1 on.
12. *Errors.* In a cycle c that is not halted, with an ``epoch`` other than NO_COLLECTIVE, an error is raised by: ``crc_error``,
    ``overflow``, ``neighbour_failed`` and ``misdirected``, whenever high; with ``busy``, by ``link_up`` low (LINK_DOWN), an
    illegal word (5), a check (10), and TIMEOUT. ``error`` and ``error_id``, the ``epoch`` of cycle c, have it from c + 1 on
    until the next start, from which on they are 0. Of several in one cycle, that of the smallest code.
13. *Timeout.* Let e be the last cycle in which a flit was taken or handed on (head included), or t of ``begins``: TIMEOUT is
    raised in cycle e + ``timeout``, if that is not 0 and no flit is taken or handed on in it.
14. *Events.* ``flit_sent`` is high in c + 1 if one was handed on in c, ``flit_received`` if one was taken; ``waits`` if in c,
    not halted, there was a word of the receiver, its head was expected, and ``received_valid`` was low.
15. *Fault.* In the first cycle with ``stop`` after a start in which ``first`` was not NO_COLLECTIVE, ``fault`` is high. In the
    cycle of a ``start`` no ``fault`` is, nothing begins or is raised, and nothing is on ``access_*`` in the next.
16. *Jobs.* A job whose last beat is on the load port in cycle c is in its store from c + 2 on; it may be fetched (t + 1 of its
    collective, or later) from then on.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index
from podweave.spec.links import (
    COUNT_WIDTH,
    ID_WIDTH,
    NO_COLLECTIVE,
    CollectiveKind,
    FlitKind,
    LinkError,
    access_address_width,
    head_layout,
    receive_job_layout,
    send_job_layout,
    word_flits,
)
from podweave.spec.load_port import HostSelect, host_widths

from ..parts.blocks import Block, place, register, struct
from ..parts.load_port import access_members
from .job_walker import JobWalker
from .link_port import port_members
from .sender import Sender

ERROR_WIDTH = 4
TIMEOUT_WIDTH = 32


class CollectiveEngine(Block):
    """Sends and receives the words of one collective after the other; banks are its own while it is ``busy``.

    It accesses one word of the chip per cycle; a write goes before a read. The receiver takes a flit in every cycle in which
    there is one, and never waits for the sender. When ``busy`` is low, all words received are in their banks.

    Latency: by the numbered rules at the head of this module. A word that is passed on is on ``send_*`` F + 5 + L
    cycles after its first flit was on ``received_*``, at the least.

    Parameters
    ----------
    config : ChipConfig
        With ``links``.

    Members
    -------
    start : In(1)
        Of a run: forget everything.
    first : In(ID_WIDTH)
        Epoch of its first collective, or NO_COLLECTIVE.
    begins : In(1)
        The collective ``epoch`` begins.
    stop : In(1)
        The run has failed or was aborted.
    timeout : In(TIMEOUT_WIDTH)
        Cycles of a collective without a flit that are an error; 0: none are. It holds still while ``busy``.
    busy : Out(1)
        A collective is on.
    epoch : Out(ID_WIDTH)
        Of the collective that is on, or else of the next one; NO_COLLECTIVE: there is none.
    error, error_id : Out(ERROR_WIDTH), Out(ID_WIDTH)
        The first `LinkError` since the start, and ``epoch`` when it was raised.
    host_valid : In(1)
        An access on the load port of manager 0.
    host_write, host_commit, host_select, ... : In(width in access_members)
        As on a load port of a `Chip`: jobs are written.
    misdirected : In(1)
        On another load port a job was written.
    access_valid : Out(1)
        A word of a bank is accessed. All below but ``access_data`` keep their last value between accesses, up to a ``start``.
    access_write, access_add : Out(1)
        It is written; added to what is there.
    access_kind : Out(1)
        A `CollectiveKind`.
    access_unit, access_address : Out(bits_for_index(pods)), Out(access_address_width(config))
        Its node, and place in the bank.
    access_data : Out(link_bits)
        What is written, in the low bits.
    read_data : In(link_bits)
        What was read, `ChipConfig.link_read_latency` cycles later, in the low bits; those beyond the word are sent as they are. A
        word read 2 cycles after it was written, or more, is the new one.
    fault, send_valid, send_first, send_kind, send_data, received_ready, give_back : Out(as of a LinkPort)
        To a `LinkPort`.
    send_ready, received_valid, received_kind, received_data, crc_error, overflow, neighbour_failed, link_up : In(as of a
    LinkPort)
        From there.
    flit_sent, flit_received, waits : Out(1)
        For counters: flits of this cycle, and a head that is waited for.
    """

    kind = "collective_engine"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "first": In(ID_WIDTH),
                "begins": In(1),
                "stop": In(1),
                "timeout": In(TIMEOUT_WIDTH),
                "busy": Out(1),
                "epoch": Out(ID_WIDTH, init=NO_COLLECTIVE),
                "error": Out(ERROR_WIDTH),
                "error_id": Out(ID_WIDTH),
                "host_valid": In(1),
                **{name: In(width) for name, width in access_members(config).items()},
                "misdirected": In(1),
                "access_valid": Out(1),
                "access_write": Out(1),
                "access_add": Out(1),
                "access_kind": Out(1),
                "access_unit": Out(bits_for_index(config.pods)),
                "access_address": Out(access_address_width(config)),
                "access_data": Out(config.link_bits),
                "read_data": In(config.link_bits),
                **{name: member.flip() for name, member in port_members(config).items()},
                **dict.fromkeys(("flit_sent", "flit_received", "waits"), Out(1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self.config
        m = Module()
        # A start forgets what is going on, as a reset; what stands in stores stays.
        cleared = self.start | ResetSignal()
        send = place(m, "send_jobs", JobWalker(config, send_job_layout(config)), reset=cleared)
        receive = place(m, "receive_jobs", JobWalker(config, receive_job_layout(config)), reset=cleared)
        sender = place(m, "sender", Sender(config), reset=cleared)
        stopped, halted, alive, begun = (Signal(name=name) for name in ("stopped", "halted", "alive", "begun"))
        m.d.comb += [
            halted.eq(self.stop | stopped | (self.error != 0)),
            alive.eq((self.epoch != NO_COLLECTIVE) & ~halted),
            begun.eq(self.begins & ~self.busy & alive & ~self.start),
            *(walker["begins"].eq(begun) for walker in (send, receive)),
            *(walker["epoch"].eq(self.epoch) for walker in (send, receive)),
        ]
        m.d.sync += stopped.eq((stopped | self.stop) & ~self.start)
        self._jobs(m, send, receive)
        writes, checked = self._receive(m, receive, halted, begun)
        received = Signal(COUNT_WIDTH, name="received_words")
        m.d.sync += received.eq(Mux(begun, 0, received + (self.access_valid & self.access_write)))
        self._send(m, send, sender, halted, writes, received)
        self._accesses(m, send, receive, sender["read"], writes)
        self._ends(m, send, receive, sender, halted, begun)
        self._errors(m, send, receive, checked, alive)
        self._faults(m)
        return m

    def _jobs(self, m: Module, send: dict[str, Any], receive: dict[str, Any]) -> None:
        """A job is written one cycle after its last beat is on the port, as all that a node has."""
        address = register(m, self.host_address, name="host_address_held")
        select = register(m, self.host_select, name="host_select_held")
        committed = register(m, self.host_valid & self.host_write & self.host_commit, name="host_committed", reset_less=False)
        widths, beats = host_widths(self.config), []
        stores = (HostSelect.SEND_STORE, send), (HostSelect.RECEIVE_STORE, receive)
        word = max(widths[which][1] for which, _ in stores)
        for i, low in enumerate(range(0, word, self.config.host_bits)):
            beat = Signal(min(self.config.host_bits, word - low), name=f"host_beat_{i}", reset_less=True)
            with m.If(self.host_valid & self.host_write & (self.host_beat == i)):
                m.d.sync += beat.eq(self.host_data)
            beats.append(beat)
        for which, walker in stores:
            m.d.comb += [
                walker["host_write"].eq(committed & (select == which)),
                walker["host_address"].eq(address),
                walker["host_data"].eq(Cat(beats)),
            ]

    def _receive(self, m: Module, receive: dict[str, Any], halted: Value, begun: Value) -> tuple[Signal, dict[LinkError, Value]]:
        """Whether a word is written, and what is wrong with the flit that is taken."""
        width = len(self.received_data)
        flits = [word_flits(self.config, kind) for kind in CollectiveKind]
        number, expects, head = Signal(bits_for_index(max(flits)), name="flit_number"), Signal(), Signal(struct(head_layout()))
        takes, last, writes, unexpected = (Signal(name=name) for name in ("takes", "last_flit", "writes", "unexpected"))
        m.d.comb += [
            self.received_ready.eq(receive["valid"] & ~halted),
            takes.eq(self.received_ready & self.received_valid),
            last.eq(number == Mux(receive["bank"] == CollectiveKind.X, *(count - 1 for count in reversed(flits)))),
            self.give_back.eq(takes & (expects | last)),
            unexpected.eq(takes & (self.received_kind != Mux(expects, FlitKind.HEAD, FlitKind.WORD))),
            writes.eq(takes & ~expects & last & ~unexpected),
            receive["take"].eq(takes & ~expects & last),
            head.eq(self.received_data),
        ]
        with m.If(begun):
            m.d.sync += [expects.eq(1), number.eq(0)]
        with m.Elif(takes):
            m.d.sync += [expects.eq(0), number.eq(Mux(expects | last, 0, number + 1))]
        for i in range(max(flits)):
            with m.If(takes & ~expects & (number == i)):
                m.d.sync += self.access_data[i * width : (i + 1) * width].eq(self.received_data)
        m.d.sync += [
            self.flit_received.eq(takes),
            self.waits.eq(self.received_ready & expects & ~self.received_valid),
        ]
        matches = (head.words == receive["words"]) & (head.kind == receive["bank"])
        heads = takes & expects & ~unexpected
        return writes, {
            LinkError.WRONG_ID: heads & (head.id != self.epoch[: len(head.id)]),
            LinkError.WRONG_LENGTH: unexpected | (heads & ~matches),
        }

    def _send(self, m: Module, send: dict[str, Any], sender: dict[str, Any], halted: Value, writes: Value, received: Value) -> None:
        job = Signal(struct(send_job_layout(self.config)), name="send_job")
        m.d.comb += [
            Value.cast(job).eq(send["job"]),
            sender["halted"].eq(halted),
            sender["wanted"].eq(send["valid"] & (~job.follows | (received > send["needs"]))),
            sender["blocked"].eq(writes),
            send["take"].eq(sender["read"]),
            sender["head"].eq(send["first"] & (send["words"] != 0)),
            sender["epoch"].eq(self.epoch),
            *(sender[name].eq(send[name]) for name in ("bank", "words")),
            *(sender[name].eq(getattr(self, name)) for name in ("read_data", "send_ready")),
            *(getattr(self, f"send_{name}").eq(sender[f"send_{name}"]) for name in ("valid", "first", "kind", "data")),
        ]
        m.d.sync += self.flit_sent.eq(self.send_valid & self.send_ready)

    def _accesses(self, m: Module, send: dict[str, Any], receive: dict[str, Any], reads: Value, writes: Value) -> None:
        job = Signal(struct(receive_job_layout(self.config)), name="receive_job")
        m.d.comb += Value.cast(job).eq(receive["job"])
        m.d.sync += self.access_valid.eq((reads | writes) & ~self.start)
        with m.If(reads | writes):
            m.d.sync += [
                self.access_write.eq(writes),
                self.access_add.eq(writes & job.add),
                self.access_kind.eq(Mux(writes, receive["bank"], send["bank"])),
                self.access_unit.eq(Mux(writes, receive["unit"], send["unit"])),
                self.access_address.eq(Mux(writes, receive["address"], send["address"])),
            ]

    def _ends(
        self, m: Module, send: dict[str, Any], receive: dict[str, Any], sender: dict[str, Any], halted: Value, begun: Value
    ) -> None:
        job = Signal(struct(send_job_layout(self.config)), name="last_send_job")
        through = Signal()
        m.d.comb += [Value.cast(job).eq(send["job"]), through.eq(~send["active"] & sender["empty"] & ~receive["active"])]
        m.d.sync += self.busy.eq((begun | (self.busy & ~through & ~halted)) & ~self.start)
        with m.If(self.start):
            m.d.sync += self.epoch.eq(self.first)
        with m.Elif(self.busy & through & ~halted):
            m.d.sync += self.epoch.eq(job.next)

    def _errors(
        self,
        m: Module,
        send: dict[str, Any],
        receive: dict[str, Any],
        checked: dict[LinkError, Value],
        alive: Value,
    ) -> None:
        # Without a collective it rests, and with it the engine in a simulation.
        idle, moves = Signal(TIMEOUT_WIDTH, name="idle_cycles"), Signal()
        m.d.comb += moves.eq((self.send_valid & self.send_ready) | (self.received_valid & self.received_ready))
        m.d.sync += idle.eq(Mux(moves | ~self.busy, 0, idle + 1))
        events = {
            LinkError.TIMEOUT: self.busy & (self.timeout != 0) & (idle + 1 == self.timeout) & ~moves,
            **checked,
            LinkError.CRC: self.crc_error,
            LinkError.LINK_DOWN: self.busy & ~self.link_up,
            LinkError.NEIGHBOUR: self.neighbour_failed,
            LinkError.OVERFLOW: self.overflow,
            LinkError.ILLEGAL_JOB: send["illegal"] | receive["illegal"],
            LinkError.WRONG_MANAGER: self.misdirected,
        }
        assert {LinkError.NONE, *events} == set(LinkError)
        code: Value | int = LinkError.NONE
        for error in sorted(events, reverse=True):
            code = Mux(events[error], error, code)
        with m.If(self.start):
            m.d.sync += [self.error.eq(LinkError.NONE), self.error_id.eq(0)]
        with m.Elif(alive & Cat(*events.values()).any()):
            m.d.sync += [self.error.eq(code), self.error_id.eq(self.epoch)]

    def _faults(self, m: Module) -> None:
        """Of a run with collectives that fails, the next chip is told once."""
        armed = Signal()
        m.d.comb += self.fault.eq(armed & self.stop & ~self.start)
        m.d.sync += armed.eq(Mux(self.start, self.first != NO_COLLECTIVE, armed & ~self.stop))
