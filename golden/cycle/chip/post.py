"""Cycle model of a post-processor: every output port in every cycle, from its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pod.jobs import Pushes, epoch_time, serve
from ..ports import PortTrace, held, held_at, held_if_known, wrap
from . import rows
from .host_writes import HostWrites
from .row_words import OutputWords, RowInputs, RowWords
from .rows import RowGeometry

MAX, SUM = 0, 1

ERRORS = ("late", "overflow", "illegal", "p_address", "x_address", "row_not_ready", "scalar_busy")


@dataclass(frozen=True, kw_only=True)
class PostGeometry:
    """Sizes of a post-processor and of the banks it sees. ``latency``: from the last P word read to the word of outputs.

    ``beats``: in which an output word is requantised. ``even``: a half goes to the even neighbour. ``sum_bits``: to which a sum
    with its bias saturates. ``functions``: those of rows."""

    rows: int
    cols: int
    psum_width: int
    queue_depth: int
    time_width: int
    banks: int
    y_planes: int
    x_words: int
    p_words: int
    parameter_sets: int
    tables: int
    latency: int = 6
    beats: int = 1
    even: bool = False
    sum_bits: int = 33
    functions: RowGeometry | None = None

    @property
    def lanes(self) -> int:
        return min(self.rows, self.cols)

    @property
    def extra(self) -> int:
        """Cycles that row functions put before the bias."""
        return 2 if self.functions else 0


@dataclass(frozen=True)
class Parameters:
    """What the host writes: ``bias``, ``multiplier``, ``shift`` and, where results have one, ``zero_point`` (cycles, cols) through
    one port, ``table`` (cycles,) through another."""

    bias: HostWrites
    multiplier: HostWrites
    shift: HostWrites
    table: HostWrites
    zero_point: HostWrites | None = None


class PostModel:
    """The contract of a post-processor, run over the inputs of ``len(run)`` cycles after a reset.

    ``run`` (cycles,), ``jobs``: the pushes. `requests` needs no data; `outputs` takes ``p_data`` (cycles, cols), and what the host
    writes.
    """

    def __init__(self, geometry: PostGeometry, run: NDArray[np.bool_], jobs: Pushes):
        self.geometry, self.run, self.jobs = geometry, run, jobs
        self.next_time = epoch_time(run, geometry.time_width)
        self._resolve(halt=len(run))
        first = min((int(c.min()) for c in self.events.values() if len(c)), default=None)
        if first is not None:
            self._resolve(halt=first)
        self.first_error = first

    def _resolve(self, halt: int) -> None:
        g, fields = self.geometry, self.jobs.fields
        self.window = fields["n0"] * fields["n1"]
        # A rotation takes two products, one after the other: each beat takes two cycles.
        self.beats = g.beats * (1 + (fields["combine"] == rows.ROTATE)) if g.functions else np.full(len(self.window), g.beats)
        self.period = self.window + self.beats - 1 + (fields["gap"] if g.functions else 0)
        sent = fields["n2"] * fields["n3"]
        legal = (
            (self.window * sent > 0)
            & (fields["parameters"] < g.parameter_sets)
            & (fields["table"] < g.tables)
            & (fields["slice"] < g.cols // g.lanes)
            & (fields["slot"] < g.rows // g.lanes)
            & (fields["x_bank"] < g.banks)
        )
        if g.functions:
            registers = g.functions.registers
            holds_row = (fields["subtract"] | fields["row_scale"] | (fields["statistic"] != 0)) != 0
            legal &= (
                (fields["combine"] <= rows.ROTATE)
                & (fields["destination"] <= rows.ADD)
                & (fields["scalar"] <= rows.RSQRT)
                & ~((fields["wide_table"] == 1) & (fields["table"] % 2 == 1))
                # A second word goes out before the word of another job can.
                & ~((fields["destination"] == rows.PLANES) & (self.period < self.beats - g.beats + 2))
                & (fields["level"] <= g.functions.stages)
                & (fields["parameters"] + fields["parameters_step"] * (fields["n2"] - 1) < g.parameter_sets)
                & (~holds_row | (fields["row"] + fields["n3"] <= registers))
                & ((fields["masked"] == 0) | (fields["length"] + fields["length_step"] * (fields["n3"] - 1) < registers))
            )
        words = np.maximum(sent, 1) * np.maximum(self.period, 1)
        self.service = serve(self.jobs, name="job", depth=g.queue_depth, words=words, legal=legal, run=self.run, halt=halt)
        self._walk()
        served = self.service.events
        outside = {"p_address": self.cycle[~self.p_fits], "x_address": self.cycle[self.window_end & ~self.x_fits]}
        self.events = {
            "late": served["late_job"],
            "overflow": served["job_overflow"],
            "illegal": served["illegal_job"],
            **{name: cycles[cycles < len(self.run)] for name, cycles in outside.items()},
            "row_not_ready": np.zeros(0, np.int64),
            "scalar_busy": np.zeros(0, np.int64),
        }
        if g.functions:
            self._resolve_rows()

    def _walk(self) -> None:
        """One entry per P word of all jobs that began, in order."""
        g, fields, service = self.geometry, self.jobs.fields, self.service
        words = (self.window * fields["n2"] * fields["n3"])[service.job]
        job = np.repeat(service.job, words)
        index = np.arange(len(job)) - np.repeat(np.cumsum(words) - words, words)
        n0, n1, n2 = (np.maximum(fields[f"n{i}"][job], 1) for i in range(3))
        number, part = index // (n0 * n1), index % (n0 * n1)
        self.job, self.cycle = job, np.repeat(service.begin + 1, words) + number * self.period[job] + part
        self.word, self.row = number % n2, number // n2
        # How often a loop has advanced: as often as all loops inside it have wrapped, but for where an outer one did instead.
        wraps = [index, index // n0, index // (n0 * n1), index // (n0 * n1 * n2), np.zeros_like(index)]
        advances = [wraps[i] - wraps[i + 1] for i in range(4)]
        p = fields["p_base"][job] + sum(advances[i] * fields[f"p_step{i}"][job] for i in range(4))
        x = fields["x_base"][job] + sum(advances[i] * fields[f"x_step{i}"][job] for i in (2, 3))
        # Generators hold addresses in two's complement, with two bits more than the field.
        written = max(g.x_words, g.p_words) if g.functions else g.x_words
        self.p_address, self.x_address = (wrap(a, _index_width(n) + 2) for a, n in ((p, g.p_words), (x, written)))
        self.p_fits = (self.p_address >= 0) & (self.p_address < g.p_words)
        limit = np.full(len(job), g.x_words)
        if g.functions:
            destination = fields["destination"][job]
            limit = np.where(destination == rows.PLANES, g.x_words - 1, limit)
            limit = np.where(destination >= rows.STORE, g.p_words, limit)
        self.x_fits = (self.x_address >= 0) & (self.x_address < limit)
        if g.functions:
            self.x_fits |= destination == rows.NOWHERE
        self.window_end = index % (n0 * n1) == n0 * n1 - 1
        # Windows are contiguous: the first word of one follows the last of the one before.
        self.window_last = np.flatnonzero(self.window_end)
        self.window_first = np.concatenate([[0], self.window_last + 1])[: len(self.window_last)].astype(np.int64)
        broken = np.concatenate([[0], np.cumsum(~self.p_fits)])
        whole = broken[self.window_last + 1] == broken[self.window_first]
        emitted = whole & self.x_fits[self.window_last]
        self.emitted = np.flatnonzero(emitted)
        last = self.window_last[self.emitted]
        self.out_job, self.out_read = self.job[last], self.cycle[last]
        self.out_row, self.out_word, self.out_address = self.row[last], self.word[last], self.x_address[last]

    def _resolve_rows(self) -> None:
        """Statistics that are sent, registers that are taken, ready and read."""
        g, fields, job = self.geometry, self.jobs.fields, self.out_job
        assert g.functions is not None
        self.register = fields["row"][job] + self.out_row
        self.counts = fields["statistic"][job] != 0
        self.row_last = self.out_word == fields["n2"][job] - 1
        complete = self.counts & self.row_last
        self.sent_cycle = self.out_read[complete] + 9 + self.beats[job[complete]]
        arrivals = zip(self.sent_cycle, self.register[complete], job[complete], strict=True)
        self.arrivals = [
            rows.Arrival(int(c) + g.functions.stages, int(r), int(fields["scalar"][j]), bool(fields["statistic"][j] == rows.ARGMAX))
            for c, r, j in arrivals
        ]
        self.scales, lost = rows.begun_scales(self.arrivals, g.functions.scalar_cycles)
        wanting = (rows.RECIPROCAL, rows.RSQRT)
        sets = [(a.cycle, a.row) for a in self.arrivals if a.scalar not in wanting]
        sets += [(a.cycle + g.functions.scalar_cycles, a.row) for a in self.scales]
        clears = zip((self.out_read[complete] + 2).tolist(), self.register[complete].tolist(), strict=True)
        readiness = rows.Readiness(sets, clears)
        self.reads_row = (fields["subtract"][job] | fields["row_scale"][job]) == 1
        checked = np.flatnonzero(self.reads_row)
        self.row_ready = np.ones(len(job), bool)
        self.row_ready[checked] = [readiness.at(int(self.out_read[i]) + 2, int(self.register[i])) for i in checked]
        wrong = {"row_not_ready": self.out_read[~self.row_ready] + 2, "scalar_busy": np.array([a.cycle for a in lost], np.int64)}
        self.events |= {name: cycles[cycles < len(self.run)] for name, cycles in wrong.items()}

    def _output_words(self) -> OutputWords:
        g = self.geometry
        assert g.functions is not None
        return OutputWords(
            functions=g.functions,
            beats=g.beats,
            latency=self._latency(),
            turned=self.beats[self.out_job] - g.beats,
            psum_width=g.psum_width,
            cycles=len(self.run),
            fields={name: values[self.out_job] for name, values in self.jobs.fields.items()},
            read=self.out_read,
            row=self.out_row,
            word=self.out_word,
            address=self.out_address,
            register=self.register,
            counts=self.counts,
            row_last=self.row_last,
            arrivals=self.arrivals,
            scales=self.scales,
        )

    def requests(self) -> dict[str, PortTrace]:
        """Every output port but ``y_data``."""
        g, cycles = self.geometry, len(self.run)
        inside = self.cycle < cycles
        active, address = np.zeros(cycles, bool), np.zeros(cycles, np.int64)
        active[self.cycle[inside]] = True
        address[self.cycle[inside]] = self.p_address[inside] & ((1 << _index_width(g.p_words)) - 1)
        ports = {
            "job_ready": _certain(self.service.level < g.queue_depth),
            "p_read_enable": _pulse(self.cycle[self.p_fits], cycles),
            "p_read_address": held(address, active),
        }
        return ports | self._write_requests() | self._errors() | {"busy": self._busy()}

    def _write_requests(self) -> dict[str, PortTrace]:
        """Every port of the words that go out, but their data."""
        cycles, fields = len(self.run), self.jobs.fields
        when, which, second = self._sent_words()
        job = self.out_job[which]
        columns = {"bank": fields["x_bank"][job], "slot": fields["slot"][job]}
        if self.geometry.y_planes > 1:
            columns["plane"] = fields["x_plane"][job]
        columns["address"] = self.out_address[which] + second
        valid = np.zeros(cycles, bool)
        valid[when] = True
        ports = {"y_valid": _certain(valid)}
        for name, column in columns.items():
            ports[f"y_{name}"] = held_at(column, when, valid)
        return ports

    def _sent_words(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each word for an X bank, in order: the cycle, the output word, and whether it is the second of two."""
        which = np.arange(len(self.out_job))
        second = np.zeros(len(which), np.int64)
        if self.geometry.functions:
            destination = self.jobs.fields["destination"][self.out_job]
            copies = np.where(destination == rows.PLANES, 2, destination == rows.X)
            which = np.repeat(which, copies)
            second = np.concatenate([[0], which[1:] == which[:-1]])[: len(which)].astype(np.int64)
        when = self.out_read[which] + self._latency()[which] + second
        inside = when < len(self.run)
        return when[inside], which[inside], second[inside]

    def _latency(self) -> NDArray[np.int64]:
        """Of each output word."""
        return self.geometry.latency + self.beats[self.out_job] - self.geometry.beats

    def _busy(self) -> PortTrace:
        g, cycles, changes = self.geometry, len(self.run), np.zeros(len(self.run) + 2, np.int64)

        def busy(first: NDArray[np.int64], length: NDArray[np.int64] | int) -> None:
            np.add.at(changes, np.minimum(first, cycles + 1), 1)
            np.add.at(changes, np.minimum(first + length, cycles + 1), -1)

        # An output word takes its time to the end, whatever became of it.
        last = self.window_last
        busy(self.cycle, 1)
        busy(self.cycle[last] + 1, (self.period - self.window)[self.job[last]])
        if not g.functions:
            busy(self.out_read + 1, g.latency)
        else:
            destination = self.jobs.fields["destination"][self.out_job]
            latency = self._latency()
            busy(self.out_read + 1, latency - (destination == rows.NOWHERE) + (destination == rows.PLANES))
            busy(self.out_read[self.counts] + 1, latency[self.counts])
            busy(self.sent_cycle, g.functions.stages + 1)
            scales = np.array([a.cycle for a in self.scales], np.int64)
            busy(scales + 1, g.functions.scalar_cycles)
        return _certain((self.service.level > 0) | (np.cumsum(changes)[:cycles] > 0))

    def _errors(self) -> dict[str, PortTrace]:
        cycles = len(self.run)
        errors, time = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
        for bit, name in enumerate(ERRORS):
            if len(self.events[name]):
                errors[int(self.events[name].min()) + 1 :] |= 1 << bit
        if self.first_error is not None:
            time[self.first_error + 1 :] = self.next_time[self.first_error]
        return {"errors": _certain(errors), "error_time": _certain(time)}

    def outputs(
        self, p_data: NDArray[np.int64], parameters: Parameters, row_inputs: RowInputs | None = None
    ) -> dict[str, PortTrace]:
        """Every output port, the words of outputs (``y_data``: (cycles, lanes)) included."""
        g, fields, job, read = self.geometry, self.jobs.fields, self.out_job, self.out_read
        lane = np.arange(g.lanes)
        columns = fields["slice"][job][:, None] * g.lanes + lane
        values, known = self._reduced(p_data, columns), np.ones((len(job), g.lanes), bool)
        row = RowWords(self._output_words(), row_inputs) if row_inputs else None
        if row:
            values, known = row.combined(values)

        found = []
        which = fields["parameters"][job]
        if g.functions:
            which = which + fields["parameters_step"][job] * self.out_word
        for stage, writes in enumerate((parameters.bias, parameters.multiplier, parameters.shift)):
            data, is_known = writes.read(read + 1 + g.extra + stage, which)
            found.append(np.take_along_axis(data, columns, axis=1) if len(data) else np.zeros_like(values))
            known &= is_known[:, None]
        limits = np.broadcast_to(-128, values.shape), np.broadcast_to(127, values.shape)
        if row:
            found, limits, scale_known = row.scales(found)
            known &= scale_known[:, None]
        most = 1 << g.sum_bits - 1
        total = np.clip(wrap(values + found[0], 33), -most, most - 1)
        added = self._zero_points(parameters, which, columns)
        result = rows.scaled(total, found[1], found[2], limits, even=g.even, zero_point=added)

        table = fields["table"][job][:, None]
        # Beats of one cycle, or of two, of which the second counts.
        cycles = (self.beats[job] // g.beats)[:, None]
        when = (read + 4 + g.extra)[:, None] + cycles * (1 + lane // (g.lanes // g.beats))
        entry, entry_known = parameters.table.read(when, table * 256 + (result & 0xFF))
        entry = wrap(entry, 8)
        if row:
            high, high_known = parameters.table.read(when, table * 256 + 256 + (result & 0xFF))
            wide = fields["wide_table"][job][:, None] == 1
            entry = np.where(wide, wrap(high * 256 + (entry & 0xFF), 16), entry)
            entry_known = entry_known & (high_known | ~wide)
        activate = fields["activate"][job][:, None] == 1
        result = np.where(activate, entry, result)
        known = known & (entry_known | ~activate)
        ports: dict[str, PortTrace] = {}
        if row:
            result, known, ports = row.finished(result, known)

        when, word, second = self._sent_words()
        data = result[word]
        if g.functions:
            planes = (fields["destination"][job[word]] == rows.PLANES)[:, None]
            data = wrap(np.where(planes & (second[:, None] == 0), (data + 128) >> 8, data), 8)
        valid = np.zeros(len(self.run), bool)
        valid[when] = True
        return self.requests() | ports | {"y_data": held_if_known(data, known[word], when, valid)}

    def _zero_points(self, parameters: Parameters, which: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64] | int:
        """Of output words, read with their shifts, which are known if they are."""
        if parameters.zero_point is None or not len(which):
            return 0
        data, _ = parameters.zero_point.read(self.out_read + 3 + self.geometry.extra, which)
        return np.take_along_axis(data, columns, axis=1)

    def _reduced(self, p_data: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """(output words, lanes) of reduced windows."""
        reduced = np.zeros(columns.shape, np.int64)
        codes = self.jobs.fields["reduce"][self.out_job]
        for i, (begin, end) in enumerate(zip(self.window_first[self.emitted], self.window_last[self.emitted], strict=True)):
            window = p_data[np.minimum(self.cycle[begin : end + 1] + 1, len(p_data) - 1)][:, columns[i]].astype(np.int64)
            if codes[i] == MAX:
                reduced[i] = window.max(axis=0)
            elif codes[i] == SUM:
                reduced[i] = wrap(window.sum(axis=0), 32)
            else:
                total = window[0]
                for value in window[1:]:
                    pair = (total & 0xFFFF) << 16 | value & 0xFFFF
                    total = wrap((total << 8) + value if codes[i] == rows.HORNER else pair, 32)
                reduced[i] = total
        return reduced


def _index_width(words: int) -> int:
    return max(1, (words - 1).bit_length())


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))


def _pulse(when: NDArray[np.int64], cycles: int) -> PortTrace:
    value = np.zeros(cycles, np.int64)
    value[when[when < cycles]] = 1
    return _certain(value)
