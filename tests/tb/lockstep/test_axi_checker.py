"""The AXI checker, and the verdict on a prefetch engine, see every fault that is planted in a recording of a good run."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from podweave.tb.benches.prefetch_bench import MEMORY_BYTES, PrefetchBench, Recording
from podweave.tb.cases.prefetch_scenarios import (
    ENGINES,
    RING_BYTES,
    SINK,
    SOURCE,
    PrefetchMismatchError,
    Rings,
    check_run,
    limits,
    matched,
    rings,
    run_rings,
)
from podweave.tb.lockstep.axi_checker import ProtocolError, check_buffer, check_protocol
from podweave.tb.lockstep.prefetch_expected import Descriptor, beats_left

LOAD, STORE, NOP = DescriptorKind.LOAD, DescriptorKind.STORE, DescriptorKind.NOP
CONFIG = ENGINES[128]


@functools.cache
def good_run() -> tuple[Rings, Recording]:
    demand = [
        Descriptor(kind=STORE if i % 2 else LOAD, select=HostSelect.P, address=(SINK if i % 2 else SOURCE) + 999 * i, n0=20, base=i)
        for i in range(8)
    ]
    found = rings([*demand, Descriptor(kind=NOP, last=1)], [Descriptor(address=SOURCE + 4094, n0=50, base=7, last=1)])
    scenario = found.scenario(settings={"stall_ar": 128, "stall_aw": 128, "stall_w": 128})
    (recording,) = run_rings(PrefetchBench.of(CONFIG, random_initial_state=True), [(found, scenario)])
    return found, recording


def waiting(rows: np.ndarray, channel: str) -> int:
    """A cycle in which a channel waits for the second time: its payload must be that of the cycle before."""
    held = (rows[f"{channel}valid"] == 1) & (rows[f"{channel}ready"] == 0)
    return int(np.flatnonzero(held[:-1] & held[1:])[0]) + 1


def taken(rows: np.ndarray, channel: str) -> int:
    """A cycle in which a channel transfers what it did not show before."""
    valid, ready = rows[f"{channel}valid"] == 1, rows[f"{channel}ready"] == 1
    return int(np.flatnonzero((valid & ready)[1:] & ~(valid & ~ready)[:-1])[3]) + 1


@pytest.mark.parametrize(
    ("rule", "channel", "field", "where", "value"),
    [
        ("valid fell", "ar", "valid", waiting, 0),
        ("valid fell", "w", "valid", waiting, 0),
        ("addr changed", "ar", "addr", waiting, 64),
        ("addr changed", "aw", "addr", waiting, 64),
        ("len changed", "aw", "len", waiting, 200),
        ("data changed", "w", "data", waiting, 77),
        ("strb changed", "w", "strb", waiting, 77),
        ("crosses 4 KiB", "ar", "addr", taken, 0x8FF0),
        ("too long", "ar", "len", taken, 8),
        ("not that of a beat", "aw", "addr", taken, SINK + 1),
        ("not that of the bus", "ar", "size", taken, 2),
        ("not INCR", "aw", "burst", taken, 2),
        ("leaves the memory", "ar", "addr", taken, MEMORY_BYTES),
        ("wlast is not", "w", "last", taken, None),
        ("more bursts under way", "r", "last", None, 0),
        ("rready is low", "r", "ready", taken, 0),
        ("bready is low", "b", "ready", taken, 0),
    ],
)
def test_checker_sees_a_planted_fault(rule: str, channel: str, field: str, where: object, value: int | None) -> None:
    _, recording = good_run()
    rows = recording.rows.copy()
    name = f"{channel}{field}"
    at = where(rows, channel) if callable(where) else slice(None)
    if name == "araddr" and value == 0x8FF0:
        rows["arlen"][at] = 7
    rows[name][at] = 1 - rows[name][at] if value is None else value
    with pytest.raises(ProtocolError, match=rule):
        check_protocol(rows, limits(CONFIG))


def test_buffer_checker_sees_one_beat_too_many() -> None:
    found, recording = good_run()
    left = beats_left(CONFIG, [d for d in matched(CONFIG, found, recording) if d.kind == LOAD])
    areas = [(base, base + RING_BYTES) for base in (0, RING_BYTES)]
    check_buffer(recording.rows, 16, left, areas)
    with pytest.raises(ProtocolError, match="more beats"):
        check_buffer(recording.rows, 15, left, areas)


@pytest.mark.parametrize(
    "field", ["write", "commit", "select", "address", "beat", "data", "missing", "more", "memory", "gap", "count"]
)
def test_verdict_sees_one_wrong_access(field: str) -> None:
    found, recording = good_run()
    rows, memory = recording.rows.copy(), recording.memory.copy()
    writes = np.flatnonzero((rows["host_valid"] == 1) & (rows["host_write"] == 1) & (rows["host_broadcast"] == 0))
    at = int(writes[len(writes) // 2])
    if field == "missing":
        rows["host_valid"][at] = 0
    elif field == "more":
        rows["host_valid"][-1] = 1
    elif field == "memory":
        memory[SINK] ^= 1
    elif field == "gap":
        rows["gap"] = 0
    elif field == "quiet":
        rows["quiet"][at] = 1
    elif field == "count":
        rows["demand_complete"][at + 1 :] = rows["demand_complete"][-1]
    else:
        rows[f"host_{field}"][at] ^= 1
    with pytest.raises((PrefetchMismatchError, ProtocolError)):
        check_run(CONFIG, found, Recording(rows, memory))
