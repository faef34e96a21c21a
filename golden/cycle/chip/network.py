"""Cycle models of the networks between pods and banks.

A network of N = 2**n ports has n stages, whatever blocks it is made of. After stage s the word from pod p to bank b is on the wire
whose index has the bits of p from s + 1 up and those of b below. Everything has a fixed latency, so the models follow the
words that pods put in at one time, as far as the banks and back, and apply the delays at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay


@dataclass(frozen=True)
class NetworkGeometry:
    """Where a network has registers, and who reports errors.

    ``layers``: stages of each layer of blocks, from the pods to the banks; ``pipeline``: stages between registers, which also stand
    behind the last stage of each layer. ``kind``: butterfly, or a crossbar of the same latency. ``turnaround``: cycles from a
    request at a bank to its data there. ``report``: cycles from a conflict to its report: 1 for a single block, 2 for a network.
    """

    layers: tuple[int, ...]
    pipeline: int
    turnaround: int = 0
    kind: str = "butterfly"
    report: int = 2

    @property
    def stages(self) -> int:
        return sum(self.layers)

    @property
    def depth(self) -> int:
        """Cycles from one side to the other."""
        return sum(-(-stages // self.pipeline) for stages in self.layers)

    @property
    def read_latency(self) -> int:
        """Cycles from a request to its data."""
        return 2 * self.depth + self.turnaround

    def place(self, stage: int) -> tuple[int, int, int]:
        """(layer, lowest stage of the layer, registers between the pods and the stage)."""
        low = registers = 0
        for layer, stages in enumerate(self.layers):
            if stage < low + stages:
                return layer, low, registers + (stage - low) // self.pipeline
            low += stages
            registers += -(-stages // self.pipeline)
        raise ValueError(f"stage {stage} of {self.stages}")


@dataclass(frozen=True)
class _Conflicts:
    """Pairs of words that wanted one ``wire`` after ``stage``, put in at ``time``."""

    stage: int
    time: NDArray[np.int64]
    wire: NDArray[np.int64]


def read_network(
    valid: NDArray[np.bool_], bank: NDArray, payload: NDArray, bank_data: NDArray, geometry: NetworkGeometry
) -> dict[str, PortTrace]:
    """A read network over ``cycles`` cycles after a reset.

    ``valid``, ``bank`` (cycles, ports) and ``payload`` (cycles, ports, lanes) are the requests of the pods, ``bank_data`` (cycles,
    ports, lanes) what stands at the banks. Lanes are moved and compared, of whatever width. Returns ``bank_valid``,
    ``bank_payload``, ``data``, ``error``, ``error_stage``, ``error_port``; lanes of all ports side by side, of the type they had.
    """
    source, arrived, origin, conflicts = _route(valid, bank, payload, geometry, merges=True)
    time = np.arange(len(valid))[:, None]
    # What pods asked the latency ago says from which bank the data of `depth` cycles ago comes.
    data = delay(bank_data, geometry.depth)[time, delay(origin, geometry.read_latency)]
    return {
        **_at_banks(payload, source, arrived, conflicts, geometry),
        "data": _known_from(data, geometry.read_latency),
    }


def write_network(valid: NDArray[np.bool_], bank: NDArray, payload: NDArray, geometry: NetworkGeometry) -> dict[str, PortTrace]:
    """A write network: as `read_network`, without data, and without merging of equal words."""
    source, arrived, _, conflicts = _route(valid, bank, payload, geometry, merges=False)
    return _at_banks(payload, source, arrived, conflicts, geometry)


def _route(
    valid: NDArray[np.bool_], bank: NDArray, payload: NDArray, geometry: NetworkGeometry, *, merges: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], list[_Conflicts]]:
    """(pod whose word is at each bank, whether it is valid, bank whose data each pod gets, conflicts), by time of the request."""
    ports = 1 << geometry.stages
    if valid.shape[1] != ports:
        raise ValueError(f"a network of {geometry.stages} stages has {ports} ports, got {valid.shape[1]}")
    bank = bank.astype(np.int64)
    through = _through_crossbar if geometry.kind == "crossbar" else _through_butterfly
    return through(valid.astype(bool), bank, payload, geometry.stages, merges)


def _through_butterfly(
    valid: NDArray[np.bool_], bank: NDArray[np.int64], payload: NDArray, stages: int, merges: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], list[_Conflicts]]:
    wire = np.arange(valid.shape[1])
    time = np.arange(len(valid))[:, None]
    # The pod whose word is on each wire; a wire without a valid word still carries that of some pod.
    source = np.broadcast_to(wire, valid.shape).astype(np.int64)
    ways, conflicts = [], []
    for s in range(stages):
        way = bank[time, source] >> s & 1
        ways.append(way)
        low, high = wire & ~(1 << s), wire | 1 << s
        turn = wire >> s & 1
        from_low, from_high = (valid[:, side] & (way[:, side] == turn) for side in (low, high))
        at, on = np.nonzero(from_low & from_high)
        first, second = source[at, low[on]], source[at, high[on]]
        if merges:
            other = (bank[at, first] >> s != bank[at, second] >> s) | (payload[at, first] != payload[at, second]).any(axis=1)
            at, on = at[other], on[other]
        conflicts.append(_Conflicts(s, at, on))
        source = np.where(from_low, source[:, low], source[:, high])
        valid = from_low | from_high
    origin = np.broadcast_to(wire, valid.shape)
    for s in reversed(range(stages)):
        origin = origin[time, (wire & ~(1 << s)) | ways[s] << s]
    return source, valid, origin, conflicts


def _through_crossbar(
    valid: NDArray[np.bool_], bank: NDArray[np.int64], payload: NDArray, stages: int, merges: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], list[_Conflicts]]:
    at, pod = np.nonzero(valid)
    to = bank[at, pod]
    lowest = np.full(valid.shape, valid.shape[1])
    np.minimum.at(lowest, (at, to), pod)
    arrived = lowest < valid.shape[1]
    source = np.where(arrived, lowest, 0)
    first = source[at, to]
    other = first != pod
    if merges:
        other &= (payload[at, first] != payload[at, pod]).any(axis=1)
    return source, arrived, bank, [_Conflicts(0, at[other], to[other])]


def _at_banks(
    payload: NDArray,
    source: NDArray[np.int64],
    arrived: NDArray[np.bool_],
    conflicts: Sequence[_Conflicts],
    geometry: NetworkGeometry,
) -> dict[str, PortTrace]:
    words = payload[np.arange(len(payload))[:, None], source]
    return {
        "bank_valid": _known_from(delay(arrived.astype(np.int64), geometry.depth), 0),
        "bank_payload": _known_from(delay(words, geometry.depth), geometry.depth),
        **_first_error(conflicts, geometry, len(payload)),
    }


def _known_from(values: NDArray, first: int) -> PortTrace:
    """Ports, or lanes of ports, side by side; known from cycle ``first`` on."""
    values = values.reshape(len(values), -1)
    return PortTrace(values, np.broadcast_to((np.arange(len(values)) >= first)[:, None], values.shape))


def _first_error(conflicts: Sequence[_Conflicts], geometry: NetworkGeometry, cycles: int) -> dict[str, PortTrace]:
    """The first conflict, sticky. Of several in one cycle, that in the first block: by layer, then by those bits of the wire that
    the layer does not route by; in it that of the lowest stage, then of the lowest wire."""
    found = []
    for conflict in conflicts:
        if not len(conflict.time):
            continue
        layer, low, registers = (0, 0, 0) if geometry.kind == "crossbar" else geometry.place(conflict.stage)
        stages = geometry.stages if geometry.kind == "crossbar" else geometry.layers[layer]
        wire = conflict.wire
        block = (wire >> (low + stages) << low) | (wire & ((1 << low) - 1))
        cycle = conflict.time + registers
        best = np.lexsort((wire, block, cycle))[0]
        found.append((int(cycle[best]), layer, int(block[best]), conflict.stage, int(wire[best])))
    begin, _, _, stage, port = min(found, default=(cycles, 0, 0, 0, 0))
    shown = np.arange(cycles) >= begin + geometry.report
    known = np.ones(cycles, bool)
    values = {"error": 1, "error_stage": stage, "error_port": port}
    return {name: PortTrace(shown * np.int64(value), known) for name, value in values.items()}
