"""Beats: a word whose lanes are taken a few at a time, one after the other."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value

from ..parts.blocks import register


class Beats:
    """Of an output word whose last P word was read in cycle t, beat b is at stage s in cycle t + s + b; stages count from 2.

    ``on[s]``: a beat is at stage s. With one beat, stages follow ``emits``, which says so of words.
    """

    def __init__(self, m: Module, count: int, emits: list[Value], stages: int):
        self.count = count
        self.on: list[Value] = list(emits)
        self._index: list[Value] = [Const(0, 1)] * (stages + 1)
        if count == 1:
            return
        running, index = Signal(name="beat_runs"), Signal(range(count), name="beat_2")
        with m.If(emits[1]):
            m.d.sync += [running.eq(1), index.eq(0)]
        with m.Elif(running):
            m.d.sync += [running.eq(index != count - 1), index.eq(index + 1)]
        self.on[2], self._index[2] = running, index
        for stage in range(3, stages + 1):
            self.on[stage] = register(m, self.on[stage - 1], name=f"beat_on_{stage}", reset_less=False)
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
