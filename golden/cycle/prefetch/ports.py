"""Every port of a prefetch engine and of its channel of HBM in every cycle, from what an `EngineModel` kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory.hbm import Piece
from ..ports import PortTrace, held
from .delivery import Burst, Item
from .engine import STALLS, EngineModel
from .store import PORT_CYCLES, StoreModel
from .words import LOAD, Descriptor

ChipWords = Callable[[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.uint8]]
"""Select, units, word addresses and beats of host reads -> what they find: (n, bytes of a beat)."""


class EnginePorts:
    """Ports over ``cycles`` cycles, the first of which is ``lead`` cycles before cycle 0 of the model.

    ``memory``: its bytes from address 0 on, changed in place by stores.
    """

    def __init__(self, model: EngineModel, *, cycles: int, lead: int, memory: NDArray[np.uint8], chip: ChipWords):
        assert model.agenda.log is not None
        self.model, self.cycles, self.lead, self.memory, self.chip = model, cycles, lead, memory, chip
        self.log: dict[str, list[Any]] = model.agenda.log
        self.beat = model.geometry.beat_bytes
        self.stopped = model.stopped_at + lead if model.stopped_at is not None else 1 << 62
        self._move()

    def _move(self) -> None:
        """Data of all reads, writes and accesses of the chip, in the order in which they happen."""
        self.r: list[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], int]] = []
        self.host: list[dict[str, NDArray[np.int64]]] = []
        self.w: list[dict[str, NDArray[np.int64]]] = []
        order: list[tuple[int, int, Any]] = [
            (accepted, 0, entry) for (_, accepted, *_), entry in zip(self.log.get("ar", []), self.log.get("r", []), strict=True)
        ]
        order += [(store.item.begin, 1, store) for (store,) in self.log.get("stores", [])]
        order += [(item.begin, 2, item) for (item,) in self.log.get("items", []) if item.descriptor.kind == LOAD]
        for _, what, entry in sorted(order, key=lambda each: each[:2]):
            if what == 0:
                self._read(*entry)
            elif what == 1:
                self._store(entry)
            else:
                self._load(entry)

    def _read(self, address: int, beats: int, what: Any, pieces: list[Piece]) -> None:
        channel = self.model.channel
        times = np.array([channel.beat_cycle(pieces, i) for i in range(beats)], np.int64)
        data = self.memory[address : address + beats * self.beat].reshape(beats, self.beat).copy()
        responses = np.zeros(beats, np.int64)
        for number, response in channel.failing(address, beats):
            responses[number], data[number] = response, 0
        self.r.append((times, data, responses, 0 if not isinstance(what, Burst) else 1 + what.item.ring))

    def _load(self, item: Item) -> None:
        """Pieces on the load port."""
        descriptor, made = item.descriptor, item.piece_steps(self.model.geometry)
        target = self.model.geometry.targets[descriptor.select]
        starts = descriptor.run_starts()
        words = self._words(starts, descriptor.n0, target.stride)
        pieces = np.zeros((descriptor.words, target.pieces * target.piece_bytes), np.uint8)
        pieces[:, : target.stride] = words.reshape(-1, target.stride)
        data = np.zeros((len(made), self.beat), np.uint8)
        data[:, : target.piece_bytes] = pieces.reshape(-1, target.piece_bytes)[: len(made)]
        access = self._access(descriptor, len(made)) | {"write": np.ones(len(made), np.int64), "data": data.view("<u4")}
        kept = made < (item.failed_from if item.failed_from is not None else 1 << 62)
        self.host.append({name: column[kept] for name, column in (access | {"cycle": made + PORT_CYCLES}).items()})

    def _access(self, descriptor: Descriptor, count: int) -> dict[str, NDArray[np.int64]]:
        """What goes with each of the first ``count`` pieces of a descriptor."""
        target = self.model.geometry.targets[descriptor.select]
        address, piece = (column[:count] for column in descriptor.accesses(target))
        return {
            "address": address,
            "beat": piece,
            "commit": (piece == target.pieces - 1).astype(np.int64),
            "select": np.full(count, descriptor.select),
            "unit": np.full(count, descriptor.unit),
            "broadcast": np.full(count, descriptor.broadcast),
        }

    def _words(self, starts: NDArray[np.int64], n0: int, stride: int) -> NDArray[np.uint8]:
        return np.stack([self.memory[start : start + n0 * stride] for start in starts.tolist()])

    def _store(self, store: StoreModel) -> None:
        """Reads of the chip, beats on W, and what they leave in memory."""
        descriptor = store.item.descriptor
        target = self.model.geometry.targets[descriptor.select]
        count = descriptor.words * target.pieces
        access = self._access(descriptor, count)
        found = self.chip(descriptor.select, access["unit"], access["address"], access["beat"])[:, : target.piece_bytes]
        made = store.step_times()
        made = made[store.reads[: len(made)]]
        zeros = np.zeros((count, self.beat // 4), np.int64)
        access |= dict.fromkeys(("write", "commit"), np.zeros(count, np.int64)) | {"data": zeros}
        access = {name: column[: len(made)] for name, column in access.items()} | {"cycle": made + PORT_CYCLES}
        self.host.append(access)

        if descriptor.column:
            # Runs, pieces, words, bytes; of each run its lanes in order, a byte of each word.
            lanes = found.reshape(-1, target.pieces, descriptor.n0, target.piece_bytes).transpose(0, 1, 3, 2)
            found = lanes.reshape(-1, target.stride, descriptor.n0)[:, : target.bytes]
        beats, strobes = [], []
        starts, per_run = descriptor.memory_runs(target)
        for start, run in zip(starts.tolist(), found.reshape(-1, per_run), strict=True):
            offset = start % self.beat
            whole = -(-(offset + per_run) // self.beat) * self.beat
            data, strobe = np.zeros(whole, np.uint8), np.zeros(whole, np.int64)
            data[offset : offset + per_run], strobe[offset : offset + per_run] = run, 1
            beats.append(data.reshape(-1, self.beat))
            strobes.append(strobe.reshape(-1, self.beat))
        data, strobe = np.concatenate(beats), np.concatenate(strobes)
        at = 0
        bursts: list[Burst] = store.all_bursts
        for burst in bursts:
            last = np.zeros(burst.beats, np.int64)
            last[-1] = 1
            popped = np.array(store.pop_times[at : at + burst.beats], np.int64)
            accepted = np.array(store.accepted[at : at + burst.beats], np.int64)
            # A beat may still wait on W at the end of the trace.
            end = np.concatenate([accepted, np.full(len(popped) - len(accepted), self.cycles)])
            part = slice(at, at + len(end))
            self.w.append(
                {
                    "begin": popped + 1,
                    "end": end,
                    "last": last,
                    "data": data[part].view("<u4"),
                    "strb": strobe[part],
                }
            )
            failed = dict(self.model.channel.failing(burst.address, burst.beats))
            # The model may know of beats that are accepted behind the end of the trace.
            for i in np.flatnonzero(accepted + self.lead < self.cycles).tolist():
                place = self.memory[burst.address + i * self.beat : burst.address + (i + 1) * self.beat]
                if i not in failed:
                    place[:] = np.where(strobe[at + i] == 1, data[at + i], place)
            at += burst.beats

    # -- Traces.

    def ports(self) -> dict[str, PortTrace]:
        """By name, all outputs of the engine, and what its memory says to it."""
        return {
            **self._constants(),
            **self._address("ar"),
            **self._address("aw"),
            **self._read_channel(),
            **self._write_channels(),
            **self._load_port(),
            **self._state(),
        }

    def _constants(self) -> dict[str, PortTrace]:
        size = (self.beat - 1).bit_length()
        values = {"arid": 0, "awid": 0, "arsize": size, "awsize": size, "arburst": 1, "awburst": 1, "rready": 1, "bready": 1}
        return {f"m_axi_{name}": certain(np.full(self.cycles, value)) for name, value in values.items()}

    def _address(self, name: str) -> dict[str, PortTrace]:
        entries = self.log.get(name, [])
        bursts = [entry[:4] for entry in entries]
        issuer = self.model.issuer
        if name == "ar" and issuer.ar:
            begin, address, beats, _ = issuer.ar
            bursts.append((begin, self.cycles, address, beats))
        if name == "aw" and issuer.aw:
            begin, burst = issuer.aw
            bursts.append((begin, self.cycles, burst.address, burst.beats))
        shown, end, addresses, beats_of = (np.array([b[i] for b in bursts], np.int64) for i in range(4))
        shown, end = shown + self.lead, end + self.lead
        traces = self._held(shown, {"addr": addresses, "len": beats_of - 1})
        # A channel is ready while the queue of its memory has room.
        channel = self.model.channel
        accepted = end[: len(entries)]
        left = self._left(name, accepted)
        ready = self._level(accepted, left) < channel.timing.queue
        return {
            f"m_axi_{name}valid": self._during(shown, end),
            f"m_axi_{name}ready": certain(ready),
            **{f"m_axi_{name}{field}": trace for field, trace in traces.items()},
        }

    def _left(self, name: str, accepted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cycle in which each burst leaves the queue."""
        if name == "ar":
            return np.array([times[-1] for times, *_ in self.r], np.int64) + self.lead
        left = np.full(len(accepted), self.cycles, np.int64)
        answers = self.model.channel.answers
        left[: len(answers)] = np.array(answers, np.int64) + self.lead
        return left

    def _read_channel(self) -> dict[str, PortTrace]:
        times = np.concatenate([entry[0] for entry in self.r]) + self.lead if self.r else np.zeros(0, np.int64)
        data = np.concatenate([entry[1] for entry in self.r]) if self.r else np.zeros((0, self.beat), np.uint8)
        response = np.concatenate([entry[2] for entry in self.r]) if self.r else np.zeros(0, np.int64)
        lengths = [len(entry[0]) for entry in self.r]
        last = np.zeros(len(times), np.int64)
        last[np.cumsum(lengths, dtype=np.int64) - 1] = 1
        columns = {"data": data.view("<u4").astype(np.int64), "resp": response, "last": last, "id": np.zeros_like(last)}
        kind = np.repeat(np.array([entry[3] for entry in self.r], np.int64), lengths)
        seen = self._during(times + 1, times + 1)
        read_class = self._held(times + 1, {"class": kind})["class"]
        return {
            "m_axi_rvalid": self._during(times, times),
            **{f"m_axi_r{name}": trace for name, trace in self._held(times, columns).items()},
            "read_beat": seen,
            "read_class": PortTrace(read_class.value, seen.value == 1),
        }

    def _write_channels(self) -> dict[str, PortTrace]:
        def column(name: str) -> NDArray[np.int64]:
            return np.concatenate([each[name][: len(each["end"])] for each in self.w]).astype(np.int64)

        none = np.zeros(0, np.int64)
        lanes = {"data": self.beat // 4, "strb": self.beat, "last": 0}
        if self.w:
            begin, end = column("begin") + self.lead, column("end") + self.lead
            columns = {name: column(name) for name in lanes}
        else:
            begin = end = none
            columns = {name: np.zeros((0, count) if count else 0, np.int64) for name, count in lanes.items()}
        valid = self._during(begin, end)
        traces = {name: self._only(trace, valid) for name, trace in self._held(begin, columns).items()}
        answers = np.array(self.model.channel.answers, np.int64) + self.lead
        failing = [self.model.channel.failing(burst.address, burst.beats) for _, burst in self.log.get("b", [])]
        responses = [max((response for _, response in answer), default=0) for answer in failing]
        b = {"resp": np.array(responses, np.int64), "id": np.zeros(len(answers), np.int64)}
        accepted = np.array([e[1] for e in self.log.get("aw", [])], np.int64) + self.lead
        finished = np.array([each["end"][-1] for each in self.w if len(each["end"])], np.int64) + self.lead
        return {
            "m_axi_wvalid": valid,
            "m_axi_wready": certain(self._level(accepted, finished) > 0),
            **{f"m_axi_w{name}": trace for name, trace in traces.items()},
            "write_beat": self._during(end + 1, end + 1),
            "m_axi_bvalid": self._during(answers, answers),
            **{f"m_axi_b{name}": trace for name, trace in self._held(answers, b).items()},
        }

    def _load_port(self) -> dict[str, PortTrace]:
        names = ("address", "beat", "commit", "select", "unit", "broadcast", "write", "data")
        none = np.zeros(0, np.int64)
        columns = {name: np.concatenate([each[name] for each in self.host] or [none]).astype(np.int64) for name in names}
        cycle = np.concatenate([each["cycle"] for each in self.host] or [none]) + self.lead
        columns["data"] = columns["data"].reshape(-1, self.beat // 4)
        made = cycle - PORT_CYCLES < self.stopped
        cycle, columns = cycle[made], {name: values[made] for name, values in columns.items()}
        valid = self._during(cycle, cycle)
        traces = {name: self._only(trace, valid) for name, trace in self._held(cycle, columns).items()}
        # What is not looked at: the unit of a broadcast, and data of a read.
        for name, looked_at in (("unit", 1 - traces["broadcast"].value), ("data", traces["write"].value)):
            traces[name] = self._only(traces[name], PortTrace(valid.value * looked_at, valid.known))
        answers = self.chip_answers(cycle, columns)
        return {"host_valid": valid, **{f"host_{name}": trace for name, trace in traces.items()}, "host_read_data": answers}

    def chip_answers(self, cycle: NDArray[np.int64], columns: dict[str, NDArray[np.int64]]) -> PortTrace:
        """What host reads find; 0 in all other cycles."""
        value = np.zeros((self.cycles, self.beat // 4), np.int64)
        when = cycle + self.model.geometry.read_latency
        read = (columns["write"] == 0) & (when < self.cycles)
        for select in np.unique(columns["select"][read]).tolist():
            mine = read & (columns["select"] == select)
            found = self.chip(int(select), *(columns[name][mine] for name in ("unit", "address", "beat")))
            value[when[mine]] = found.view("<u4")
        return certain(value)

    def _state(self) -> dict[str, PortTrace]:
        ports: dict[str, PortTrace] = {"violation": certain(np.zeros(self.cycles))}
        for name, times in zip(("demand", "prefetch"), self.model.events.complete, strict=True):
            counts = np.zeros(self.cycles + 1, np.int64)
            np.add.at(counts, np.minimum(np.array(times, np.int64) + self.lead, self.cycles), 1)
            ports[f"{name}_complete"] = certain(np.cumsum(counts)[: self.cycles])
        for name in ("quiet", *(f"stall_{cause}" for cause in STALLS)):
            value = np.zeros(self.cycles, np.int64)
            if name == "quiet":
                value[: self.lead] = 1
            for begin, end in self.log.get(name, []):
                value[begin + self.lead : end + self.lead] = 1
            ports[name] = certain(value)
        error = self.model.error
        at = error.cycle + self.lead if error else self.cycles
        for name, field in (("error", "code"), ("error_ring", "ring"), ("error_tag", "tag"), ("error_address", "address")):
            value = np.zeros(self.cycles, np.int64)
            value[at:] = getattr(error, field) if error else 0
            ports[name] = certain(value)
        value = np.zeros(self.cycles, np.int64)
        for cycle, words in self.log.get("unconsumed", []):
            value[cycle + self.lead :] = words
        ports["unconsumed"] = certain(value)
        return ports

    def _during(self, begin: NDArray[np.int64], end: NDArray[np.int64]) -> PortTrace:
        """High from ``begin`` to ``end``, both included."""
        change = np.zeros(self.cycles + 2, np.int64)
        np.add.at(change, np.minimum(begin, self.cycles), 1)
        np.add.at(change, np.minimum(end + 1, self.cycles + 1), -1)
        return certain(np.cumsum(change)[: self.cycles])

    def _held(self, begin: NDArray[np.int64], columns: dict[str, NDArray[np.int64]]) -> dict[str, PortTrace]:
        """Registers that take a value for each of ``begin``."""
        inside = begin < self.cycles
        index, changes = np.zeros(self.cycles, np.int64), np.zeros(self.cycles, bool)
        index[begin[inside]] = np.flatnonzero(inside)
        changes[begin[inside]] = True
        padded = {name: values if len(values) else np.zeros((1, *values.shape[1:]), np.int64) for name, values in columns.items()}
        return {name: held(values[index], changes) for name, values in padded.items()}

    def _level(self, begun: NDArray[np.int64], ended: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many have begun and not ended, as seen from the cycle after."""
        change = np.zeros(self.cycles + 1, np.int64)
        np.add.at(change, np.minimum(begun + 1, self.cycles), 1)
        np.add.at(change, np.minimum(ended + 1, self.cycles), -1)
        return np.cumsum(change)[: self.cycles]

    @staticmethod
    def _only(trace: PortTrace, valid: PortTrace) -> PortTrace:
        now = valid.value == 1
        return PortTrace(trace.value, trace.known & (now[:, None] if trace.value.ndim == 2 else now))


def certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(value.shape, bool))
