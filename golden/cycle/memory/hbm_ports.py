"""Every output port of a channel of HBM in every cycle, from the bursts that a manager wants and when it is ready."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, held
from .hbm import OKAY, SLVERR, HbmChannel

INCR = 1


@dataclass(frozen=True, kw_only=True)
class Burst:
    """``valid``: first cycle in which it may be on AR or AW; it follows the one before. ``size``: log2 of the bytes of a beat.

    Of a write also ``beat_valid`` (beats,): first cycle for each beat on W, ``data`` (beats, bytes) and ``strobes`` (beats, bytes).
    """

    valid: int
    address: int
    beats: int
    size: int
    burst: int = INCR
    id: int = 0
    beat_valid: NDArray[np.int64] | None = None
    data: NDArray[np.uint8] | None = None
    strobes: NDArray[np.bool_] | None = None


@dataclass
class Handshakes:
    """(first cycle on the port, cycle of acceptance) of everything on AR, AW, W, R and B, in order."""

    ar: list[tuple[int, int]]
    aw: list[tuple[int, int]]
    w: list[tuple[int, int]]
    r: list[tuple[int, int]]
    b: list[tuple[int, int]]


class ChannelModel:
    """A channel over time. ``r_ready``, ``b_ready`` (cycles,): what the manager does; ``contents``: its bytes, changed in place."""

    def __init__(
        self,
        channel: HbmChannel,
        reads: list[Burst],
        writes: list[Burst],
        r_ready: NDArray[np.bool_],
        b_ready: NDArray[np.bool_],
        contents: NDArray[np.uint8],
    ):
        self.channel, self.reads, self.writes, self.contents = channel, reads, writes, contents
        self.cycles = len(r_ready)
        # The next cycle in which the manager is ready, from each one on; beyond the end it always is.
        self.next_ready = [_next(r_ready), _next(b_ready)]
        self.times = Handshakes([], [], [], [], [])
        self.last_beats: list[int] = []
        self._serve()
        self._transfer()

    def _refused(self, burst: Burst) -> bool:
        beat = self.channel.beat_bytes
        return burst.burst != INCR or 1 << burst.size != beat or self.channel.crosses_page(burst.address, burst.beats)

    def _serve(self) -> None:
        """Reads and writes in order of acceptance."""
        queue = self.channel.timing.queue
        reads_left: list[int] = []
        read, write = 0, 0
        write_done = self._bring_write(0)
        while read < len(self.reads) or write < len(self.writes):
            asked, accepted = self._asked(self.times.ar, self.reads, read, reads_left, queue)
            if accepted <= write_done:
                burst = self.reads[read]
                self.times.ar.append((asked, accepted))
                pieces = self.channel.serve(accepted, burst.address, burst.beats, refused=self._refused(burst))
                for piece in pieces:
                    for beat in range(piece.beats):
                        due = -(-(piece.start16 + beat * self.channel.timing.beat_sixteenths) // 16)
                        self._show(self.times.r, due, self.next_ready[0])
                reads_left.append(self.times.r[-1][1])
                read += 1
            else:
                burst = self.writes[write]
                self.channel.serve(write_done, burst.address, burst.beats, refused=self._refused(burst))
                self._show(self.times.b, -(-self.channel.end16 // 16), self.next_ready[1])
                write += 1
                write_done = self._bring_write(write)

    def _asked(
        self, before: list[tuple[int, int]], bursts: list[Burst], index: int, left: list[int], queue: int
    ) -> tuple[int, int]:
        """First cycle of a burst on AR or AW, and that of its acceptance."""
        if index == len(bursts):
            return 1 << 62, 1 << 62
        asked = max(bursts[index].valid, before[-1][1] + 1 if before else 0)
        free = left[index - queue] + 1 if index >= queue else 0
        return asked, max(asked, free)

    def _bring_write(self, index: int) -> int:
        """Puts a write on AW and W; the cycle of its last beat."""
        left = [accepted for _, accepted in self.times.b]
        asked, accepted = self._asked(self.times.aw, self.writes, index, left, self.channel.timing.queue)
        if index == len(self.writes):
            return accepted
        self.times.aw.append((asked, accepted))
        beat_valid = self.writes[index].beat_valid
        assert beat_valid is not None
        for wanted in beat_valid.tolist():
            first = max(wanted, self.times.w[-1][1] + 1 if self.times.w else 0)
            self.times.w.append((first, max(first, accepted + 1)))
        return self.times.w[-1][1]

    @staticmethod
    def _show(times: list[tuple[int, int]], due: int, ready: NDArray[np.int64]) -> None:
        shown = max(due, times[-1][1] + 1 if times else 0)
        times.append((shown, int(ready[shown]) if shown < len(ready) else shown))

    def _transfer(self) -> None:
        """Data of all beats, in order of time: what R shows in cycle t left the memory at the end of cycle t - 1."""
        beat = self.channel.beat_bytes
        self.r_data = np.zeros((len(self.times.r), beat), np.uint8)
        self.r_response = np.zeros(len(self.times.r), np.int64)
        self.b_response = np.zeros(len(self.writes), np.int64)
        events = [
            (self.times.r[at][0] - 1, 0, at, index, offset)
            for at, (index, offset) in enumerate((i, k) for i, burst in enumerate(self.reads) for k in range(burst.beats))
        ]
        events += [
            (self.times.w[at][1], 1, at, index, offset)
            for at, (index, offset) in enumerate((i, k) for i, burst in enumerate(self.writes) for k in range(burst.beats))
        ]
        for cycle, is_write, at, index, offset in sorted(events):
            burst = (self.writes if is_write else self.reads)[index]
            address = burst.address - burst.address % beat + offset * beat
            response = SLVERR if self._refused(burst) else self.channel.response(address)
            part = slice(address - self.channel.base, address - self.channel.base + beat)
            if is_write:
                assert burst.data is not None
                assert burst.strobes is not None
                self.b_response[index] = max(self.b_response[index], response)
                if response == OKAY and cycle < self.cycles:
                    self.contents[part] = np.where(burst.strobes[offset], burst.data[offset], self.contents[part])
            else:
                self.r_response[at] = response
                if response == OKAY:
                    self.r_data[at] = self.contents[part]

    def ports(self) -> dict[str, PortTrace]:
        """Data as lanes of 32 bits."""
        times, queue = self.times, self.channel.timing.queue
        last = np.cumsum([burst.beats for burst in self.reads]) - 1
        r_last = np.zeros(len(times.r), np.int64)
        r_last[last] = 1
        r_id = np.repeat([burst.id for burst in self.reads], [burst.beats for burst in self.reads])
        w_last = np.cumsum([burst.beats for burst in self.writes]) - 1
        reads = self._level([a for _, a in times.ar], [times.r[i][1] for i in last])
        writes = self._level([a for _, a in times.aw], [a for _, a in times.b])
        pending = self._level([a for _, a in times.aw], [times.w[i][1] for i in w_last])
        r = {"rdata": self.r_data.view("<u4").astype(np.int64), "rresp": self.r_response, "rlast": r_last, "rid": r_id}
        b = {"bresp": self.b_response, "bid": np.array([burst.id for burst in self.writes], np.int64)}
        return {
            "arready": _certain(reads < queue),
            "awready": _certain(writes < queue),
            "wready": _certain(pending > 0),
            **self._shown("rvalid", times.r, r),
            **self._shown("bvalid", times.b, b),
            "violation": _certain(np.zeros(self.cycles)),
        }

    def _level(self, begun: list[int], ended: list[int]) -> NDArray[np.int64]:
        """How many have begun and not ended, both as seen from the cycle after."""
        change = np.zeros(self.cycles + 1, np.int64)
        for sign, when in ((1, begun), (-1, ended)):
            np.add.at(change, np.minimum(np.array(when, np.int64) + 1, self.cycles), sign)
        return np.cumsum(change)[: self.cycles]

    def _shown(self, name: str, times: list[tuple[int, int]], columns: dict[str, NDArray[np.int64]]) -> dict[str, PortTrace]:
        valid, begin = np.zeros(self.cycles, bool), np.zeros(self.cycles, bool)
        index = np.zeros(self.cycles, np.int64)
        for i, (first, end) in enumerate(times):
            valid[first : end + 1] = True
            if first < self.cycles:
                begin[first], index[first] = True, i
        return {name: _certain(valid)} | {port: held(values[index], begin) for port, values in columns.items()}


def _next(ready: NDArray[np.bool_]) -> NDArray[np.int64]:
    cycles = np.where(ready, np.arange(len(ready)), len(ready))
    return np.minimum.accumulate(cycles[::-1])[::-1]


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))
