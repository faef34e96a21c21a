"""Column buffer: pieces of words come in, and go out byte by byte, one byte of each word at a time."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import STORABLE

from ..parts.blocks import Block
from .engine_words import prefetch_of, targets


def column_piece_bytes(config: ChipConfig) -> int:
    """Bytes of the widest piece that can be stored."""
    return max(target.piece_bytes for select, target in targets(config).items() if select in STORABLE)


class ColumnBuffer(Block):
    """``column_words`` registers, one for a piece of each word of a run. The first ``collect`` behind a ``shift`` is of word 0.

    Latency: 1 cycle from ``collect``, and from ``shift``, to ``column``.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch`` with ``column_words``.

    Members
    -------
    clear : In(1)
        The next word is word 0.
    collect, piece : In(1), In(8 * column_piece_bytes(config))
        A piece of the next word, at most ``column_words`` of them between two shifts; never with ``shift``.
    shift : In(1)
        Go on to the next byte.
    column : Out(8 * column_words)
        A byte of each word, word 0 least significant: byte i of its piece after i shifts.
    """

    kind = "column_buffer"

    def __init__(self, config: ChipConfig):
        self.config = config
        piece, words = 8 * column_piece_bytes(config), prefetch_of(config).column_words
        super().__init__({"clear": In(1), "collect": In(1), "piece": In(piece), "shift": In(1), "column": Out(8 * words)})

    def elaborate(self, platform: object) -> object:
        m = Module()
        words = prefetch_of(self.config).column_words
        pieces = [Signal(len(self.piece), name=f"piece_{i}", reset_less=True) for i in range(words)]
        number = Signal(range(words + 1))
        with m.If(self.shift):
            m.d.sync += number.eq(0)
        with m.Elif(self.collect):
            m.d.sync += number.eq(number + 1)
        for i, piece in enumerate(pieces):
            with m.If(self.shift | (self.collect & (number == i))):
                m.d.sync += piece.eq(Mux(self.shift, piece[8:], self.piece))
        m.d.comb += self.column.eq(Cat(piece[:8] for piece in pieces))
        return ResetInserter(self.clear)(m)
