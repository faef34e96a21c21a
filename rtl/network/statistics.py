"""Statistics network: completes the statistics of rows that lie in several nodes, by recursive doubling."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH, Statistic

from ..parts.blocks import Block, register
from ..parts.planes import planes_of
from .conflicts import record_conflicts


class StatisticsNetwork(Block):
    """What the nodes of an aligned block of 2**level send in the same cycle becomes one value, in all of them.

    In stage s, nodes whose index differs in bit s exchange what they have, if their level is more than s. Sums are modulo
    2**`STATISTIC_WIDTH`; of equal maxima, that with the lowest element counts. If of two nodes only one has a word of such a
    level, or their statistics or levels differ, that is a conflict; each then goes on with what it has.

    Latency: one cycle for each stage, from ``valid`` to ``value`` and ``element``.

    Parameters
    ----------
    nodes : int
        A power of two, at least 2.

    Members
    -------
    valid : In(nodes)
        Words. What belongs to nodes lies side by side, node 0 least significant.
    statistic : In(nodes * 2)
        A `Statistic`, not NONE.
    level : In(nodes * bits_for_index(stages + 1))
        0 to stages.
    value, element : In(nodes * STATISTIC_WIDTH), In(nodes * ELEMENT_WIDTH)
        What each has.
    total, place : Out(nodes * STATISTIC_WIDTH), Out(nodes * ELEMENT_WIDTH)
        What their block has. Of a word that was not valid, nothing is said.
    error : Out(1)
        Sticky until reset, one cycle after the first conflict.
    error_stage, error_port : Out(bits_for_index(stages)), Out(stages)
        Its stage and the lowest node in it.
    """

    kind = "statistics_network"

    def __init__(self, nodes: int):
        if nodes < 2 or nodes & (nodes - 1):
            raise ValueError(f"a statistics network has a power of two of nodes, at least 2, got {nodes}")
        self.nodes, self.stages = nodes, bits_for_index(nodes)
        self.variant = str(nodes)
        super().__init__(
            {
                "valid": In(nodes),
                "statistic": In(nodes * 2),
                "level": In(nodes * bits_for_index(self.stages + 1)),
                "value": In(nodes * STATISTIC_WIDTH),
                "element": In(nodes * ELEMENT_WIDTH),
                "total": Out(nodes * STATISTIC_WIDTH),
                "place": Out(nodes * ELEMENT_WIDTH),
                "error": Out(1),
                "error_stage": Out(bits_for_index(self.stages)),
                "error_port": Out(self.stages),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid: Value = self.valid
        parts = (self.statistic, self.level, self.value, self.element)
        statistics, levels, values, elements = (planes_of(part, self.nodes) for part in parts)
        values = [value.as_signed() for value in values]
        conflicts = []
        for s in range(self.stages):
            joins, conflict = Signal(self.nodes, name=f"joins_{s}"), Signal(self.nodes, name=f"conflict_{s}")
            m.d.comb += joins.eq(Cat(v & (level > s) for v, level in zip(valid, levels, strict=True)))
            for i in (i for i in range(self.nodes) if not i >> s & 1):
                j = i | 1 << s
                differ = (statistics[i] != statistics[j]) | (levels[i] != levels[j])
                m.d.comb += conflict[i].eq((joins[i] ^ joins[j]) | (joins[i] & differ))
            conflicts.append(conflict)
            met = [self._met(m, s, i, joins[i] & ~conflict[i & ~(1 << s)], statistics, values, elements) for i in range(self.nodes)]
            valid = register(m, valid, name=f"valid_{s}", reset_less=False)

            def kept(name: str, words: list[Value], stage: int = s) -> list[Value]:
                return [register(m, word, name=f"{name}_{stage}_{i}") for i, word in enumerate(words)]

            statistics, levels = kept("statistic", statistics), kept("level", levels)
            values, elements = kept("value", [value for value, _ in met]), kept("element", [element for _, element in met])
        m.d.comb += [self.total.eq(Cat(values)), self.place.eq(Cat(elements))]
        record_conflicts(m, conflicts, error=self.error, stage=self.error_stage, port=self.error_port)
        return m

    @staticmethod
    def _met(
        m: Module, s: int, i: int, joins: Value, statistics: list[Value], values: list[Value], elements: list[Value]
    ) -> tuple[Value, Value]:
        """What node i has after stage s."""
        j = i ^ 1 << s
        other = Signal(name=f"other_{s}_{i}")
        larger = (values[j] > values[i]) | ((values[j] == values[i]) & (elements[j] < elements[i]))
        summed = statistics[i] == Statistic.SUM
        first = elements[j] < elements[i]
        value = Signal(signed(STATISTIC_WIDTH), name=f"met_{s}_{i}")
        m.d.comb += [
            other.eq(joins & Mux(summed, first, larger)),
            value.eq(Mux(joins & summed, values[i] + values[j], Mux(other, values[j], values[i]))),
        ]
        return value, Mux(other, elements[j], elements[i])
