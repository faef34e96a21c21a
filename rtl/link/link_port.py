"""Link port: flits of the collective engine go to the next chip of a ring, those of the chip before come in.

Timing
------
A cycle is named by what is on the ports in it. The number of a run is ``run`` in the cycle of its ``start``, from the cycle
after it on; 0 before the first.

1.  *Send.* A flit is sent in the cycles with ``send_valid`` and ``send_ready``. It is on ``link_tx_*`` two cycles later, or in
    the cycle after the one before was accepted, whichever is later, and stays until it is accepted: in the first of these
    cycles with ``link_tx_ready``. Between ``send_*`` and ``link_tx_*`` there is room for one flit, which is free in cycle c if
    none is in it or the one in it moves on: ``link_tx_valid`` is low or ``link_tx_ready`` high in c.
2.  ``send_ready`` is high in c if that room is free, no FAULT flit is to be sent, and ``send_first`` is low or there is a
    credit.
3.  *Credits.* A ``link_tx_credit`` in cycle c counts from c + 1 on. Credits belong to the run that ``link_tx_credit_run``
    names: one of another run than that of the credit before makes their number 1. A flit sent with ``send_first`` takes one
    from the next cycle on. There is a credit if the number is not 0 and their run is this one. Neither ``start`` changes them:
    the neighbour may have given them already.
4.  *Fault.* A ``fault`` in cycle c: from c + 1 on a FAULT flit is to be sent, of data 0, until the room for a flit is free,
    which it then takes; or until a ``start``, with which a ``fault`` does nothing. It needs no credit.
5.  *Receive.* A flit on ``link_rx_*`` in cycle r is looked at in r + 1. A WORD or HEAD, or of the unused fourth kind, of this
    run goes into the buffer; it is on ``received_*`` from r + 3 on, or from the cycle after the one before was taken, whichever
    is later, up to the cycle with ``received_ready``. Flits of other runs are dropped, but for FAULT flits: of the last that
    came, the run is kept.
6.  *Return.* ``start`` in cycle t: ``link_rx_credit`` is high in cycles t + 2 to t + 1 + ``buffer_words``, with the number of
    the run. A ``give_back`` in cycle c makes one more, in c + 2 or the cycle after the one before, whichever is later.
7.  *Start.* ``start`` in cycle t empties the buffer, and ``crc_error`` and ``overflow`` are low in t + 1; what is looked at in
    cycle t is dropped (a FAULT flit is not). A kept FAULT of another run than the one that starts is forgotten. What is sent in
    t, or on its way, is not touched: it has the number of the run in which it was sent.
8.  *Errors.* For a flit on ``link_rx_*`` in r, from r + 2 on until the next ``start``: ``crc_error``, its CRC is wrong, of
    whatever run it seems to be (it goes into the buffer all the same; a FAULT flit with a wrong CRC is none); ``overflow``, it
    found ``buffer_words`` x the most flits of a word in the buffer, pushed and not taken before r + 1, and was dropped. From r
    + 2 on ``neighbour_failed``, while a FAULT flit of this run is kept.
9.  ``link_up`` is high in c + 1 if both ``link_tx_up`` and ``link_rx_up`` are high in c.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.links import CRC_WIDTH, MAX_CREDITS, RUN_WIDTH, CollectiveKind, FlitKind, flit_user_layout, word_flits

from ..parts.blocks import Block, place, register
from ..parts.word_queue import WordQueue
from .crc import FlitCrc

KIND_WIDTH = 2


def buffer_flits(config: ChipConfig) -> int:
    """Flits for which a receiver has room: as many words as it gives credits for."""
    assert config.links is not None
    return config.links.buffer_words * max(word_flits(config, kind) for kind in CollectiveKind)


class LinkPort(Block):
    """Sends and receives flits with credits, in order. It outlives resets of chip and engines: only ``rst`` resets it.

    A credit is room for a word, whatever its flits, or for a head. A receiver gives as many as its buffer has words at the
    start of a run, and one whenever a word or a head has left the buffer; so a neighbour that starts early waits, and no flit
    comes before its run has started here. ``link_tx_*`` holds still while it is valid and not accepted.

    Latency: by the numbered rules at the head of this module: 2 cycles from ``send_*`` to ``link_tx_*``, 3 from ``link_rx_*`` to
    ``received_*``, at the least.

    Parameters
    ----------
    config : ChipConfig
        With ``links``; gives ``flit_bits``.

    Members
    -------
    start : In(1)
        A run begins.
    run : In(RUN_WIDTH)
        Its number, another than that of the run before.
    fault : In(1)
        The run has failed or was aborted: a FAULT flit is to be sent.
    send_valid, send_ready : In(1), Out(1)
        There is a flit to send; it is taken.
    send_first : In(1)
        It is a head, or the first flit of a word, and needs a credit.
    send_kind, send_data : In(KIND_WIDTH), In(flit_bits)
        A `FlitKind`, and the payload.
    received_valid, received_ready : Out(1), In(1)
        There is a flit; it is taken.
    received_kind, received_data : Out(KIND_WIDTH), Out(flit_bits)
        A `FlitKind`, and the payload.
    give_back : In(1)
        With the last flit of a word, or a head, taken: its credit is given back.
    crc_error, overflow, neighbour_failed : Out(1)
        A flit was corrupted, one found no room, the chip before has failed.
    link_up : Out(1)
        Both links are up.
    link_tx_valid, link_tx_ready : Out(1), In(1)
        To the next chip: a flit; it is accepted.
    link_tx_data, link_tx_user, link_tx_crc : Out(flit_bits), Out(flit_user_layout().width), Out(CRC_WIDTH)
        Payload, what goes beside it, and the `FlitCrc` of both.
    link_tx_credit, link_tx_credit_run : In(1), In(RUN_WIDTH)
        From the next chip: a credit, and the number of its run.
    link_tx_up, link_rx_up : In(1)
        The link to the next chip (from the chip before) is there.
    link_rx_valid : In(1)
        From the chip before: a flit.
    link_rx_data, link_rx_user, link_rx_crc : In(flit_bits), In(flit_user_layout().width), In(CRC_WIDTH)
        As on ``link_tx_*``.
    link_rx_credit, link_rx_credit_run : Out(1), Out(RUN_WIDTH)
        To the chip before: a credit, and the number of its run.
    """

    kind = "link_port"

    def __init__(self, config: ChipConfig):
        assert config.links is not None
        self.config = config
        self.variant = f"{config.links.flit_bits}x{buffer_flits(config)}"
        super().__init__(
            {
                "start": In(1),
                "run": In(RUN_WIDTH),
                **port_members(config),
                **ring_members(config),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._current = Signal(RUN_WIDTH, name="current_run")
        with m.If(self.start):
            m.d.sync += self._current.eq(self.run)
        self._send(m, self._credits(m))
        self._receive(m)
        self._return(m)
        m.d.sync += self.link_up.eq(self.link_tx_up & self.link_rx_up)
        return m

    def _credits(self, m: Module) -> Value:
        """Whether there is a credit of this run."""
        run, number = Signal(RUN_WIDTH, name="credit_run"), Signal(range(MAX_CREDITS + 1), name="credits")
        taken = self.send_valid & self.send_ready & self.send_first
        with m.If(self.link_tx_credit & (self.link_tx_credit_run != run)):
            m.d.sync += [run.eq(self.link_tx_credit_run), number.eq(1)]
        with m.Else():
            m.d.sync += number.eq(number + self.link_tx_credit - taken)
        return (number != 0) & (run == self._current)

    def _send(self, m: Module, credit: Value) -> None:
        """One register for flits, and one behind it with their CRC."""
        pending, held, free, moves = (Signal(name=name) for name in ("fault_pending", "held", "free", "moves"))
        kind, run = Signal(FlitKind, name="held_kind", reset_less=True), Signal(RUN_WIDTH, name="held_run", reset_less=True)
        data = Signal(len(self.send_data), name="held_data", reset_less=True)
        crc = place(m, "sent_crc", FlitCrc(len(self.send_data)))
        m.d.comb += [
            moves.eq(~self.link_tx_valid | self.link_tx_ready),
            free.eq(~held | moves),
            self.send_ready.eq(free & ~pending & (~self.send_first | credit)),
            crc["data"].eq(data),
            crc["user"].eq(Cat(Value.cast(kind), run)),
        ]
        with m.If(free):
            m.d.sync += [
                held.eq(pending | (self.send_valid & self.send_ready)),
                Value.cast(kind).eq(Mux(pending, FlitKind.FAULT, self.send_kind)),
                run.eq(self._current),
                data.eq(Mux(pending, 0, self.send_data)),
            ]
        m.d.sync += pending.eq((self.fault | (pending & ~free)) & ~self.start)
        with m.If(moves):
            m.d.sync += self.link_tx_valid.eq(held)
            with m.If(held):
                m.d.sync += [
                    self.link_tx_data.eq(data),
                    self.link_tx_user.eq(Cat(Value.cast(kind), run)),
                    self.link_tx_crc.eq(crc["crc"]),
                ]

    def _receive(self, m: Module) -> None:
        room = buffer_flits(self.config)
        depth = max(2, 1 << (room - 1).bit_length())
        buffer = place(m, "buffer", WordQueue(depth, KIND_WIDTH + len(self.link_rx_data)))
        crc = place(m, "received_crc", FlitCrc(len(self.link_rx_data)))
        arrives = register(m, self.link_rx_valid, name="arrives", reset_less=False)
        data = register(m, self.link_rx_data, name="arriving_data")
        user = register(m, self.link_rx_user, name="arriving_user")
        expected = register(m, self.link_rx_crc, name="arriving_crc")
        kind, run = user[:KIND_WIDTH], user[KIND_WIDTH:]
        good, fault, fits, full, taken = (Signal(name=name) for name in ("good", "fault_arrives", "fits", "full", "taken"))
        level = Signal(range(room + 1), name="level")
        m.d.comb += [
            crc["data"].eq(data),
            crc["user"].eq(user),
            good.eq(crc["crc"] == expected),
            fault.eq(arrives & (kind == FlitKind.FAULT)),
            full.eq(level == room),
            fits.eq(arrives & ~fault & (run == self._current)),
            buffer["clear"].eq(self.start),
            buffer["push"].eq(fits & ~full),
            buffer["push_word"].eq(Cat(kind, data)),
            taken.eq(buffer["head_valid"] & self.received_ready),
            buffer["pop"].eq(taken),
            self.received_valid.eq(buffer["head_valid"]),
            Cat(self.received_kind, self.received_data).eq(buffer["head"]),
        ]
        m.d.sync += [
            level.eq(Mux(self.start, 0, level + buffer["push"] - taken)),
            self.crc_error.eq((self.crc_error | (arrives & ~good)) & ~self.start),
            self.overflow.eq((self.overflow | (fits & full)) & ~self.start),
        ]

        kept, fault_run = Signal(name="fault_kept"), Signal(RUN_WIDTH, name="fault_run", reset_less=True)
        with m.If(fault & good):
            m.d.sync += [kept.eq(1), fault_run.eq(run)]
        with m.Elif(self.start & (fault_run != self.run)):
            m.d.sync += kept.eq(0)
        m.d.comb += self.neighbour_failed.eq(kept & (fault_run == self._current))

    def _return(self, m: Module) -> None:
        assert self.config.links is not None
        words = self.config.links.buffer_words
        # Of one run not more than there are words at a time.
        due = Signal(range(words + 1), name="credits_due")
        returns = due != 0
        m.d.sync += [
            due.eq(Mux(self.start, words, due + self.give_back - returns)),
            self.link_rx_credit.eq(returns & ~self.start),
            self.link_rx_credit_run.eq(self._current),
        ]


def ring_members(config: ChipConfig) -> dict[str, In | Out]:
    """Ports of a `LinkPort`, and of an accelerator, to the neighbours in a ring of chips."""
    assert config.links is not None
    width, user = config.links.flit_bits, flit_user_layout().width
    return {
        "link_tx_valid": Out(1),
        "link_tx_ready": In(1),
        "link_tx_data": Out(width),
        "link_tx_user": Out(user),
        "link_tx_crc": Out(CRC_WIDTH),
        "link_tx_credit": In(1),
        "link_tx_credit_run": In(RUN_WIDTH),
        "link_tx_up": In(1),
        "link_rx_valid": In(1),
        "link_rx_data": In(width),
        "link_rx_user": In(user),
        "link_rx_crc": In(CRC_WIDTH),
        "link_rx_credit": Out(1),
        "link_rx_credit_run": Out(RUN_WIDTH),
        "link_rx_up": In(1),
    }


def port_members(config: ChipConfig) -> dict[str, In | Out]:
    """Ports of a `LinkPort` to its collective engine."""
    assert config.links is not None
    width = config.links.flit_bits
    return {
        "fault": In(1),
        "send_valid": In(1),
        "send_ready": Out(1),
        "send_first": In(1),
        "send_kind": In(KIND_WIDTH),
        "send_data": In(width),
        "received_valid": Out(1),
        "received_ready": In(1),
        "received_kind": Out(KIND_WIDTH),
        "received_data": Out(width),
        "give_back": In(1),
        "crc_error": Out(1),
        "overflow": Out(1),
        "neighbour_failed": Out(1),
        "link_up": Out(1),
    }
