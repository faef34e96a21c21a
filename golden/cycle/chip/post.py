"""Cycle model of a post-processor: every output port in every cycle, from its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pod.jobs import Pushes, epoch_time, serve
from ..ports import PortTrace, held, wrap

MAX, SUM = 0, 1

ERRORS = ("late", "overflow", "illegal", "p_address", "x_address")


@dataclass(frozen=True, kw_only=True)
class PostGeometry:
    """Sizes of a post-processor and of the banks it sees. ``latency``: from the last P word read to the word of outputs."""

    rows: int
    cols: int
    psum_width: int
    queue_depth: int
    time_width: int
    banks: int
    planes: int
    x_words: int
    p_words: int
    parameter_sets: int
    tables: int
    latency: int = 6

    @property
    def lanes(self) -> int:
        return min(self.rows, self.cols)


@dataclass(frozen=True)
class HostWrites:
    """One write port of a memory: ``valid`` (cycles,), ``address`` (cycles,), ``data`` (cycles,) or (cycles, lanes)."""

    valid: NDArray[np.bool_]
    address: NDArray[np.int64]
    data: NDArray[np.int64]

    def read(self, cycle: NDArray[np.int64], address: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """What reads of ``address`` in ``cycle`` find, and whether that is known: written before, and not in that very cycle."""
        span = len(self.valid) + 1
        when = np.flatnonzero(self.valid)
        key = self.address[when].astype(np.int64) * span + when
        order = np.argsort(key)
        key, when = key[order], when[order]
        wanted = address.astype(np.int64) * span + cycle
        latest = np.searchsorted(key, wanted, side="left") - 1
        if not len(key):
            return np.zeros((*wanted.shape, *self.data.shape[1:]), np.int64), np.zeros(wanted.shape, bool)
        known = (latest >= 0) & (key[np.maximum(latest, 0)] // span == address)
        return self.data[when[np.maximum(latest, 0)]].astype(np.int64), known & ~np.isin(wanted, key)


@dataclass(frozen=True)
class Parameters:
    """What the host writes: ``bias``, ``multiplier``, ``shift`` (cycles, cols) through one port, ``table`` (cycles,) another."""

    bias: HostWrites
    multiplier: HostWrites
    shift: HostWrites
    table: HostWrites


def requantize_wide(total: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """`golden.layers.requant.requantize` of totals of 33 bits, element by element.

    >>> requantize_wide(np.array([-(2**32), 2**32 - 1, 3]), np.array([1, 1, 1]), np.array([26, 25, 1]))
    array([-64, 127,   2])
    """
    # At most 2**32 * (2**31 - 1), and half of 2**62: together below 2**64.
    magnitude = np.abs(total).astype(np.uint64) * multiplier.astype(np.uint64)
    half = (np.uint64(1) << shift.astype(np.uint64)) >> np.uint64(1)
    rounded = np.minimum((magnitude + half) >> shift.astype(np.uint64), np.uint64(255)).astype(np.int64)
    return np.clip(np.where(total < 0, -rounded, rounded), -128, 127)


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
        words = fields["n0"] * fields["n1"] * fields["n2"] * fields["n3"]
        legal = (
            (words > 0)
            & (fields["parameters"] < g.parameter_sets)
            & (fields["table"] < g.tables)
            & (fields["slice"] < g.cols // g.lanes)
            & (fields["slot"] < g.rows // g.lanes)
            & (fields["x_bank"] < g.banks)
            & (fields["x_plane"] < g.planes)
        )
        self.service = serve(self.jobs, name="job", depth=g.queue_depth, words=words, legal=legal, run=self.run, halt=halt)
        self._walk()
        served = self.service.events
        outside = {"p_address": self.cycle[~self.p_fits], "x_address": self.cycle[self.window_end & ~self.x_fits]}
        self.events = {
            "late": served["late_job"],
            "overflow": served["job_overflow"],
            "illegal": served["illegal_job"],
            **{name: cycles[cycles < len(self.run)] for name, cycles in outside.items()},
        }

    def _walk(self) -> None:
        """One entry per P word of all jobs that began, in order."""
        g, fields, service = self.geometry, self.jobs.fields, self.service
        words = (fields["n0"] * fields["n1"] * fields["n2"] * fields["n3"])[service.job]
        job = np.repeat(service.job, words)
        index = np.arange(len(job)) - np.repeat(np.cumsum(words) - words, words)
        self.job, self.cycle = job, np.repeat(service.begin + 1, words) + index
        n0, n1, n2 = (np.maximum(fields[f"n{i}"][job], 1) for i in range(3))
        # How often a loop has advanced: as often as all loops inside it have wrapped, but for where an outer one did instead.
        wraps = [index, index // n0, index // (n0 * n1), index // (n0 * n1 * n2), np.zeros_like(index)]
        advances = [wraps[i] - wraps[i + 1] for i in range(4)]
        p = fields["p_base"][job] + sum(advances[i] * fields[f"p_step{i}"][job] for i in range(4))
        x = fields["x_base"][job] + sum(advances[i] * fields[f"x_step{i}"][job] for i in (2, 3))
        # Generators hold addresses in two's complement, with two bits more than the port.
        self.p_address, self.x_address = (wrap(a, _index_width(n) + 2) for a, n in ((p, g.p_words), (x, g.x_words)))
        self.p_fits = (self.p_address >= 0) & (self.p_address < g.p_words)
        self.x_fits = (self.x_address >= 0) & (self.x_address < g.x_words)
        self.window_end = index % (n0 * n1) == n0 * n1 - 1
        # Windows are contiguous: the first word of one follows the last of the one before.
        self.window_last = np.flatnonzero(self.window_end)
        self.window_first = np.concatenate([[0], self.window_last + 1])[: len(self.window_last)].astype(np.int64)
        broken = np.concatenate([[0], np.cumsum(~self.p_fits)])
        whole = broken[self.window_last + 1] == broken[self.window_first]
        emitted = whole & self.x_fits[self.window_last]
        self.emitted = np.flatnonzero(emitted)

    def requests(self) -> dict[str, PortTrace]:
        """Every output port but ``y_data``."""
        g, cycles, fields = self.geometry, len(self.run), self.jobs.fields
        inside = self.cycle < cycles
        active, address = np.zeros(cycles, bool), np.zeros(cycles, np.int64)
        active[self.cycle[inside]] = True
        address[self.cycle[inside]] = self.p_address[inside] & ((1 << _index_width(g.p_words)) - 1)
        ports = {
            "job_ready": _certain(self.service.level < g.queue_depth),
            "p_read_enable": _pulse(self.cycle[self.p_fits], cycles),
            "p_read_address": held(address, active),
        }
        last = self.window_last[self.emitted]
        when = self.cycle[last] + g.latency
        kept = when < cycles
        job = self.job[last][kept]
        valid = np.zeros(cycles, bool)
        valid[when[kept]] = True
        ports["y_valid"] = _certain(valid)
        columns = {"bank": fields["x_bank"][job], "plane": fields["x_plane"][job], "slot": fields["slot"][job]}
        columns["address"] = self.x_address[last][kept]
        for name, column in columns.items():
            value = np.zeros(cycles, np.int64)
            value[when[kept]] = column
            ports[f"y_{name}"] = held(value, valid)
        return ports | self._errors() | {"busy": self._busy()}

    def _busy(self) -> PortTrace:
        cycles, changes = len(self.run), np.zeros(len(self.run) + 2, np.int64)
        under_way = self.cycle[self.window_last[self.emitted]] + 1
        for first, length in ((self.cycle, 1), (under_way, self.geometry.latency)):
            np.add.at(changes, np.minimum(first, cycles + 1), 1)
            np.add.at(changes, np.minimum(first + length, cycles + 1), -1)
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

    def outputs(self, p_data: NDArray[np.int64], parameters: Parameters) -> dict[str, PortTrace]:
        """Every output port, the words of outputs (``y_data``: (cycles, lanes)) included."""
        g, cycles, fields = self.geometry, len(self.run), self.jobs.fields
        inside = self.emitted[self.cycle[self.window_last[self.emitted]] + g.latency < cycles]
        last = self.window_last[inside]
        job, read = self.job[last], self.cycle[last]
        lane = np.arange(g.lanes)
        columns = fields["slice"][job][:, None] * g.lanes + lane

        reduced = np.zeros((len(inside), g.lanes), np.int64)
        for i, (begin, end) in enumerate(zip(self.window_first[inside], last, strict=True)):
            window = p_data[self.cycle[begin] + 1 : self.cycle[end] + 2, columns[i]].astype(np.int64)
            reduced[i] = wrap(window.sum(axis=0), 32) if fields["reduce"][job[i]] == SUM else window.max(axis=0)

        found, known = [], np.ones(len(inside), bool)
        for stage, writes in enumerate((parameters.bias, parameters.multiplier, parameters.shift)):
            data, is_known = writes.read(read + 1 + stage, fields["parameters"][job])
            found.append(np.take_along_axis(data, columns, axis=1) if len(data) else np.zeros_like(reduced))
            known &= is_known
        result = requantize_wide(reduced + found[0], found[1], found[2])
        entry, entry_known = parameters.table.read(
            np.repeat((read + 5)[:, None], g.lanes, axis=1), fields["table"][job][:, None] * 256 + (result & 0xFF)
        )
        activate = fields["activate"][job][:, None] == 1
        result = np.where(activate, wrap(entry, 8), result)
        result_known = known[:, None] & (entry_known | ~activate)

        value, certain = np.zeros((cycles, g.lanes), np.int64), np.zeros((cycles, g.lanes), np.int64)
        valid = np.zeros(cycles, bool)
        when = read + g.latency
        value[when], certain[when], valid[when] = result, result_known, True
        data_port = held(value, valid)
        return self.requests() | {"y_data": PortTrace(data_port.value, data_port.known & (held(certain, valid).value == 1))}


def _index_width(words: int) -> int:
    return max(1, (words - 1).bit_length())


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))


def _pulse(when: NDArray[np.int64], cycles: int) -> PortTrace:
    value = np.zeros(cycles, np.int64)
    value[when[when < cycles]] = 1
    return _certain(value)
