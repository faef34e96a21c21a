"""A channel of HBM in lockstep with its cycle model: every output port, every cycle, any traffic; and its memory."""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import DECERR, OKAY, SLVERR, ErrorRange, HbmChannel
from podweave.golden.cycle.memory.hbm_ports import Burst, ChannelModel
from podweave.predict.memory_timing import HbmTiming
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.build.verilate import HARNESS_DIRECTORY
from podweave.tb.lockstep.ports import LockstepError, Port

CYCLES = 3000
BASE, END = 1 << 16, 3 << 16
WIDTHS = (128, 512)
SOURCE = (HARNESS_DIRECTORY / "sv" / "hbm_channel.sv").read_text()

QUICK = HbmTiming(latency=5, row_bytes=256, banks=2, row_miss=4, refresh_interval=150, refresh_cycles=12, queue=6)
TIMINGS = {
    "quick": QUICK,
    "default": HbmTiming(),
    "no_refresh_slow_bus": dataclasses.replace(QUICK, refresh_interval=0, beat_sixteenths=41, queue=3),
    "least": HbmTiming(latency=2, row_miss=0, refresh_interval=0, refresh_cycles=0, queue=1, banks=1, row_bytes=256),
    "rows": dataclasses.replace(QUICK, row_miss=23, banks=4, beat_sixteenths=19, queue=12, row_bytes=1024),
    "jitter": dataclasses.replace(QUICK, jitter=9, seed=0xDEADBEEF, queue=20),
    "jitter_other_seed": dataclasses.replace(QUICK, jitter=9, seed=7, queue=20),
    "often_refreshed": dataclasses.replace(QUICK, refresh_interval=40, refresh_cycles=30, row_miss=30),
}


def bench_of(width: int, *, alter: tuple[str, str] | None = None) -> BlockBench:
    source = SOURCE
    if alter:
        assert source.count(alter[0]) == 1
        source = source.replace(*alter)
    name = f"hbm_channel #(.DATA_WIDTH({width}), .ADDRESS_WIDTH(34), .ID_WIDTH(3))"
    request = [("id", 3), ("addr", 34), ("len", 8), ("size", 3), ("burst", 2), ("valid", 1)]
    inputs = [Port("restart", 1), *(Port(f"a{kind}{field}", bits) for kind in "rw" for field, bits in request)]
    inputs += [Port("wdata", 32, width // 32), Port("wstrb", 1, width // 8), Port("wlast", 1), Port("wvalid", 1)]
    inputs += [Port("rready", 1), Port("bready", 1)]
    outputs = [Port("arready", 1), Port("awready", 1), Port("wready", 1)]
    outputs += [Port("rid", 3), Port("rdata", 32, width // 32), Port("rresp", 2), Port("rlast", 1), Port("rvalid", 1)]
    outputs += [Port("bid", 3), Port("bresp", 2), Port("bvalid", 1), Port("violation", 6)]
    return BlockBench.of_sources(name, {"design.sv": source}, inputs, outputs, random_initial_state=True)


bench = functools.cache(bench_of)


def random_traffic(rng: np.random.Generator, width: int) -> tuple[list[Burst], list[Burst], NDArray, NDArray]:
    """Bursts of any length and alignment, legal or not, some at the ends of the channel and beyond; readiness of R and B."""
    beat, size = width // 8, (width // 8).bit_length() - 1
    bursts: dict[bool, list[Burst]] = {False: [], True: []}
    for is_write in (False, True):
        cycle = 0
        while cycle < CYCLES:
            most = int(rng.choice([1, 4, 32, 256]))
            beats = int(rng.integers(1, min(most, 4096 // beat) + 1))
            near = int(rng.choice([BASE - 8192, BASE, BASE + 5000, END - 8192]))
            address = near + int(rng.integers(0, 16384))
            if rng.random() < 0.95:
                # Inside of 4 KiB.
                page = address & ~4095
                last = (4096 - beats * beat) // beat
                address = page + int(rng.integers(0, last + 1)) * beat + (int(rng.integers(0, beat)) if rng.random() < 0.3 else 0)
            odd = rng.random() < 0.05
            burst = Burst(
                valid=cycle,
                address=address,
                beats=beats,
                size=size - int(odd and rng.random() < 0.5),
                burst=int(rng.integers(0, 3)) if odd else 1,
                id=int(rng.integers(0, 8)),
            )
            if is_write:
                gaps = rng.integers(0, 3, beats) * int(rng.random() < 0.5)
                burst = dataclasses.replace(
                    burst,
                    beat_valid=cycle + int(rng.integers(0, 20)) + np.cumsum(gaps),
                    data=rng.integers(0, 256, (beats, beat), np.uint8),
                    strobes=rng.random((beats, beat)) < rng.choice([0.0, 0.5, 1.0]),
                )
            bursts[is_write].append(burst)
            cycle += int(rng.integers(0, 2 * beats + 2)) if rng.random() < 0.9 else 200
    ready = rng.random((2, CYCLES)) < rng.choice([0.2, 0.7, 1.0], (2, CYCLES // 100)).repeat(100, axis=1)
    return bursts[False], bursts[True], ready[0], ready[1]


def without_crossing(bursts: list[Burst], beat: int) -> list[Burst]:
    return [b for b in bursts if b.burst != 1 or (b.address % 4096 // beat + b.beats) * beat <= 4096]


def stimulus_of(model: ChannelModel, ready: tuple[NDArray, NDArray], rng: np.random.Generator, width: int) -> dict[str, NDArray]:
    """What the manager does, if the channel accepts when the model says; noise on what is not valid."""
    request = {"id": 8, "addr": 1 << 34, "len": 256, "size": 8, "burst": 4}
    table: dict[str, NDArray] = {"restart": np.zeros(CYCLES, bool), "rready": ready[0], "bready": ready[1]}
    for kind, bursts, times in (("ar", model.reads, model.times.ar), ("aw", model.writes, model.times.aw)):
        table |= {f"{kind}{field}": rng.integers(0, limit, CYCLES) for field, limit in request.items()}
        table[f"{kind}valid"] = np.zeros(CYCLES, bool)
        for burst, (first, accepted) in zip(bursts, times, strict=False):
            now = slice(first, accepted + 1)
            values = {"id": burst.id, "addr": burst.address, "len": burst.beats - 1, "size": burst.size, "burst": burst.burst}
            table[f"{kind}valid"][now] = True
            for field, value in values.items():
                table[f"{kind}{field}"][now] = value
    table["wvalid"], table["wlast"] = np.zeros(CYCLES, bool), rng.random(CYCLES) < 0.5
    table["wdata"] = rng.integers(-(2**31), 2**31, (CYCLES, width // 32))
    table["wstrb"] = rng.random((CYCLES, width // 8)) < 0.5
    beats = [(burst, i) for burst in model.writes for i in range(burst.beats)]
    for (burst, i), (first, accepted) in zip(beats, model.times.w, strict=False):
        assert burst.data is not None
        assert burst.strobes is not None
        now = slice(first, accepted + 1)
        table["wvalid"][now], table["wlast"][now] = True, i == burst.beats - 1
        table["wdata"][now] = burst.data[i].view("<i4")
        table["wstrb"][now] = burst.strobes[i]
    return table


@dataclasses.dataclass
class Case:
    model: ChannelModel
    stimulus: dict[str, NDArray]
    before: NDArray[np.uint8]
    table: NDArray[np.uint32]


def case_of(width: int, timing: HbmTiming, seed: int, *, errors: tuple[ErrorRange, ...] = (), writing: bool = True) -> Case:
    """``writing``: whether any strobe is set."""
    rng = np.random.default_rng([seed, width])
    reads, writes, r_ready, b_ready = random_traffic(rng, width)
    reads, writes = (without_crossing(bursts, width // 8) for bursts in (reads, writes))
    if not writing:
        writes = [dataclasses.replace(b, strobes=np.zeros((b.beats, width // 8), bool)) for b in writes]
    before = rng.integers(0, 256, END - BASE, np.uint8)
    channel = HbmChannel(timing, beat_bytes=width // 8, base=BASE, end=END, errors=errors)
    model = ChannelModel(channel, reads, writes, r_ready, b_ready, before.copy())
    stimulus = stimulus_of(model, (r_ready, b_ready), rng, width)
    return Case(model, stimulus, before, timing.table(base=BASE, end=END, errors=errors))


def run(using: BlockBench, case: Case, **options: int) -> tuple[dict[str, NDArray], NDArray[np.uint8]]:
    """Observed ports, and the memory afterwards."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "memory.bin"
        path.write_bytes(bytes(BASE) + case.before.tobytes() + bytes(4096))
        observed = using.run(case.stimulus, memory=path, tables={"dut": case.table}, **options)
        after = np.fromfile(path, np.uint8)
    assert not after[:BASE].any()
    assert not after[END:].any()
    return observed, after[BASE:END]


def check(using: BlockBench, case: Case, **options: int) -> int:
    observed, after = run(using, case, **options)
    compared = using.check(case.model.ports(), observed)
    np.testing.assert_array_equal(after, case.model.contents)
    return compared


ERRORS = (ErrorRange(BASE + 4096, BASE + 4100, SLVERR), ErrorRange(BASE + 6000, BASE + 9000, DECERR))


@pytest.mark.parametrize("name", TIMINGS)
def test_lockstep(name: str) -> None:
    width = WIDTHS[list(TIMINGS).index(name) % len(WIDTHS)]
    case = case_of(width, TIMINGS[name], seed=len(name), errors=ERRORS)
    assert check(bench(width), case, seed=1) > 10 * CYCLES
    shown = [i for i, (first, _) in enumerate(case.model.times.r) if first < CYCLES]
    assert set(case.model.r_response[shown].tolist()) >= {OKAY, DECERR}
    assert (case.model.contents != case.before).any()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_reset_in_mid_traffic_changes_nothing_but_memory(width: int) -> None:
    case = case_of(width, TIMINGS["jitter"], seed=3, writing=False)
    check(bench(width), case, reset_at=777)


def single(width: int, timing: HbmTiming, reads: list[Burst]) -> Case:
    """Reads alone, always ready."""
    rng = np.random.default_rng(0)
    ready = np.ones(CYCLES, bool)
    before = rng.integers(0, 256, END - BASE, np.uint8)
    model = ChannelModel(HbmChannel(timing, beat_bytes=width // 8, base=BASE, end=END), reads, [], ready, ready, before.copy())
    return Case(model, stimulus_of(model, (ready, ready), rng, width), before, timing.table(base=BASE, end=END))


def test_restart_begins_time_anew() -> None:
    """The same reads, asked for again 700 cycles after a restart: the same cycles, jitter and refresh included."""
    timing = dataclasses.replace(QUICK, jitter=20, seed=99)
    rng = np.random.default_rng(1)
    reads = [Burst(valid=13 * i, address=BASE + 16 * int(rng.integers(0, 4000)), beats=1, size=4) for i in range(40)]
    case = single(128, timing, reads)
    again = 1000
    for name, values in case.stimulus.items():
        values[again + 1 :] = values[: CYCLES - again - 1].copy()
        if name.endswith("valid"):
            values[again] = False
    case.stimulus["restart"][again] = True
    observed, _ = run(bench(128), case)
    shown = np.flatnonzero(observed["rvalid"])
    assert len(shown) == 80
    assert (shown[40:] - again - 1).tolist() == shown[:40].tolist()
    assert not observed["violation"].any()


def test_latency_and_bandwidth() -> None:
    """The contract itself: the first beat of an open row after the latency, then one per cycle, row after row."""
    timing = HbmTiming(latency=40, row_miss=17, refresh_interval=0, refresh_cycles=0)
    reads = [Burst(valid=10 + i, address=BASE + 1024 * i, beats=64, size=4) for i in range(16)]
    observed, _ = run(bench(128), single(128, timing, reads))
    assert np.flatnonzero(observed["rvalid"]).tolist() == list(range(10 + 40 + 17, 10 + 40 + 17 + 16 * 64))


@pytest.mark.parametrize("bit", [0, 1, 2, 4])
def test_violations_are_seen(bit: int) -> None:
    """One bit of a request or of a word changes while it waits; WLAST is missing."""
    case = case_of(128, TIMINGS["least"], seed=5)
    times = {0: case.model.times.ar, 1: case.model.times.aw, 2: case.model.times.w, 4: case.model.times.w}[bit]
    port = {0: "araddr", 1: "awlen", 2: "wdata", 4: "wlast"}[bit]
    if bit == 4:
        cycle = next(end for _, end in times if case.stimulus["wlast"][end])
        seen = cycle + 1
    else:
        cycle = next(first for first, end in times if end > first + 1)
        seen = cycle + 2
    values = case.stimulus[port]
    values[(cycle, 0) if values.ndim == 2 else cycle] ^= 1
    observed, _ = run(bench(128), case)
    assert observed["violation"][:seen].max() == 0
    assert observed["violation"][seen] == 1 << bit


def test_bursts_across_4_kib_are_violations() -> None:
    reads = [Burst(valid=20, address=BASE + 4096 - 32, beats=3, size=4), Burst(valid=21, address=BASE, beats=1, size=4)]
    case = single(128, QUICK, reads)
    observed, _ = run(bench(128), case)
    assert observed["violation"][[20, 21]].tolist() == [0, 8]
    assert observed["rresp"][np.flatnonzero(observed["rvalid"])].tolist() == [SLVERR] * 3 + [OKAY]


def test_restart_with_bursts_under_way_is_a_violation() -> None:
    case = single(128, QUICK, [Burst(valid=20, address=BASE, beats=1, size=4)])
    case.stimulus["restart"][22] = True
    assert run(bench(128), case)[0]["violation"][[22, 23]].tolist() == [0, 32]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency": 1}, "latency must be between 2 and 1048576, got 1"),
        ({"latency": 3.0}, "latency must be an integer, got 3.0"),
        ({"row_bytes": 768}, "row_bytes must be a power of two, got 768"),
        ({"seed": 0}, "seed must be between 1 and 4294967295, got 0"),
        ({"refresh_cycles": 3900}, "refresh_interval (3900) must be 0 or more than refresh_cycles (3900)"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HbmTiming(**changes)


def test_tables_are_checked() -> None:
    many = [ErrorRange(0, 1, SLVERR)] * 5
    for arguments, message in (
        ({"base": 100, "end": 4096}, "base of a channel must be a multiple of 4096 bytes, got 100"),
        ({"base": 0, "end": 4096, "errors": many}, "up to 4 ranges of errors, got 5"),
        ({"base": 0, "end": 4096, "errors": [ErrorRange(0, 1, 1)]}, "must be SLVERR (2) or DECERR (3), got 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            HbmTiming().table(**arguments)
    seeds = {HbmTiming().of_channel(i).seed for i in range(16)}
    assert len(seeds) == 16
    assert HbmTiming().of_channel(0) == HbmTiming()


def test_loading_32_mib_takes_no_time(tmp_path: Path) -> None:
    """It is a write into the mapped file."""
    path = tmp_path / "memory.bin"
    with path.open("wb") as file:
        file.truncate(1 << 25)
    image = np.random.default_rng(0).integers(0, 256, 1 << 25, np.uint8)
    began = time.perf_counter()
    np.memmap(path, np.uint8, "r+")[:] = image
    assert time.perf_counter() - began < 1


FAULTS = {
    "refresh": ("64'(settings[REFRESH]);", "64'(settings[REFRESH]) + 1;"),
    "strobe": ("BYTES, 64'(wstrb), 512'(wdata)", "BYTES, 64'(wstrb) | 2, 512'(wdata)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    case = case_of(128, QUICK, seed=1)
    with pytest.raises(AssertionError, match=r"differs from its cycle model|not equal"):
        check(bench_of(128, alter=FAULTS[fault]), case)


@functools.cache
def observed_ports() -> tuple[dict, dict]:
    case = case_of(128, TIMINGS["quick"], seed=1, errors=ERRORS)
    return run(bench(128), case)[0], case.model.ports()


OUTPUTS = ["arready", "awready", "wready", "rid", "rdata", "rresp", "rlast", "rvalid", "bid", "bresp", "bvalid", "violation"]


@pytest.mark.parametrize("port", OUTPUTS)
def test_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    observed, traces = observed_ports()
    assert sorted(observed) == sorted(traces) == sorted(OUTPUTS)
    values, cycle = observed[port].copy(), 2000
    values[(cycle, 0) if values.ndim == 2 else cycle] ^= 1
    with pytest.raises(LockstepError, match=f"at cycle {cycle}, port {port}"):
        bench(128).check(traces, {**observed, port: values})
