"""Beats: a word whose lanes are taken a few at a time, one after the other."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value

from ..parts.blocks import register


class Beats:
    """Of an output word whose last P word was read in cycle t, beat b is at stage s in cycle t + s + b; stages count from 2.

    A word of which ``twice`` says so, one cycle after its last P word was read, has beats of two cycles: beat b is at stage 2 in
    cycles t + 2 + 2b and t + 3 + 2b, and in the second of them ``second`` is high; it is at stage s > 2 in cycle t + s + 2b + 1.

    ``on[s]``: a beat is at stage s. With one beat of one cycle, stages follow ``emits``, which says so of words.
    """

    def __init__(self, m: Module, count: int, emits: list[Value], stages: int, twice: Value | None = None):
        self.count = count
        self.on: list[Value] = list(emits)
        self.second: Value = Const(0, 1)
        self._index: list[Value] = [Const(0, 1)] * (stages + 1)
        if count == 1 and twice is None:
            return
        running, index = Signal(name="beat_runs"), Signal(range(max(2, count)), name="beat_2")
        goes_on: Value = running
        if twice is not None:
            doubled, second = Signal(name="beat_twice", reset_less=True), Signal(name="beat_second")
            m.d.sync += second.eq(running & doubled & ~second & ~emits[1])
            with m.If(emits[1]):
                m.d.sync += doubled.eq(twice)
            self.second, goes_on = second, running & (second | ~doubled)
        with m.If(emits[1]):
            m.d.sync += [running.eq(1), index.eq(0)]
        with m.Elif(goes_on):
            m.d.sync += [running.eq(index != count - 1), index.eq(index + 1)]
        self.on[2], self._index[2] = running, index
        for stage in range(3, stages + 1):
            before = goes_on if stage == 3 else self.on[stage - 1]
            self.on[stage] = register(m, before, name=f"beat_on_{stage}", reset_less=False)
            self._index[stage] = register(m, self._index[stage - 1], name=f"beat_{stage}")

    def is_first(self, stage: int) -> Value:
        return self._index[stage] == 0

    def is_last(self, stage: int) -> Value:
        return self._index[stage] == self.count - 1

    def first_lane(self, stage: int, lanes: int) -> Value:
        """The lane of the word that lane 0 of the beat is; ``lanes`` to a beat."""
        return self._index[stage] * lanes

    def chosen(self, m: Module, stage: int, lanes: list[Value], name: str) -> list[Value]:
        """Those of the ``lanes`` of a word that are in the beat at a stage."""
        each = len(lanes) // self.count
        if self.count == 1:
            return lanes
        found: list[Value] = []
        for lane in range(each):
            parts = [lanes[lane + each * beat] for beat in range(self.count)]
            picked = Signal(parts[0].shape(), name=f"{name}_beat_{lane}")
            with m.Switch(self._index[stage]):
                for beat, part in enumerate(parts):
                    with m.Case(beat) if beat < self.count - 1 else m.Default():
                        m.d.comb += picked.eq(part)
            found.append(picked)
        return found

    def collected(self, m: Module, stage: int, lanes: list[Value]) -> tuple[Value, list[Value]]:
        """Whether the last beat of a word is at a stage, and the lanes of all its beats then."""
        before: list[Value] = []
        for beat in range(self.count - 1):
            for lane, value in enumerate(lanes):
                kept = Signal(len(value), name=f"beat_{beat}_lane_{lane}", reset_less=True)
                with m.If(self.on[stage] & (self._index[stage] == beat)):
                    m.d.sync += kept.eq(value)
                before.append(kept)
        return self.on[stage] & self.is_last(stage), before + lanes
