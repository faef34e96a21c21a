"""Prefetch engine: words, bytes, order and cycles against NumPy, its AXI port against a checker, on two memories."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.prefetch.prefetch_engine import PrefetchEngine
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect
from podweave.tb.benches.prefetch_bench import Phase, PrefetchBench, Recording
from podweave.tb.build.toolchain import find_toolchain
from podweave.tb.cases.prefetch_scenarios import (
    ENGINES,
    SINK,
    SOURCE,
    Rings,
    check_run,
    limits,
    matched,
    random_rings,
    random_settings,
    rings,
    run_rings,
)
from podweave.tb.lockstep.axi_checker import check_protocol
from podweave.tb.lockstep.prefetch_expected import Descriptor, accesses, bus_beats, content, store
from tests.fast import fast_of

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


@pytest.mark.parametrize("width", [pytest.param(width, marks=[pytest.mark.campaign] * (width != 64)) for width in ENGINES])
def test_random_rings(width: int) -> None:
    for seed in range(2):
        rng = np.random.default_rng([width, seed])
        cases = [
            (found, found.scenario(settings=random_settings(rng)))
            for found in (random_rings(rng, ENGINES[width]) for _ in range(8))
        ]
        run_rings(bench_of(width), cases, seed=seed)


@pytest.mark.parametrize("width", [pytest.param(width, marks=[pytest.mark.campaign] * (width != 64)) for width in ENGINES])
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


@pytest.mark.more
def test_one_mebibyte_from_an_odd_address() -> None:
    load = Descriptor(address=SOURCE + 37, n0=1 << 14, last=1)
    found = rings([load], [LAST])
    assert load.n0 * memory_stride(ENGINES[512], HostSelect.W) == 1 << 20
    scenario = found.scenario(stalls=0.05, cycles=30000)
    run_rings(bench_of(512), [(found, scenario)], outside=True)


@pytest.mark.parametrize("width", fast_of(ENGINES, "64", "512"))
def test_single_bytes_and_stores_at_every_offset(width: int) -> None:
    """Bytes of a table across the end of a page; stores that write their bytes and no other, whatever the write channels do."""
    config, beat = ENGINES[width], width // 8
    table = [Descriptor(select=HostSelect.TABLE, address=SOURCE + 4096 - beat + i, base=i, n0=1 + i % 3) for i in range(2 * beat)]
    stores, address = [], SINK
    for i, select in enumerate((HostSelect.X, HostSelect.W, HostSelect.P) * 8):
        address = (address + 5000) // 4096 * 4096 - 3 * i
        shape = {"n0": 1 + i % 5, "n1": 1 + i % 2, "base": 40, "step1": 7, "stride1": -2 * i - 300}
        stores.append(Descriptor(kind=STORE, select=select, address=address, **shape))
        address += 5 * memory_stride(config, select)
    bytes_found, stores_found = rings([*table, LAST], [LAST]), rings([*stores, LAST], [LAST])
    cases = [(bytes_found, bytes_found.scenario())]
    for settings in ({"aw_after_w": 1}, {"stall_w": 128, "stall_aw": 128, "stall_b": 128}):
        cases.append((stores_found, stores_found.scenario(settings=settings)))
    run_rings(bench_of(width), cases)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("width", [64, 512])
def test_column_stores(width: int, outside: bool) -> None:
    """Of every bank, as many words as there may be and one, across pages, lanes in one beat and apart, forwards and backwards."""
    config, beat = ENGINES[width], width // 8
    assert config.prefetch is not None
    most, stores = config.prefetch.column_words, []
    for i, select in enumerate((HostSelect.X, HostSelect.W, HostSelect.P)):
        for k, (n0, lane_stride) in enumerate(((1, beat), (most, most), (most, -beat - 3), (most - 1, 500))):
            address = SINK + 0x30000 * (i + 1) + 0x8000 * k - 5
            shape = {"n0": n0, "n1": 1 + k % 2, "base": 60, "step0": 1 - 2 * (k % 2), "step1": most, "stride1": 0x2000 + k}
            stores.append(Descriptor(kind=STORE, select=select, address=address, column=1, lane_stride=lane_stride, **shape))
    found = rings([*stores, LAST], [LAST])
    scenarios = [found.scenario(stalls=0.2), found.scenario(settings={"aw_after_w": 1}), found.scenario(settings={"stall_b": 128})]
    run_rings(bench_of(width), [(found, scenario) for scenario in scenarios[: 1 if outside else 3]], outside=outside)


def test_expectation_of_column_stores_is_what_the_layout_says() -> None:
    """Two words of 4 bytes: byte i of word j goes to address + i * lane_stride + j, and only there."""
    config = ENGINES[64]
    one = Descriptor(kind=STORE, select=HostSelect.X, address=50, n0=2, column=1, lane_stride=10, base=3, step0=2)
    memory = np.zeros(100, np.uint8)
    store(config, one, memory)
    words = content(accesses(config, one, memory), 1)
    expected = np.zeros(100, np.uint8)
    for i in range(4):
        for j in range(2):
            expected[50 + 10 * i + j] = words[j, i]
    np.testing.assert_array_equal(memory, expected)
    assert len(np.unique(words[:, :4])) == 8
    assert (bus_beats(config, one), accesses(config, one, memory)["address"].tolist()) == (4, [3, 5])


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
    runs = [Descriptor(address=SOURCE, n0=1, n1=20, stride1=320, step1=1, base=40 * i) for i in range(6)]
    long = [Descriptor(address=SOURCE + i * 8960, n0=300, base=400 * i) for i in range(6)]
    cases = [(found, found.scenario(settings={"latency": 30})) for found in (rings([*d, LAST], []) for d in (runs, long))]
    recordings = run_rings(bench_of(512), cases)
    requests = cycles_of(recordings[0], "arvalid")[-6 * 20 :]
    assert requests[-1] - requests[0] <= 6 * 20 + 5 * 3
    for descriptors, recording in zip((runs, long), recordings, strict=True):
        beats, total = cycles_of(recording, "rvalid"), sum(bus_beats(ENGINES[512], d) for d in descriptors)
        data = beats[-total:]
        assert data[-1] - data[0] <= total + 5 * 3 + 7
        port = cycles_of(recording, "host_valid")
        assert port[-1] - data[-1] in (4, 5)


def test_demand_goes_first_and_loads_overlap() -> None:
    both = rings(
        *(
            [Descriptor(address=SOURCE + 5000 * i, n0=64, base=100 * i, last=i == 3, unit=ring) for i in range(4)]
            for ring in range(2)
        )
    )
    short = rings([Descriptor(address=SOURCE + 4096 * i, n0=4, base=100 * i, last=i == 3) for i in range(4)], [LAST])
    cases = [(found, found.scenario(settings={"latency": 60})) for found in (both, short)]
    first, second = run_rings(bench_of(512), cases)
    # The prefetch ring only gets what the demand ring leaves: its first one is taken while those of demand are being fetched.
    served = [d.unit for d in matched(ENGINES[512], both, first)]
    assert served.index(1) <= 4
    assert sum(served[:4]) <= 1
    # All four are asked for before the first one has come.
    requests = cycles_of(second, "arvalid")[-4:]
    assert requests[-1] < requests[0] + 60


PREFETCHED = [Descriptor(address=SOURCE, n0=10, base=20 * i, tag=i, last=1) for i in range(4)]
IN_X = Descriptor(select=HostSelect.X, address=SOURCE, n0=10, tag=1, last=1)
# What the prefetch ring holds, inputs at the start, changes of them every 120 cycles, words on the load port until then, stalls.
# Tag 0 is that of the next epoch and never waits. With a cap of 20 there is room for tags 1 and 2 until epoch 0 is done.
WAITS: dict[str, tuple[list[Descriptor], dict[str, int], list[dict[str, int]], list[int], set[str]]] = {
    "nothing": (PREFETCHED, {}, [], [40], set()),
    "enable": (PREFETCHED, {"enable": 0}, [{"epochs_given": 1}, {"enable": 1}], [10, 20, 40], {"gate"}),
    "cap": (PREFETCHED, {"cap": 20}, [{"epochs_given": 1}, {"cap": 1000}], [30, 40, 40], {"cap"}),
    "cap_of_less": (PREFETCHED, {"cap": 9}, [{"epochs_given": 1}, {"cap": 0}], [10, 20, 40], {"cap"}),
    "gap": ([IN_X], {}, [{"gap_given": 0, "epochs_given": 1}, {"gap_given": 1}], [0, 0, 10], {"gate", "gap"}),
    "after": ([replace(PREFETCHED[0], after=2)], {}, [{"epochs_given": 1}, {"epochs_given": 2}], [0, 0, 10], {"gate"}),
}


def test_what_a_descriptor_waits_for() -> None:
    scenarios = []
    for ring, inputs, steps, *_ in WAITS.values():
        scenario = rings([], ring).scenario(settings={"epochs": 0}, **inputs)
        phases = [scenario.phases[0], Phase(inputs={"start": 0}, cycles=120), *(Phase(inputs=step, cycles=120) for step in steps)]
        scenarios.append(replace(scenario, phases=phases))
    for (name, (*_, words, stalls)), recording in zip(WAITS.items(), bench_of(128).run(scenarios), strict=True):
        check_protocol(recording.rows, limits(ENGINES[128]))
        cycles = cycles_of(recording, "host_commit")
        assert [int((cycles < end).sum()) for end in range(121, len(recording.rows) + 1, 120)] == words, name
        assert {cause for cause in ("gate", "cap", "gap") if recording.rows[f"stall_{cause}"].any()} == stalls, name
        assert recording.rows["quiet"][-1] == 1
        most = {"nothing": 30, "enable": 20, "cap": 20, "cap_of_less": 20}.get(name, 0)
        assert recording.rows["unconsumed"].max() == most, name


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


@pytest.mark.parametrize("config", [ENGINES[256], ENGINES[64].replace(base_registers=3)], ids=["plain", "all"])
def test_lint(config: ChipConfig, tmp_path: Path) -> None:
    emitted = emit_block(PrefetchEngine(config))
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
