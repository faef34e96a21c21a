"""Word queue: first in, first out, in an SRAM."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index

from .blocks import Block, place
from .sram import Sram


class WordQueue(Block):
    """``depth`` words of ``width`` bits, and one more at the head.

    Up to one word per cycle goes in and one out. Whoever pushes counts: nothing tells when it is full, with ``depth`` + 1 words. A
    full one takes no word, not even with a ``pop``.

    Latency: 2 cycles, at the least, from a push to the head.

    Parameters
    ----------
    depth : int
        Words, a power of two, at least 2.
    width : int
        Bits of a word.

    Members
    -------
    clear : In(1)
        In the next cycle it is empty.
    push : In(1)
        Append a word.
    push_word : In(width)
        That word.
    head_valid : Out(1)
        There is a word at the head.
    head : Out(width)
        The oldest word; it stays until the cycle of its ``pop``; the next word follows without a gap.
    pop : In(1)
        Remove it (only with ``head_valid``).
    """

    kind = "word_queue"

    def __init__(self, depth: int, width: int):
        assert depth >= 2
        assert depth & (depth - 1) == 0
        self.depth, self.width = depth, width
        self.variant = f"{depth}x{width}"
        super().__init__(
            {
                "clear": In(1),
                "push": In(1),
                "push_word": In(width),
                "head_valid": Out(1),
                "head": Out(width),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        store = place(m, "store", Sram(self.depth, self.width))
        index = bits_for_index(self.depth)
        written, fetched = Signal(index + 1), Signal(index + 1)
        fetch, held = Signal(), Signal()
        m.d.comb += [
            # The SRAM keeps what it read last: that is the head.
            fetch.eq((written != fetched) & (~held | self.pop)),
            store["write_enable"].eq(self.push),
            store["write_address"].eq(written[:index]),
            store["write_data"].eq(self.push_word),
            store["read_enable"].eq(fetch),
            store["read_address"].eq(fetched[:index]),
            self.head_valid.eq(held),
            self.head.eq(store["read_data"]),
        ]
        m.d.sync += [
            written.eq(written + self.push),
            fetched.eq(fetched + fetch),
            held.eq(fetch | (held & ~self.pop)),
        ]
        return ResetInserter(self.clear)(m)
