"""Sender: reads the words of a collective ahead, and hands them to the link port flit by flit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index
from podweave.spec.links import COUNT_WIDTH, ID_WIDTH, CollectiveKind, FlitKind, head_layout, word_flits

from ..parts.blocks import Block, delay_line, place, struct
from ..parts.word_queue import WordQueue
from .link_port import KIND_WIDTH


def words_ahead(config: ChipConfig) -> int:
    """Words that a sender reads ahead, as many as keep it sending: the least power of two that is more than latency by flits."""
    least = min(word_flits(config, kind) for kind in CollectiveKind)
    return 1 << (-(-(config.link_read_latency + 3) // least)).bit_length()


class Sender(Block):
    """First a head; then words, which are read when they may be and there is room for them, and handed on in order.

    Latency: from a read in cycle d to the first flit of its word at the earliest: d + 3 + ``link_read_latency``.

    Parameters
    ----------
    config : ChipConfig
        With ``links``.

    Members
    -------
    halted : In(1)
        Nothing is read or handed on.
    wanted : In(1)
        There is a word that may be read.
    read : Out(1)
        It is read: in the next cycle that is on the port of the engine.
    blocked : In(1)
        It may not be in this cycle.
    head : In(1)
        A collective has begun, with words: from the next cycle on its head is to be handed on.
    epoch, bank, words : In(ID_WIDTH), In(1), In(COUNT_WIDTH)
        Of it.
    read_data : In(link_bits)
        Of banks.
    send_valid, send_first, send_kind, send_data : Out(1), Out(1), Out(KIND_WIDTH), Out(flit_bits)
        To a `LinkPort`.
    send_ready : In(1)
        From there.
    empty : Out(1)
        Nothing that was read, and no head, is left to be handed on.
    """

    kind = "link_sender"

    def __init__(self, config: ChipConfig):
        assert config.links is not None
        self.config, self.ahead = config, words_ahead(config)
        super().__init__(
            {
                "halted": In(1),
                "wanted": In(1),
                "read": Out(1),
                "blocked": In(1),
                "head": In(1),
                "epoch": In(ID_WIDTH),
                "bank": In(1),
                "words": In(COUNT_WIDTH),
                "read_data": In(config.link_bits),
                "send_valid": Out(1),
                "send_first": Out(1),
                "send_kind": Out(KIND_WIDTH),
                "send_data": Out(config.links.flit_bits),
                "send_ready": In(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = len(self.send_data)
        flits = [word_flits(self.config, kind) for kind in CollectiveKind]
        queue = place(m, "queue", WordQueue(self.ahead, len(self.read_data)))
        level, number = Signal(range(self.ahead + 1), name="level"), Signal(bits_for_index(max(flits)), name="flit_number")
        head, sent, last, popped = (Signal(name=name) for name in ("head_due", "sent", "last_flit", "popped"))
        arrives = delay_line(m, self.read, 1 + self.config.link_read_latency, name="reading", reset_less=False)[-1]

        content = Signal(struct(head_layout()), name="head_content")
        word = Cat(queue["head"], Const(0, max(flits) * width - len(queue["head"])))
        m.d.comb += [
            self.read.eq(self.wanted & ~self.blocked & ~self.halted & (level != self.ahead)),
            queue["clear"].eq(0),
            queue["push"].eq(arrives),
            queue["push_word"].eq(self.read_data),
            content.id.eq(self.epoch),
            content.kind.eq(self.bank),
            content.words.eq(self.words),
            self.send_valid.eq((head | queue["head_valid"]) & ~self.halted),
            self.send_first.eq(head | (number == 0)),
            self.send_kind.eq(Mux(head, FlitKind.HEAD, FlitKind.WORD)),
            self.send_data.eq(Mux(head, content.as_value(), word.word_select(number, width))),
            sent.eq(self.send_valid & self.send_ready),
            last.eq(number == Mux(self.bank == CollectiveKind.X, *(count - 1 for count in reversed(flits)))),
            popped.eq(sent & ~head & last),
            queue["pop"].eq(popped),
            self.empty.eq((level == 0) & ~head),
        ]
        with m.If(sent & ~head):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        m.d.sync += [
            head.eq(self.head | (head & ~sent)),
            level.eq(level + self.read - popped),
        ]
        return m
