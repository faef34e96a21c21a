"""Row statistic: sums, maxima and where they are, over the lanes and words of a row."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH, Statistic

from ..parts.blocks import Block, register


class RowStatistic(Block):
    """Takes ``lanes`` elements of a row per beat, the first of them element ``element``; says what became of a row after its
    last beat.

    Of an element that is not there, a sum takes 0 and a maximum -2**width. Sums are modulo 2**`STATISTIC_WIDTH`.

    Latency: 2 cycles from the last beat of a row to ``sent``.

    Parameters
    ----------
    lanes : int
        Elements of a beat.
    width : int
        Bits of an element.
    level_width : int
        Bits of the level.

    Members
    -------
    valid : In(1)
        A beat. All below belongs to it.
    statistic : In(2)
        A `Statistic`; a beat with NONE is none.
    first, last : In(1)
        It is the first (last) beat of a row.
    there : In(lanes)
        Elements that are there.
    element : In(ELEMENT_WIDTH)
        Number of the element in lane 0.
    values : In(lanes * width)
        Signed.
    level : In(level_width)
        As on the port of the `StatisticsNetwork`.
    sent : Out(1)
        A statistic is complete. All of ``sent_*`` keep their last value between them.
    sent_statistic, sent_level : Out(2), Out(level_width)
        Its `Statistic`, and the level.
    sent_value : Out(signed(STATISTIC_WIDTH))
        Sum or maximum.
    sent_element : Out(ELEMENT_WIDTH)
        With MAX and ARGMAX, the first element that is the maximum; with SUM, the first one.
    """

    kind = "row_statistic"

    def __init__(self, lanes: int, width: int, level_width: int):
        self.lanes, self.width = lanes, width
        self.variant = f"{lanes}x{width}_level{level_width}"
        super().__init__(
            {
                "valid": In(1),
                "statistic": In(2),
                "first": In(1),
                "last": In(1),
                "there": In(lanes),
                "element": In(ELEMENT_WIDTH),
                "values": In(lanes * width),
                "level": In(level_width),
                "sent": Out(1),
                "sent_statistic": Out(2),
                "sent_level": Out(level_width),
                "sent_value": Out(signed(STATISTIC_WIDTH)),
                "sent_element": Out(ELEMENT_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, summed = Signal(), Signal()
        m.d.comb += [beat.eq(self.valid & (self.statistic != Statistic.NONE)), summed.eq(self.statistic == Statistic.SUM)]
        absent = Mux(summed, 0, -(1 << self.width))
        nodes: list[tuple[Value, Value]] = []
        for lane in range(self.lanes):
            value = Signal(signed(self.width + 1), name=f"value_{lane}")
            m.d.comb += value.eq(Mux(self.there[lane], self.values.word_select(lane, self.width).as_signed(), absent))
            nodes.append((value, (self.element + lane)[:ELEMENT_WIDTH]))
        while len(nodes) > 1:
            pairs = [merged(m, summed, a, b, len(nodes)) for a, b in zip(nodes[::2], nodes[1::2], strict=False)]
            nodes = pairs + nodes[len(nodes) & ~1 :]

        taken = register(m, beat, name="taken", reset_less=False)
        held = {name: Signal.like(getattr(self, name), name=f"{name}_held", reset_less=True) for name in _HELD}
        value = Signal(signed(STATISTIC_WIDTH), name="beat_value", reset_less=True)
        element = Signal(ELEMENT_WIDTH, name="beat_element", reset_less=True)
        with m.If(beat):
            m.d.sync += [value.eq(nodes[0][0]), element.eq(nodes[0][1])]
            m.d.sync += [signal.eq(getattr(self, name)) for name, signal in held.items()]

        total, where = Signal(signed(STATISTIC_WIDTH), reset_less=True), Signal(ELEMENT_WIDTH, reset_less=True)
        kept_sum = held["statistic"] == Statistic.SUM
        both = merged(m, kept_sum, (total, where), (value, element), 1)
        done = Signal()
        m.d.comb += done.eq(taken & held["last"])
        with m.If(taken):
            m.d.sync += [
                total.eq(Mux(held["first"], value, both[0])),
                where.eq(Mux(held["first"], element, both[1])),
            ]
        sent = {name: Signal(shape, name=f"out_{name}", reset_less=True) for name, shape in self._sent().items()}
        with m.If(done):
            m.d.sync += [
                sent["sent_value"].eq(Mux(held["first"], value, both[0])),
                sent["sent_element"].eq(Mux(held["first"], element, both[1])),
                sent["sent_statistic"].eq(held["statistic"]),
                sent["sent_level"].eq(held["level"]),
            ]
        m.d.comb += [self.sent.eq(register(m, done, name="done_held", reset_less=False))]
        m.d.comb += [getattr(self, name).eq(signal) for name, signal in sent.items()]
        return m

    def _sent(self) -> dict[str, object]:
        return {name: member.shape for name, member in self.signature.members.items() if name.startswith("sent_")}


_HELD = ("statistic", "first", "last", "level")


def merged(m: Module, summed: Value, a: tuple[Value, Value], b: tuple[Value, Value], size: int) -> tuple[Value, Value]:
    """(value, element) of two parts of a row, ``a`` the one with the lower elements: their sum, or the larger one."""
    later = Signal(name=f"later_{size}")
    m.d.comb += later.eq((b[0] > a[0]) & ~summed)
    return Mux(summed, a[0] + b[0], Mux(later, b[0], a[0])), Mux(later, b[1], a[1])
