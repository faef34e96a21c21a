"""Every output port of a collective engine in every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay, held
from .walk import Walk, walk_of
from .words import HEAD, HEAD_ID, HEAD_KIND, NO_COLLECTIVE, WORD, Job, LinkGeometry

TIMEOUT, WRONG_ID, WRONG_LENGTH, CRC, LINK_DOWN, NEIGHBOUR, OVERFLOW, ILLEGAL_JOB, WRONG_MANAGER = range(1, 10)
SEND, RECEIVE = 0, 1


@dataclass(frozen=True)
class JobLoad:
    """A job whose last beat is on the load port in ``cycle``: word ``index`` of store `SEND` or `RECEIVE`."""

    cycle: int
    store: int
    index: int
    job: Job


@dataclass
class Collective:
    """One collective, as it goes if nothing halts the engine."""

    id: int
    begin: int
    send: Walk
    receive: Walk
    last_busy: int = 0
    head_from: int = 0
    reads: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    # Of each unit sent (head, words): the cycles in which its flits are handed on, as many as there are.
    handed: list[NDArray[np.int64]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    takes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    errors: list[tuple[int, int]] = field(default_factory=list)
    """(cycle in which it is raised, code)."""
    bad_take: int | None = None
    """Cycle in which something that is not expected is taken."""


class EngineModel:
    """A collective engine whose inputs are known: arrays over cycles, of data (cycles, bytes), by the names of its ports.

    ``loads``: what the load port writes, in place of the inputs ``host_*``. ``units``, ``depths``: of the chip, and P and X words
    of a bank. ``jobs``: words of a store. Without ``received_kind`` among the inputs, what is taken is not looked at.
    """

    def __init__(
        self,
        geometry: LinkGeometry,
        inputs: dict[str, NDArray],
        loads: Sequence[JobLoad],
        *,
        units: int,
        depths: tuple[int, int],
        jobs: int,
    ):
        self.geometry, self.loads, self.units, self.depths, self.jobs = geometry, loads, units, depths, jobs
        self.inputs = {name: np.asarray(values).astype(np.int64) for name, values in inputs.items()}
        self.cycles = len(self.inputs["start"])
        self.ready = np.flatnonzero(self.inputs["send_ready"])
        self.offered = np.flatnonzero(self.inputs["received_valid"])
        self.collectives: list[tuple[Collective, int, int]] = []
        """Those that have begun; the first cycle in which nothing is taken or handed on any more, and nothing read or written."""
        self.epoch = np.full(self.cycles, NO_COLLECTIVE)
        self.error, self.error_id = np.zeros(self.cycles, np.int64), np.zeros(self.cycles, np.int64)
        self.busy, self.fault = np.zeros(self.cycles, bool), np.zeros(self.cycles, bool)
        starts = np.flatnonzero(self.inputs["start"]).tolist()
        for start, end in zip(starts, [*starts[1:], self.cycles], strict=True):
            self._run(start, end)

    # -- A run.

    def _run(self, start: int, end: int) -> None:
        """From a start up to the next one, in cycle ``end``, or the end."""
        inputs, after = self.inputs, start + 1
        epoch = int(inputs["first"][start])
        stop = _first(inputs["stop"], after, self.cycles)
        if epoch != NO_COLLECTIVE and stop < end:
            self.fault[stop] = True
        self.epoch[after : end + 1] = epoch
        self.error[after : end + 1] = self.error_id[after : end + 1] = 0
        pointers = [0, 0]
        at = after
        while True:
            begin = _first(inputs["begins"], at, end) if epoch != NO_COLLECTIVE else end
            collective = self._collective(epoch, begin, pointers) if begin < min(end, stop) else None
            last = collective.last_busy if collective else end
            cycle, code = min(self._raised(at, last, epoch, collective), default=(end, 0))
            raised = cycle < min(end, stop)
            halted = cycle + 1 if raised else stop
            if raised:
                self.error[cycle + 1 : end + 1], self.error_id[cycle + 1 : end + 1] = code, epoch
            if collective and begin < halted:
                self.busy[begin + 1 : min(last, halted, end) + 1] = True
                # In the cycle of a start all goes on but accesses.
                self.collectives.append((collective, min(halted, end + 1), min(halted, end)))
            if not collective or last >= min(halted, end):
                return
            at, epoch = last + 1, collective.send.next
            self.epoch[at : end + 1] = epoch
            if raised:
                return
            pointers = [pointers[SEND] + collective.send.used, pointers[RECEIVE] + collective.receive.used]

    def _raised(self, begin: int, end: int, epoch: int, collective: Collective | None) -> list[tuple[int, int]]:
        """Errors with their cycles, of those from ``begin`` to ``end``; only the earliest counts, of several the smallest code."""
        if epoch == NO_COLLECTIVE:
            return []
        found = list(collective.errors) if collective else []
        causes = {CRC: "crc_error", NEIGHBOUR: "neighbour_failed", OVERFLOW: "overflow", WRONG_MANAGER: "misdirected"}
        for code, name in causes.items():
            found.append((_first(self.inputs[name], begin, self.cycles), code))
        return [(cycle, code) for cycle, code in found if cycle <= end]

    def _store(self, which: int, cycle: int) -> dict[int, Job]:
        """What is in a store in that cycle."""
        return {load.index: load.job for load in self.loads if load.store == which and load.cycle + 2 <= cycle}

    # -- A collective.

    def _collective(self, id: int, begin: int, pointers: list[int]) -> Collective:
        walks = []
        for which, pointer in enumerate(pointers):
            store = self._store(which, begin + 1)
            walks.append(walk_of(store, self.jobs, pointer % self.jobs, id, self.units, self.depths, self.cycles))
        made = Collective(id, begin, walks[SEND], walks[RECEIVE])
        self._receive(made)
        self._send(made)
        self._end(made)
        return made

    def _receive(self, made: Collective) -> None:
        walk, opens = made.receive, made.begin + 3
        flits = self.geometry.flits[walk.kind]
        count = len(walk.unit) * flits + 1 if walk.words and len(walk.unit) else 0
        at = np.searchsorted(self.offered, opens)
        made.takes = self.offered[at : at + count]
        if walk.illegal:
            self._illegal(made, made.takes[-1] + 1 if count and len(made.takes) == count else opens if not count else None)
        if "received_kind" in self.inputs:
            self._check(made)

    def _illegal(self, made: Collective, cycle: int | None) -> None:
        if cycle is not None:
            made.errors.append((int(cycle), ILLEGAL_JOB))

    def _check(self, made: Collective) -> None:
        """What is taken: heads, and flits of words."""
        if not len(made.takes):
            return
        kind = self.inputs["received_kind"][made.takes]
        wrong = kind != np.where(np.arange(len(kind)) == 0, HEAD, WORD)
        payload = int.from_bytes(self.inputs["received_data"][made.takes[0]][:4].astype(np.uint8).tobytes(), "little")
        id, bank, words = payload % (1 << HEAD_ID), payload >> HEAD_ID & 1, payload >> (HEAD_ID + HEAD_KIND)
        if not wrong[0]:
            if id != made.id % (1 << HEAD_ID):
                made.errors.append((int(made.takes[0]), WRONG_ID))
            if (bank, words) != (made.receive.kind, made.receive.words):
                made.errors.append((int(made.takes[0]), WRONG_LENGTH))
        if wrong.any():
            made.bad_take = int(made.takes[np.argmax(wrong)])
            made.errors.append((made.bad_take, WRONG_LENGTH))

    def _writes(self, made: Collective) -> NDArray[np.int64]:
        """The cycles in which the last flits of words are taken that are written."""
        flits = self.geometry.flits[made.receive.kind]
        found = made.takes[flits::flits]
        return found if made.bad_take is None else found[found != made.bad_take]

    def _send(self, made: Collective) -> None:
        """Reads, and when flits are handed on: the only loop, over words."""
        walk, geometry, end = made.send, self.geometry, self.cycles
        made.head_from = made.begin + 4
        if walk.illegal and not len(walk.unit):
            self._illegal(made, made.begin + 3)
        if not walk.words:
            return
        writes = self._writes(made)
        written, flits = set(writes.tolist()), geometry.flits[walk.kind]
        self._hand(made, made.head_from, 1)
        reads: list[int] = []
        cycle = made.begin + 3
        for j, after in enumerate(walk.after.tolist()):
            room = made.handed[1 + j - geometry.words_ahead] if j >= geometry.words_ahead else made.takes[:0]
            if after >= len(writes) or (j >= geometry.words_ahead and len(room) < flits):
                break
            cycle = max(cycle, int(writes[after]) + 2 if after >= 0 else 0, int(room[-1]) + 1 if len(room) else 0)
            while cycle in written:
                cycle += 1
            if cycle >= end:
                break
            reads.append(cycle)
            self._hand(made, cycle + 3 + geometry.read_latency, flits)
            cycle += 1
        made.reads = np.array(reads, np.int64)
        if walk.illegal and len(walk.unit) and len(reads) == len(walk.unit):
            self._illegal(made, cycle)

    def _hand(self, made: Collective, ready: int, flits: int) -> None:
        """One more unit."""
        before = made.handed[-1] if made.handed else None
        shown = ready
        if before is not None:
            expected = 1 if len(made.handed) == 1 else flits
            shown = max(ready, int(before[-1]) + 1) if len(before) == expected else self.cycles
        at = np.searchsorted(self.ready, shown)
        made.shown.append(min(shown, self.cycles))
        made.handed.append(self.ready[at : at + flits])

    def _end(self, made: Collective) -> None:
        """The last cycle of it, if nothing halts it; and what is raised because it lasts, or because a link is down."""
        none, first = self.cycles, made.begin + 4
        through = []
        for walk, cycles, units, flits in (
            (
                made.send,
                made.handed[-1] if made.handed else made.takes[:0],
                len(made.handed) - 1,
                self.geometry.flits[made.send.kind],
            ),
            (made.receive, made.takes, len(made.takes), self.geometry.flits[made.receive.kind]),
        ):
            if walk.words == 0:
                through.append(none if walk.illegal else first)
                continue
            sends = walk is made.send
            whole = units == walk.words and len(cycles) == flits if sends else units == walk.words * flits + 1
            through.append(int(cycles[-1]) + 1 if whole and not walk.illegal else none)
        made.last_busy = max(through)
        down = _first(1 - self.inputs["link_up"], made.begin + 1, self.cycles)
        if down <= made.last_busy:
            made.errors.append((down, LINK_DOWN))
        timeout = int(self.inputs["timeout"][made.begin])
        moves = np.unique(np.concatenate([[made.begin], made.takes, *made.handed, [none + timeout + 1]]))
        late = np.flatnonzero(np.diff(moves) > timeout)
        if timeout and len(late) and moves[late[0]] + timeout <= made.last_busy:
            made.errors.append((int(moves[late[0]]) + timeout, TIMEOUT))

    # -- Traces.

    def ports(self) -> dict[str, PortTrace]:
        sent, received, waits = (np.zeros(self.cycles, bool) for _ in range(3))
        ready = np.zeros(self.cycles, bool)
        back = np.zeros(self.cycles, bool)
        for made, end, _ in self.collectives:
            for handed in made.handed:
                sent[handed[handed < end]] = True
            takes = made.takes[made.takes < end]
            received[takes] = True
            ready[made.begin + 3 : self._closes(made, end)] = True
            back[takes[:1]] = back[takes[:: self.geometry.flits[made.receive.kind]]] = True
            if made.receive.words and len(made.receive.unit):
                waits[made.begin + 3 : min(int(made.takes[0]) if len(made.takes) else end, end)] = True
        flags = {
            "busy": self.busy,
            "fault": self.fault,
            "received_ready": ready,
            "give_back": back,
            "flit_sent": delay(sent, 1),
            "flit_received": delay(received, 1),
            "waits": delay(waits, 1),
            "epoch": self.epoch,
            "error": self.error,
            "error_id": self.error_id,
        }
        found = {name: _certain(value) for name, value in flags.items()}
        return {**found, **self._flits(), **self._accesses()}

    def _closes(self, made: Collective, end: int) -> int:
        """The first cycle in which nothing is taken any more."""
        if not made.receive.words or not len(made.receive.unit):
            return made.begin + 3
        whole = len(made.takes) == len(made.receive.unit) * self.geometry.flits[made.receive.kind] + 1
        return min(int(made.takes[-1]) + 1, end) if whole else end

    def _flits(self) -> dict[str, PortTrace]:
        """What is on ``send_*``."""
        width = self.inputs["received_data"].shape[1] if "received_data" in self.inputs else 0
        valid, first, kind = (np.zeros(self.cycles, np.int64) for _ in range(3))
        data = np.zeros((self.cycles, width), np.int64)
        for made, end, _ in self.collectives:
            for number, (shown, handed) in enumerate(zip(made.shown, made.handed, strict=True)):
                flits = self.geometry.flits[made.send.kind] if number else 1
                bounds = [shown, *(handed + 1).tolist()]
                for k in range(flits):
                    if k >= len(bounds):
                        break
                    part = slice(min(bounds[k], end), min(bounds[k + 1] if k + 1 < len(bounds) else end, end))
                    valid[part], first[part], kind[part] = 1, k == 0, WORD if number else HEAD
                    data[part] = self._payload(made, number, k, width)
        known = np.repeat(valid[:, None] == 1, width, axis=1)
        return {
            "send_valid": _certain(valid),
            "send_first": PortTrace(first, valid == 1),
            "send_kind": PortTrace(kind, valid == 1),
            "send_data": PortTrace(data, known),
        }

    def _payload(self, made: Collective, number: int, k: int, width: int) -> NDArray[np.int64]:
        found = np.zeros(width, np.int64)
        if number == 0:
            head = made.id % (1 << HEAD_ID) | made.send.kind << HEAD_ID | made.send.words << (HEAD_ID + HEAD_KIND)
            found[:4] = [head >> 8 * i & 255 for i in range(4)]
            return found
        when = made.reads[number - 1] + 1 + self.geometry.read_latency
        if when < self.cycles:
            part = self.inputs["read_data"][when][k * width : (k + 1) * width]
            found[: len(part)] = part
        return found

    def _accesses(self) -> dict[str, PortTrace]:
        width = self.inputs["read_data"].shape[1]
        flit = self.inputs["received_data"].shape[1] if "received_data" in self.inputs else 1
        valid, write = np.zeros(self.cycles + 1, bool), np.zeros(self.cycles + 1, np.int64)
        columns = {name: np.zeros(self.cycles + 1, np.int64) for name in ("add", "kind", "unit", "address")}
        data, known = np.zeros((self.cycles + 1, width), np.int64), np.zeros((self.cycles + 1, width), bool)
        for made, _, end in self.collectives:
            writes, flits = self._writes(made), self.geometry.flits[made.receive.kind]
            for walk, cycles, writing in ((made.send, made.reads, 0), (made.receive, writes, 1)):
                cycles = cycles[cycles < end]
                at, count = cycles + 1, len(cycles)
                valid[at], write[at], columns["kind"][at] = True, writing, walk.kind
                columns["add"][at] = walk.add[:count] if writing else 0
                columns["unit"][at], columns["address"][at] = walk.unit[:count], walk.address[:count]
                if writing and "received_data" in self.inputs and count:
                    taken = made.takes[1 : 1 + count * flits]
                    words = self.inputs["received_data"][taken].reshape(count, flits * flit)[:, :width]
                    data[at, : words.shape[1]], known[at, : words.shape[1]] = words, True
        valid, began = valid[: self.cycles], delay(self.inputs["start"], 1) == 1
        last, cycles = held(np.arange(self.cycles), valid), np.arange(self.cycles)
        # What would have been accessed in the cycle behind a start is nowhere else.
        certain = last.known & (last.value > np.maximum.accumulate(np.where(began, cycles, -1)))
        kept = {name: held(values[: self.cycles], valid).value for name, values in (columns | {"write": write}).items()}
        return {
            "access_valid": _certain(valid),
            **{f"access_{name}": PortTrace(values, certain) for name, values in kept.items()},
            "access_data": PortTrace(data[: self.cycles], known[: self.cycles]),
        }


def _first(values: NDArray[np.int64], begin: int, end: int) -> int:
    """The first cycle from ``begin`` on in which ``values`` is not 0; ``end`` if there is none before."""
    found = np.flatnonzero(values[begin:end])
    return begin + int(found[0]) if len(found) else end


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))
