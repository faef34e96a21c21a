"""Values of the words of a post-processor with row functions, and the ports that carry statistics and results of its own bank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay, held, held_at, held_if_known, wrap
from . import rows
from .host_writes import HostWrites

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class RowInputs:
    """``total``, ``place`` (cycles,): what the statistics network brings back. ``lengths``: what the host writes. ``value_read``,
    ``value_row`` (cycles,): its reads of registers."""

    total: Ints
    place: Ints
    lengths: HostWrites
    value_read: Bools
    value_row: Ints


@dataclass(frozen=True)
class OutputWords:
    """Output words that go on, one entry for each, in order.

    ``fields``: of their jobs. ``read``: the cycle of their last P word. ``row``, ``word``: which row of the job, and which word
    of it. ``address``: where it goes. ``register``: its row register. ``counts``, ``row_last``: whether it counts in a
    statistic, and is the last of its row. ``arrivals``: statistics that come back; ``scales``: those of which a scale is made.
    ``latency``: from that cycle to the word on its port; ``turned``: cycles of it that a rotation takes. ``cycles``: of the run.
    """

    functions: rows.RowGeometry
    beats: int
    latency: Ints
    turned: Ints
    psum_width: int
    cycles: int
    fields: dict[str, Ints]
    read: Ints
    row: Ints
    word: Ints
    address: Ints
    register: Ints
    counts: Bools
    row_last: Bools
    arrivals: list[rows.Arrival]
    scales: list[rows.Arrival]


class RowWords:
    """What row functions make of output words."""

    def __init__(self, words: OutputWords, inputs: RowInputs):
        self.words, self.inputs, self.functions = words, inputs, words.functions
        self.fields, self.read, self.cycles = words.fields, words.read, words.cycles
        self._registers()

    def _registers(self) -> None:
        """What is written into row registers, and from then on read."""
        depth, cycles = self.functions.registers, self.cycles
        valid, address, data = np.zeros(cycles, bool), np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
        for arrival in (a for a in self.words.arrivals if a.cycle < cycles):
            valid[arrival.cycle], address[arrival.cycle] = True, arrival.row
            data[arrival.cycle] = (self.inputs.place if arrival.takes_element else self.inputs.total)[arrival.cycle]
        self.values = HostWrites(valid, address, data)
        scaled, scaled_address = np.zeros(cycles, bool), np.zeros(cycles, np.int64)
        mantissa, shift = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
        for arrival in self.words.scales:
            done = arrival.cycle + self.functions.scalar_cycles
            if done < cycles:
                scaled[done], scaled_address[done] = True, arrival.row
                mantissa[done], shift[done] = rows.scale_of(int(data[arrival.cycle]), arrival.scalar)
        self.mantissas, self.shifts = (HostWrites(scaled, scaled_address, part) for part in (mantissa, shift))
        assert depth > int(address.max(initial=0))

    def combined(self, words: Ints) -> tuple[Ints, Bools]:
        """Lanes of 33 bits that take the bias, and whether they are known."""
        result = wrap(rows.combined(words, self.fields["combine"]), 33)
        value, known = self.values.read(self.read + 2, self.words.register)
        subtract = self.fields["subtract"] == 1
        result = np.where(subtract[:, None], wrap(wrap(value, 32)[:, None] - result, 33), result)
        return result, np.repeat((~subtract | known)[:, None], words.shape[1], axis=1)

    def scales(self, found: list[Ints]) -> tuple[list[Ints], tuple[Ints, Ints], Bools]:
        """Bias, multiplier and shift as they count, the limits of results, and whether all of that is known."""
        bias, multiplier, shift = found
        counted = (self.fields["statistic"] == 0) | (self.words.word == 0)
        by_row = self.fields["row_scale"] == 1
        mantissa, known = self.mantissas.read(self.read + 4, self.words.register)
        places, places_known = self.shifts.read(self.read + 5, self.words.register)
        multiplier = np.where(by_row[:, None], mantissa[:, None], multiplier)
        shift = shift + np.where(by_row, places, 0)[:, None]
        wide = 1 << (self.words.psum_width - 1)
        limits = rows.LIMITS | {3: (-wide, wide - 1)}
        low, high = (np.array([limits[code][end] for code in range(4)])[self.fields["saturate"]] for end in (0, 1))
        ends = np.broadcast_to(low[:, None], bias.shape), np.broadcast_to(high[:, None], bias.shape)
        return [np.where(counted[:, None], bias, 0), multiplier, shift], ends, ~by_row | (known & places_known)

    def finished(self, values: Ints, known: Bools) -> tuple[Ints, Bools, dict[str, PortTrace]]:
        """Results with 0 for elements that are not there, whether they are known, and the ports of statistics and of the own
        bank."""
        lanes = values.shape[1]
        each = lanes // self.words.beats
        element = self.fields["element"] + self.fields["element_step"] * self.words.word
        which = self.fields["length"] + self.fields["length_step"] * self.words.row
        length, length_known = self.inputs.lengths.read(self.read + 7, which)
        first = (element[:, None] + np.arange(0, lanes, each)) % (1 << rows.ELEMENT_BITS)
        masked = (self.fields["masked"] == 1)[:, None]
        numbers = np.repeat(first, each, axis=1) + np.tile(np.arange(each), self.words.beats)
        there = ~masked | (numbers < length[:, None])
        known = (known | ~there) & (~masked | length_known[:, None])
        ports = self._statistics(values, there, known, first)
        values = np.where(there, values, 0)
        return values, known, ports | self._own(values, known) | self._value_port()

    def _statistics(self, values: Ints, there: Bools, known: Bools, first: Ints) -> dict[str, PortTrace]:
        beats, width, cycles = self.words.beats, self.words.psum_width, self.cycles
        each = values.shape[1] // beats
        sent: list[tuple[int, int, int, int, int, bool]] = []
        part = rows.Part(0, 0, False)
        for i in np.flatnonzero(self.words.counts).tolist():
            kind = int(self.fields["statistic"][i])
            for beat in range(beats):
                lanes = slice(beat * each, beat * each + each)
                next_part = rows.beat_part(values[i, lanes], there[i, lanes], known[i, lanes], int(first[i, beat]), kind, width)
                starts = self.words.word[i] == 0 and beat == 0
                part = next_part if starts else part.with_next(next_part, kind)
            if self.words.row_last[i]:
                when = int(self.read[i] + self.words.turned[i]) + 9 + beats
                if when < cycles:
                    sent.append((when, kind, int(self.fields["level"][i]), part.value, part.element, part.known))
        columns = np.array(sent, np.int64).reshape(-1, 6)
        valid = np.zeros(cycles, bool)
        valid[columns[:, 0]] = True
        ports = {"sent": PortTrace(valid.astype(np.int64), np.ones(cycles, bool))}
        certain = held_at(columns[:, 5], columns[:, 0], valid).value == 1
        for i, name in enumerate(("statistic", "level", "value", "element"), start=1):
            trace = held_at(columns[:, i], columns[:, 0], valid)
            ports[f"sent_{name}"] = PortTrace(trace.value, trace.known & (certain if name in ("value", "element") else True))
        return ports

    def _own(self, values: Ints, known: Bools) -> dict[str, PortTrace]:
        """Words for the own P bank."""
        destination, cycles = self.fields["destination"], self.cycles
        which = np.flatnonzero((destination >= rows.STORE) & (self.read + self.words.latency < cycles))
        when = self.read[which] + self.words.latency[which]
        valid = np.zeros(cycles, bool)
        valid[when] = True
        return {
            "own_valid": PortTrace(valid.astype(np.int64), np.ones(cycles, bool)),
            "own_accumulate": held_at((destination[which] == rows.ADD).astype(np.int64), when, valid),
            "own_address": held_at(self.words.address[which], when, valid),
            "own_data": held_if_known(values[which], known[which], when, valid),
        }

    def _value_port(self) -> dict[str, PortTrace]:
        """What stands at the output of the memory of values."""
        cycles = self.cycles
        reads, row = self.inputs.value_read.copy(), self.inputs.value_row.copy()
        inside = self.read + 2 < cycles
        reads[self.read[inside] + 2], row[self.read[inside] + 2] = True, self.words.register[inside]
        data, known = self.values.read(np.arange(cycles), row)
        after = np.concatenate([[False], reads[:-1]])
        certain = held(delay(known.astype(np.int64), 1), after)
        port = held(delay(data, 1), after)
        return {"value": PortTrace(port.value, port.known & (certain.value == 1))}
