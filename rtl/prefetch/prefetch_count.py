"""Prefetch count: words that were prefetched and are not consumed yet."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, ResetInserter, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.descriptors import TAG_WIDTH
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block
from .engine_words import WORDS_WIDTH

PREFETCH_TAGS = 16
"""Tags beyond the epoch that is next whose words are counted: a descriptor of one more waits."""
UNCONSUMED_WIDTH = 40


class PrefetchCount(Block):
    """Adds up the words of begun prefetch descriptors whose epoch is not the next one yet: those with a tag > ``epochs_done``.

    Latency: 1 cycle from ``add``, and from ``epochs_done`` reaching a tag, one tag per cycle, to ``unconsumed``.

    Members
    -------
    clear : In(1)
        Forget all.
    epochs_done : In(TAG_WIDTH)
        Epochs that are done.
    tag : In(TAG_WIDTH)
        Of the descriptor that may be added; tags never decrease.
    room : Out(1)
        There is room for one of this tag.
    add : In(1)
        The descriptor begins; it counts from the next cycle on, if its tag is > ``epochs_done``.
    words : In(WORDS_WIDTH)
        Its words, with ``add``.
    unconsumed : Out(UNCONSUMED_WIDTH)
        The sum, modulo 2**`UNCONSUMED_WIDTH`; words of a tag leave it one cycle after ``epochs_done`` has reached the tag, one tag
        per cycle.
    """

    kind = "prefetch_count"

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "epochs_done": In(TAG_WIDTH),
                "tag": In(TAG_WIDTH),
                "room": Out(1),
                "add": In(1),
                "words": In(WORDS_WIDTH),
                "unconsumed": Out(UNCONSUMED_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        tags = Array(Signal(TAG_WIDTH, name=f"tag_{i}", reset_less=True) for i in range(PREFETCH_TAGS))
        words = Array(Signal(UNCONSUMED_WIDTH, name=f"words_{i}", reset_less=True) for i in range(PREFETCH_TAGS))
        index = bits_for_index(PREFETCH_TAGS)
        oldest, newest, level = Signal(index, init=1), Signal(index), Signal(index + 1)
        counted, expired, same = (Signal(name=name) for name in ("counted", "expired", "same_tag"))
        following = Signal(index)
        m.d.comb += [
            counted.eq(self.add & (self.tag > self.epochs_done)),
            same.eq((level != 0) & (tags[newest] == self.tag)),
            expired.eq((level != 0) & (tags[oldest] <= self.epochs_done)),
            following.eq(newest + 1),
            self.room.eq((level != PREFETCH_TAGS) | same),
        ]
        with m.If(counted & same):
            m.d.sync += words[newest].eq(words[newest] + self.words)
        with m.Elif(counted):
            m.d.sync += [tags[following].eq(self.tag), words[following].eq(self.words), newest.eq(following)]
        m.d.sync += [
            oldest.eq(oldest + expired),
            level.eq(level + (counted & ~same) - expired),
            self.unconsumed.eq(self.unconsumed + Mux(counted, self.words, 0) - Mux(expired, words[oldest], 0)),
        ]
        return ResetInserter(self.clear)(m)
