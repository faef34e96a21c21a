"""Cycle model of a pod: every output port in every cycle, from its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, held, wrap
from .jobs import ERRORS, PodGeometry, Pushes, epoch_time, hand_over, serve
from .tiles import ACCUMULATE, ADD, BYPASS, NONE, Tiles, legal_tiles, load_tiles, stream_tiles, taken, with_tiles, words_of


@dataclass(frozen=True)
class _Words:
    """Words of all tiles that began, in request order: one array entry per word; ``first[i]`` is where tile i begins."""

    tile: NDArray[np.int64]
    cycle: NDArray[np.int64]
    address: dict[str, NDArray[np.int64]]
    fits: NDArray[np.bool_]
    first: NDArray[np.int64]


class PodModel:
    """The contract of a pod, run over the inputs of ``len(run)`` cycles after a reset.

    ``run`` (cycles,). ``load``, ``stream``: the pushes. `requests` needs no memory words; `outputs` takes those on ``x_data``
    (cycles, rows) and ``w_data`` (cycles, cols) in each cycle.
    """

    def __init__(self, geometry: PodGeometry, run: NDArray[np.bool_], load: Pushes, stream: Pushes):
        self.geometry, self.run, self.load, self.stream = geometry, run, with_tiles(load), with_tiles(stream)
        self.next_time = epoch_time(run, geometry.time_width)
        self._resolve(halt=len(run))
        first = min((int(c.min()) for c in self.events.values() if len(c)), default=None)
        if first is not None:
            self._resolve(halt=first)
        self.first_error = first

    def _resolve(self, halt: int) -> None:
        g, load, stream = self.geometry, self.load.fields, self.stream.fields
        fits_w = (load["w_bank"] < g.banks) & (load["w_plane"] < g.w_planes)
        # All banks among which it turns.
        fits_x = (stream["x_bank"] | (1 << stream["x_turn"]) - 1) < g.banks
        fits_x &= stream["x_plane"] < g.x_planes
        fits_p = (stream["p_bank"] < g.banks) & (stream["p_plane"] < g.p_planes)
        words = words_of(stream)
        legal_load = (load["rows"] >= 1) & (load["rows"] <= g.rows) & fits_w & legal_tiles(load)
        legal_stream = (
            (words > 0)
            & legal_tiles(stream)
            & ((stream["tiles"] == 1) | (stream["swap"] == 1))
            & fits_x
            & (stream["accumulate"] <= (ADD if g.accumulator_rows else BYPASS))
            & (stream["emit"] <= ACCUMULATE)
            & (fits_p | (stream["emit"] == NONE))
        )
        self.loads = serve(
            self.load,
            name="load",
            depth=g.load_queue_depth,
            words=taken(load, load["rows"]),
            legal=legal_load,
            run=self.run,
            halt=halt,
        )
        self.streams = serve(
            self.stream,
            name="stream",
            depth=g.stream_queue_depth,
            words=taken(stream, words),
            legal=legal_stream,
            run=self.run,
            halt=halt,
        )
        latest = min(halt, len(self.run) - 1)
        self.w_tiles = load_tiles(self.loads, load, halt=latest)
        self.x_tiles = stream_tiles(self.streams, stream, halt=latest)
        self.w_words = self._load_words()
        self.x_words = self._stream_words()
        swaps = self.x_tiles.begin[self.x_tiles.fields["swap"] == 1]
        self.events = {
            **self.loads.events,
            **self.streams.events,
            **hand_over(self.w_tiles.begin, self.w_tiles.fields["rows"], swaps),
            **self._range_events(),
            "epoch_overflow": np.flatnonzero(self.run & (self.next_time == (1 << g.time_width) - 1)),
        }
        for name, tiles in (("late_load", self.w_tiles), ("late_stream", self.x_tiles)):
            self.events[name] = np.concatenate([self.events[name], tiles.late])

    def _expand(self, tiles: Tiles, words: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        tile = np.repeat(np.arange(len(words)), words)
        first = np.concatenate([[0], np.cumsum(words)])
        index = np.arange(len(tile)) - np.repeat(first[:-1], words)
        return tile, index, np.repeat(tiles.begin + 1, words) + index, first

    def _load_words(self) -> _Words:
        fields, g = self.w_tiles.fields, self.geometry
        tile, index, cycle, first = self._expand(self.w_tiles, fields["rows"])
        address = _walk(fields["w_base"][tile] + index * fields["w_step"][tile], g.w_words)
        return _Words(tile, cycle, {"w": address}, (address >= 0) & (address < g.w_words), first)

    def _stream_words(self) -> _Words:
        fields, g = self.x_tiles.fields, self.geometry
        n0, n1 = fields["n0"], fields["n1"]
        tile, index, cycle, first = self._expand(self.x_tiles, words_of(fields))
        # How often the middle and outer loops have advanced before this word; the inner one advanced otherwise.
        outer = index // (n0 * n1)[tile] if len(tile) else index
        middle = index // n0[tile] - outer if len(tile) else index
        inner = index - middle - outer
        address = {}
        for memory, words in (("x", g.x_words), ("p", g.p_words)):
            step = [fields[f"{memory}_step{i}"][tile] for i in range(3)]
            raw = fields[f"{memory}_base"][tile] + inner * step[0] + middle * step[1] + outer * step[2]
            address[memory] = _walk(raw, words)
        row = fields["accumulator_base"][tile] + index
        address["accumulator"] = np.where(
            row < g.accumulator_rows, row, np.maximum(fields["accumulator_base"][tile], g.accumulator_rows)
        )
        outside = self._outside(tile, address)
        return _Words(tile, cycle, address, ~(outside["x"] | outside["p"] | outside["accumulator"]), first)

    def _outside(self, tile: NDArray, address: dict[str, NDArray]) -> dict[str, NDArray[np.bool_]]:
        fields, g = self.x_tiles.fields, self.geometry
        return {
            "x": (address["x"] < 0) | (address["x"] >= g.x_words),
            "p": ((address["p"] < 0) | (address["p"] >= g.p_words)) & (fields["emit"][tile] != NONE),
            "accumulator": (address["accumulator"] >= g.accumulator_rows) & (fields["accumulate"][tile] != BYPASS),
        }

    def _range_events(self) -> dict[str, NDArray[np.int64]]:
        outside = self._outside(self.x_words.tile, self.x_words.address)
        cycles = len(self.run)
        events = {f"{memory}_address": self.x_words.cycle[mask] for memory, mask in outside.items()}
        events["w_address"] = self.w_words.cycle[~self.w_words.fits]
        return {name: when[when < cycles] for name, when in events.items()}

    def requests(self) -> dict[str, PortTrace]:
        """Every output port that does not depend on memory words."""
        g, cycles = self.geometry, len(self.run)
        ports: dict[str, PortTrace] = {}
        sources = (
            ("w", self.w_words, self.w_tiles.fields, g.w_words, g.w_planes),
            ("x", self.x_words, self.x_tiles.fields, g.x_words, g.x_planes),
        )
        for memory, words, fields, size, planes in sources:
            ports[f"{memory}_request_valid"] = _pulse(words.cycle[words.fits], cycles)
            inside = words.cycle < cycles
            active = np.zeros(cycles, bool)
            active[words.cycle[inside]] = True
            columns = {
                "bank": fields[f"{memory}_bank"][words.tile],
                **({"plane": fields[f"{memory}_plane"][words.tile]} if planes > 1 else {}),
                "address": words.address[memory] & ((1 << _index_width(size)) - 1),
            }
            for name, column in columns.items():
                value = np.zeros(cycles, np.int64)
                value[words.cycle[inside]] = column[inside]
                ports[f"{memory}_request_{name}"] = held(value, active)
        for name, service, depth in (
            ("load", self.loads, g.load_queue_depth),
            ("stream", self.streams, g.stream_queue_depth),
        ):
            ports[f"{name}_ready"] = _certain(service.level < depth)
        ports["busy"] = self._busy()
        ports |= self._errors()
        ports |= self._writes()
        return ports

    def _emits(self) -> NDArray[np.bool_]:
        return self.x_words.fits & (self.x_tiles.fields["emit"][self.x_words.tile] != NONE)

    def _busy(self) -> PortTrace:
        cycles, delay = len(self.run), self.geometry.psum_delay
        busy = (self.loads.level > 0) | (self.streams.level > 0)
        changes = np.zeros(cycles + 2, np.int64)
        under_way = self.x_words.cycle[self.x_words.fits]
        emitted = self.x_words.cycle[self._emits()] + delay
        for first, end in (
            (self.loads.begin + 1, self.w_tiles.over),
            (self.streams.begin + 1, self.x_tiles.over),
            (under_way + 1, under_way + 1 + delay),
            (emitted + 1, emitted + 2),
        ):
            np.add.at(changes, np.minimum(first, cycles + 1), 1)
            np.add.at(changes, np.minimum(end, cycles + 1), -1)
        return _certain(busy | (np.cumsum(changes)[:cycles] > 0))

    def _errors(self) -> dict[str, PortTrace]:
        cycles = len(self.run)
        errors = np.zeros(cycles, np.int64)
        for bit, name in enumerate(ERRORS):
            if len(self.events[name]):
                errors[int(self.events[name].min()) + 1 :] |= 1 << bit
        time = np.zeros(cycles, np.int64)
        if self.first_error is not None:
            time[self.first_error + 1 :] = self.next_time[self.first_error]
        return {"errors": _certain(errors), "error_time": _certain(time)}

    def _writes(self) -> dict[str, PortTrace]:
        g, cycles, fields = self.geometry, len(self.run), self.x_tiles.fields
        emits = self._emits()
        cycle, tile = self.x_words.cycle[emits] + g.psum_delay + 1, self.x_words.tile[emits]
        inside = cycle < cycles
        valid = np.zeros(cycles, bool)
        valid[cycle[inside]] = True
        columns = {
            "p_accumulate": fields["emit"][tile] == ACCUMULATE,
            "p_bank": fields["p_bank"][tile],
            **({"p_plane": fields["p_plane"][tile]} if g.p_planes > 1 else {}),
            "p_address": self.x_words.address["p"][emits],
        }
        ports = {"p_valid": _certain(valid)}
        for name, column in columns.items():
            value = np.zeros(cycles, np.int64)
            value[cycle[inside]] = column[inside]
            ports[name] = held(value, valid)
        return ports

    def outputs(self, x_data: NDArray[np.int8], w_data: NDArray[np.int8]) -> dict[str, PortTrace]:
        """Every output port, the partial sums (``p_data``: (cycles, cols)) included."""
        g, cycles, words, fields = self.geometry, len(self.run), self.x_words, self.x_tiles.fields
        weights = np.zeros((g.rows, g.cols), np.int8)
        weights_known = False
        rows = np.zeros((max(1, g.accumulator_rows), g.cols), np.int64)
        rows_known = np.zeros(len(rows), bool)
        value = np.zeros((cycles, g.cols), np.int64)
        known = np.zeros(cycles, bool)
        valid = np.zeros(cycles, bool)
        load_first = self.w_tiles.begin + 1
        for tile, begin in enumerate(self.x_tiles.begin):
            if fields["swap"][tile]:
                weights, weights_known = self._shadow(w_data, load_first, begin + 1)
            span = slice(words.first[tile], words.first[tile + 1])
            kept = words.fits[span] & (words.cycle[span] + g.psum_delay + 1 < cycles)
            arrival = words.cycle[span][kept]
            # At most 256 rows of products of int8: below 2**24, exact in float32.
            psum = (x_data[arrival + g.latency].astype(np.float32) @ weights.astype(np.float32)).astype(np.int64)
            psum_known = np.full(len(psum), weights_known)
            code, row = fields["accumulate"][tile], words.address["accumulator"][span][kept]
            if code == ADD:
                psum, psum_known = psum + rows[row], psum_known & rows_known[row]
            psum = wrap(psum, g.psum_width)
            if code != BYPASS:
                rows[row], rows_known[row] = psum, psum_known
            when = arrival + g.psum_delay + 1
            value[when], known[when], valid[when] = psum, psum_known, True
        data = held(value, valid)
        data_known = held(known.astype(np.int64), valid).value.astype(bool)
        return self.requests() | {"p_data": PortTrace(data.value, data.known & data_known[:, None])}

    def _shadow(self, w_data: NDArray[np.int8], load_first: NDArray, cycle: int) -> tuple[NDArray[np.int8], bool]:
        """The weights that a swap with the activations requested in ``cycle`` makes active."""
        row = np.arange(self.geometry.rows)
        latest = np.searchsorted(load_first, cycle - 1 - row, side="right") - 1
        if not len(load_first) or latest.min() < 0:
            return np.zeros((self.geometry.rows, self.geometry.cols), np.int8), False
        arrival = load_first[latest] + row + self.geometry.latency
        return w_data[np.minimum(arrival, len(w_data) - 1)], True


def _index_width(words: int) -> int:
    return max(1, (words - 1).bit_length())


def _walk(address: NDArray[np.int64], words: int) -> NDArray[np.int64]:
    """Addresses as the generator holds them: two's complement, with two bits more than the address port."""
    return wrap(address, _index_width(words) + 2)


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))


def _pulse(when: NDArray[np.int64], cycles: int) -> PortTrace:
    value = np.zeros(cycles, np.int64)
    value[when[when < cycles]] = 1
    return _certain(value)
