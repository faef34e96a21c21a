"""Prefetch engine: words, bytes, order and cycles against NumPy, its AXI port against a checker, on two memories."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtl.config import ChipConfig
from rtl.dma_layouts import DescriptorKind, memory_stride
from rtl.emit import emit_block
from rtl.layouts import HostSelect
from rtl.prefetch_engine import PrefetchEngine
from tb.axi_checker import ProtocolError, check_buffer, check_protocol
from tb.prefetch_bench import MEMORY_BYTES, Phase, PrefetchBench, Recording
from tb.prefetch_expected import Descriptor, beats_left, bus_beats
from tb.prefetch_scenarios import (
    ENGINES,
    RING_BYTES,
    SINK,
    SOURCE,
    PrefetchMismatchError,
    Rings,
    check_run,
    limits,
    matched,
    random_rings,
    random_settings,
    rings,
    run_rings,
)
from tb.toolchain import find_toolchain

LOAD, STORE, NOP = DescriptorKind.LOAD, DescriptorKind.STORE, DescriptorKind.NOP
LAST = Descriptor(kind=NOP, last=1)


@functools.cache
def bench_of(width: int) -> PrefetchBench:
    return PrefetchBench.of(ENGINES[width], random_initial_state=True)


def run(width: int, found: Rings, **options: object) -> Recording:
    (recording,) = run_rings(bench_of(width), [(found, found.scenario(**options))])  # type: ignore[arg-type]
    return recording


def cycles_of(recording: Recording, name: str) -> np.ndarray:
    """Cycles of the rows with ``name``, counted from the one of the start."""
    return np.flatnonzero(recording.rows[name]) - int(np.argmax(recording.rows["start"]))


@pytest.mark.parametrize("width", ENGINES)
def test_random_rings(width: int) -> None:
    for seed in range(2):
        rng = np.random.default_rng([width, seed])
        cases = [
            (found, found.scenario(settings=random_settings(rng)))
            for found in (random_rings(rng, ENGINES[width]) for _ in range(8))
        ]
        run_rings(bench_of(width), cases, seed=seed)


@pytest.mark.parametrize("width", ENGINES)
def test_against_a_memory_that_no_one_here_wrote(width: int) -> None:
    rng = np.random.default_rng(width)
    cases = [
        (found, found.scenario(stalls=stalls)) for found, stalls in ((random_rings(rng, ENGINES[width]), s) for s in (0.0, 0.35))
    ]
    run_rings(bench_of(width), cases, seed=width, outside=True)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", ENGINES)
def test_campaign(width: int, seed: int) -> None:
    rng = np.random.default_rng([width, seed, 1])
    cases = []
    for _ in range(20):
        found = random_rings(rng, ENGINES[width], tags=int(rng.integers(0, 6)), most=int(rng.integers(1, 12)))
        cap, enable = int(rng.choice([0, 0, 50, 1000])), int(rng.random() < 0.7)
        cases.append((found, found.scenario(settings=random_settings(rng), cap=cap, enable=enable)))
    run_rings(bench_of(width), cases, seed=seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", ENGINES)
def test_campaign_outside(width: int, seed: int) -> None:
    rng = np.random.default_rng([width, seed, 2])
    cases = [
        (found, found.scenario(stalls=float(rng.random() / 2))) for found in (random_rings(rng, ENGINES[width]) for _ in range(6))
    ]
    run_rings(bench_of(width), cases, seed=seed, outside=True)


def test_one_mebibyte_from_an_odd_address() -> None:
    load = Descriptor(address=SOURCE + 37, n0=1 << 14, last=1)
    found = rings([load], [LAST])
    assert load.n0 * memory_stride(ENGINES[512], HostSelect.W) == 1 << 20
    scenario = found.scenario(stalls=0.05, cycles=30000)
    run_rings(bench_of(512), [(found, scenario)], outside=True)


@pytest.mark.parametrize("width", ENGINES)
def test_single_bytes_at_every_offset(width: int) -> None:
    beat = width // 8
    table = [Descriptor(select=HostSelect.TABLE, address=SOURCE + 4096 - beat + i, base=i, n0=1 + i % 3) for i in range(2 * beat)]
    run(width, rings([*table, LAST], [LAST]))


@pytest.mark.parametrize("width", ENGINES)
def test_stores_write_their_bytes_and_no_other(width: int) -> None:
    config, stores, address = ENGINES[width], [], SINK
    for i, select in enumerate((HostSelect.X, HostSelect.W, HostSelect.P) * 8):
        address = (address + 5000) // 4096 * 4096 - 3 * i
        found = Descriptor(
            kind=STORE, select=select, address=address, n0=1 + i % 5, n1=1 + i % 2, base=40, step1=7, stride1=-2 * i - 300
        )
        stores.append(replace(found, address=address))
        address += 5 * memory_stride(config, select)
    for settings in ({"aw_after_w": 1}, {"stall_w": 128, "stall_aw": 128, "stall_b": 128}):
        run(width, rings([*stores, LAST], [LAST]), settings=settings)


def test_expectation_walks_as_the_layout_says() -> None:
    """Loop by loop, as descriptors are described: a step or stride is added when its loop advances."""
    one = Descriptor(
        address=5000, n0=3, n1=4, n2=2, base=100, step0=2, step1=-7, step2=11, stride1=-130, stride2=1000, select=HostSelect.X
    )
    words, starts = [], []
    start, word = one.address, one.base
    for i2 in range(one.n2):
        for i1 in range(one.n1):
            if (i1, i2) != (0, 0):
                start += one.stride1 if i1 else one.stride2
            starts.append(start)
            for i0 in range(one.n0):
                if (i0, i1, i2) != (0, 0, 0):
                    word += one.step0 if i0 else one.step1 if i1 else one.step2
                words.append(word)
    assert one.run_addresses().tolist() == starts
    assert one.word_addresses().reshape(-1).tolist() == words


def test_three_loops_backwards_for_all_nodes() -> None:
    one = Descriptor(
        select=HostSelect.P,
        broadcast=1,
        unit=200,
        address=SOURCE + 8191,
        n0=3,
        n1=4,
        n2=5,
        base=290,
        step0=-2,
        step1=-3,
        step2=7,
        stride1=-777,
        stride2=-1234,
    )
    recording = run(128, rings([replace(one, last=1)], [LAST]))
    assert (recording.accesses["host_broadcast"] == 1).all()
    assert recording.accesses["host_commit"].sum() == 60


def test_timing() -> None:
    """The figures of the docstring of the engine, by hand: 64 bits, so a descriptor has 8 beats and a word of W half of one."""
    load = Descriptor(address=SOURCE + 4, n0=40, last=1)
    recording = run(64, rings([load], [LAST]), settings={"latency": 9})
    requests, beats, port = (cycles_of(recording, name) for name in ("arvalid", "rvalid", "host_valid"))
    # The two descriptors, then 21 beats in bursts of 4; the descriptors' beats come one after the other.
    assert requests[:2].tolist() == [3, 5]
    assert beats[:16].tolist() == [*range(3 + 9, 3 + 9 + 16)]
    # The last beat of the first one in cycle r: checked from r + 4, at the head from r + 17, taken in r + 18, on AR in r + 22.
    last = 3 + 9 + 7
    assert requests[2:].tolist() == [*range(last + 22, last + 22 + 4), *requests[6:]]
    assert beats[16] == last + 22 + 9
    # The first word is in the second half of its beat: two words for each of the others, from two cycles after its pop.
    assert port[:4].tolist() == [beats[16] + 4 + i for i in range(4)]
    done = np.argmax(recording.rows["demand_complete"]) - np.argmax(recording.rows["start"])
    assert done == port[-1] + ENGINES[64].host_levels + 2


def test_no_gap_between_runs_bursts_and_descriptors() -> None:
    """From a memory that never stalls: one burst per cycle, and a beat and a piece in each cycle, at most 3 lost per descriptor."""
    beat = 64
    runs = [Descriptor(address=SOURCE, n0=1, n1=20, stride1=5 * beat, step1=1, base=40 * i) for i in range(6)]
    long = [Descriptor(address=SOURCE + i * 9000 // beat * beat, n0=300, base=400 * i) for i in range(6)]
    recording = run(512, rings([*runs, LAST], []), settings={"latency": 30})
    requests = cycles_of(recording, "arvalid")[-6 * 20 :]
    assert requests[-1] - requests[0] <= 6 * 20 + 5 * 3
    for descriptors in (runs, long):
        recording = run(512, rings([*descriptors, LAST], []), settings={"latency": 30})
        beats, total = cycles_of(recording, "rvalid"), sum(bus_beats(ENGINES[512], d) for d in descriptors)
        data = beats[-total:]
        assert data[-1] - data[0] <= total + 5 * 3 + 7
        port = cycles_of(recording, "host_valid")
        assert port[-1] - data[-1] in (4, 5)


def test_demand_goes_first_and_loads_overlap() -> None:
    found = rings(
        [Descriptor(address=SOURCE + 5000 * i, n0=64, base=100 * i, last=i == 3) for i in range(4)],
        [Descriptor(address=SOURCE + 5000 * i, n0=64, base=100 * i, last=i == 3, tag=0, unit=1) for i in range(4)],
    )
    bench = bench_of(256)
    (recording,) = bench.run([found.scenario(settings={"latency": 60})])
    served = check_run(ENGINES[256], found, recording)
    # The prefetch ring only gets what the demand ring leaves: its first is taken while the second one of demand is being fetched.
    assert [d.unit for d in served].index(1) <= 4
    assert sum(d.unit for d in served[:4]) <= 1
    short = [Descriptor(address=SOURCE + 4096 * i, n0=8, base=100 * i, last=i == 3) for i in range(4)]
    requests = cycles_of(run(512, rings(short, [LAST]), settings={"latency": 60}), "arvalid")[-4:]
    assert requests[-1] < requests[0] + 60


def gated(prefetch: list[Descriptor], phases: list[Phase], **options: int) -> Recording:
    """Runs a prefetch ring through ``phases`` after the start, with an empty demand ring; nothing is checked."""
    found = rings([], prefetch)
    scenario = found.scenario(settings={"epochs": 0}, **options)
    (recording,) = bench_of(128).run(
        [replace(scenario, phases=[scenario.phases[0], Phase(inputs={"start": 0}, cycles=120), *phases])]
    )
    check_protocol(recording.rows, limits(ENGINES[128]))
    return recording


def words_by(recording: Recording) -> list[int]:
    """Words on the load port until the end of each phase: here, cycles 121, 241 and so on."""
    cycles = cycles_of(recording, "host_commit")
    return [int((cycles < end).sum()) for end in range(121, len(recording.rows) + 1, 120)]


PREFETCHED = [Descriptor(address=SOURCE, n0=10, base=20 * i, tag=i, last=1) for i in range(4)]


@pytest.mark.parametrize(
    ("options", "steps", "words", "stall"),
    [
        ({}, [], [40], None),
        ({"enable": 0}, [{"epochs_given": 1}, {"enable": 1}], [10, 20, 40], "gate"),
        ({"cap": 20}, [{"epochs_given": 1}, {"cap": 1000}], [30, 40, 40], "cap"),
        ({"cap": 9}, [{"epochs_given": 1}, {"cap": 0}], [10, 20, 40], "cap"),
    ],
)
def test_prefetch_waits(options: dict[str, int], steps: list[dict[str, int]], words: list[int], stall: str | None) -> None:
    """Tag 0 is that of the next epoch and never waits. With a cap of 20 there is room for tags 1 and 2 until epoch 0 is done."""
    recording = gated(PREFETCHED, [Phase(inputs=step, cycles=120) for step in steps], **options)
    assert words_by(recording) == words
    stalls = [name for name in ("gate", "cap", "gap") if recording.rows[f"stall_{name}"].any()]
    assert stalls == ([stall] if stall else [])
    assert recording.rows["quiet"][-1] == 1
    most = {None: 30, "gate": 20, "cap": max(options.get("cap", 0), 20)}[stall]
    assert recording.rows["unconsumed"].max() == most


def test_banks_of_the_epoch_wait_for_the_gap() -> None:
    one = [Descriptor(select=HostSelect.X, address=SOURCE, n0=10, tag=1, last=1)]
    phases = [Phase(inputs={"gap_given": 0, "epochs_given": 1}, cycles=120), Phase(inputs={"gap_given": 1}, cycles=120)]
    recording = gated(one, phases)
    assert words_by(recording) == [0, 0, 10]
    assert recording.rows["stall_gate"].any()
    assert recording.rows["stall_gap"].any()


def test_after_is_waited_for() -> None:
    recording = gated([replace(PREFETCHED[0], after=2)], [Phase(inputs={"epochs_given": e}, cycles=120) for e in (1, 2)])
    assert words_by(recording) == [0, 0, 10]


def test_ring_wraps_and_follows_its_tail() -> None:
    """Room for 3 descriptors; the other 4 are published, in the place of the first ones, when these are done."""
    loads = [Descriptor(address=SOURCE + 100 * i, n0=5, base=10 * i, last=i == 6) for i in range(7)]
    first = rings(loads[:3], [])
    scenario = first.scenario(demand_tail=2)
    phases = [scenario.phases[0], Phase(inputs={"start": 0}, cycles=200), Phase(inputs={"demand_tail": 3}, cycles=200)]
    (recording,) = bench_of(128).run([replace(scenario, phases=phases)])
    commits = cycles_of(recording, "host_commit")
    assert [int((commits < end).sum()) for end in (200, 400)] == [10, 15]
    # The same memory, but with size 3 and a tail of 5: descriptors 3 and 4 are 0 and 1 again.
    (recording,) = bench_of(128).run([first.scenario(demand_tail=5)])
    again = Rings([*loads[:3], *loads[:2]], [], first.memory)
    assert len(matched(ENGINES[128], again, recording)) == 5


def test_reset_in_mid_transfer_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    found = random_rings(rng, ENGINES[64])
    for outside in (False, True):
        scenario = found.scenario(stalls=0.1, settings={"stall_r": 60})
        cut = [scenario.phases[0], Phase(inputs={"start": 0}, cycles=600), Phase(reset=True, cycles=3)]
        (recording,) = bench_of(64).run([replace(scenario, phases=[*cut, *scenario.phases])], outside=outside)
        check_protocol(recording.rows, limits(ENGINES[64]))
        again = int(np.flatnonzero(recording.rows["start"])[1])
        assert recording.rows["host_valid"][:again].any()
        check_run(ENGINES[64], found, Recording(recording.rows[again:], recording.memory))


def test_lint(tmp_path: Path) -> None:
    emitted = emit_block(PrefetchEngine(ENGINES[256]))
    emitted.write(tmp_path)
    toolchain = find_toolchain()
    command = [
        str(toolchain.verilator),
        "--lint-only",
        "-Wall",
        "--top-module",
        emitted.top,
        f"{emitted.top}.vlt",
        f"{emitted.top}.v",
    ]
    result = subprocess.run(command, cwd=tmp_path, env=toolchain.environment(), capture_output=True, text=True)
    assert "%" not in result.stderr, result.stderr
    assert result.returncode == 0


@functools.cache
def good_run() -> tuple[Rings, Recording]:
    demand = [
        Descriptor(kind=STORE if i % 2 else LOAD, select=HostSelect.P, address=(SINK if i % 2 else SOURCE) + 999 * i, n0=20, base=i)
        for i in range(8)
    ]
    found = rings([*demand, LAST], [Descriptor(address=SOURCE + 4094, n0=50, base=7, last=1)])
    return found, run(128, found, settings={"stall_ar": 128, "stall_aw": 128, "stall_w": 128})


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
        check_protocol(rows, limits(ENGINES[128]))


def test_buffer_checker_sees_one_beat_too_many() -> None:
    found, recording = good_run()
    config: ChipConfig = ENGINES[128]
    left = beats_left(config, [d for d in matched(config, found, recording) if d.kind == LOAD])
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
    elif field == "count":
        rows["demand_complete"][at + 1 :] = rows["demand_complete"][-1]
    else:
        rows[f"host_{field}"][at] ^= 1
    with pytest.raises((PrefetchMismatchError, ProtocolError)):
        check_run(ENGINES[128], found, Recording(rows, memory))
