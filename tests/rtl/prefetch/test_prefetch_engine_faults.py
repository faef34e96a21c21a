"""Prefetch engine when something goes wrong: a named error, nothing hangs, the rest goes on, and a new start is clean."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind, PrefetchError, memory_stride
from podweave.spec.load_port import HostSelect
from podweave.tb.benches.prefetch_bench import MEMORY_BYTES, Phase, PrefetchBench, Recording, Scenario
from podweave.tb.cases.prefetch_scenarios import ENGINES, RING_BYTES, SINK, SOURCE, Rings, check_run, limits, random_rings, rings
from podweave.tb.lockstep.axi_checker import check_protocol
from podweave.tb.lockstep.prefetch_expected import Descriptor, accesses, byte_indices
from tests.fast import fast_of

LOAD, STORE, NOP = DescriptorKind.LOAD, DescriptorKind.STORE, DescriptorKind.NOP
SLVERR, DECERR = 2, 3


@functools.cache
def bench_of(width: int) -> PrefetchBench:
    return PrefetchBench.of(ENGINES[width], random_initial_state=True)


def loads(ring: int, tags: int = 4, each: int = 3, words: int = 30) -> list[Descriptor]:
    """A few loads per tag, of a place of their own in memory, from odd addresses."""
    found = []
    for tag in range(tags):
        for i in range(each):
            at = 8 * tag + i + 64 * ring
            found.append(Descriptor(address=SOURCE + 4096 * at + 3, n0=words, base=words * at, tag=tag, last=int(i == each - 1)))
    return found


def twice(found: Rings, first: Scenario) -> Scenario:
    """As ``first``, then a start after which all is well."""
    clean = found.scenario()
    return replace(first, phases=[*first.phases, *clean.phases], settings={**clean.settings, **first.settings})


def parts(recording: Recording) -> tuple[NDArray, Recording]:
    """The rows of the first start, and the recording of the second one."""
    again = int(np.flatnonzero(recording.rows["start"])[1])
    return recording.rows[:again], Recording(recording.rows[again:], recording.memory)


def error_of(rows: NDArray) -> tuple[PrefetchError, int, int, int]:
    """Code, ring, tag and address; the engine must be quiet, and have kept to the protocol."""
    last = rows[-1]
    assert last["quiet"]
    return PrefetchError(last["error"]), int(last["error_ring"]), int(last["error_tag"]), int(last["error_address"])


def delivered(rows: NDArray) -> NDArray:
    return rows[(rows["host_valid"] == 1) & (rows["host_write"] == 1)]


def whole(width: int, found: Rings, rows: NDArray, descriptors: Sequence[Descriptor]) -> list[bool]:
    """Of each of ``descriptors`` (of places of their own on the chip): whether all of its words arrived, and rightly."""
    seen = delivered(rows)
    complete = []
    for descriptor in descriptors:
        expected = accesses(ENGINES[width], descriptor, found.memory)
        mine = seen[np.isin(seen["host_address"], expected["address"]) & (seen["host_select"] == descriptor.select)]
        assert np.array_equal(mine["host_data"], expected["data"][: len(mine)])
        complete.append(len(mine) == len(expected))
    return complete


def planted(width: int, position: str, rng: np.random.Generator) -> tuple[Rings, Descriptor, int]:
    """Rings, the descriptor of the demand ring that is to fail, and the address of the beat at which it does."""
    found = rings(loads(0), loads(1))
    victim = found.demand[int(rng.integers(3, 6))]
    beat = width // 8
    indices = byte_indices(ENGINES[width], victim)
    first, last = int(indices.min()) // beat * beat, int(indices.max()) // beat * beat
    at = {"first": first, "last": last, "middle": int(rng.integers(first // beat, last // beat + 1)) * beat}[position]
    return found, victim, at


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("width", [64, 512])
def test_read_error(width: int, outside: bool) -> None:
    """The words before the failing beat arrive, the rest of the tag does not; the other ring and later tags do."""
    cases, scenarios = [], []
    for position in ("first", "middle", "middle", "last"):
        for response in (SLVERR, DECERR):
            found, victim, at = planted(width, position, np.random.default_rng([width, len(cases)]))
            settings = {"error_first": at, "error_beyond": at + 1, "error_response": response, "latency": 20, "epochs": 0}
            cases.append((found, victim, at, response))
            scenarios.append(replace(found.scenario(settings=settings, epochs_given=3), errors=[(at, at + 1, response)]))
    for case, recording in zip(cases, bench_of(width).run(scenarios, outside=outside), strict=True):
        check_read_error(width, recording.rows, *case)


def check_read_error(width: int, rows: NDArray, found: Rings, victim: Descriptor, at: int, response: int) -> None:
    config, tag = ENGINES[width], victim.tag
    check_protocol(rows, limits(config))
    code, ring, failed_tag, address = error_of(rows)
    assert (code, ring, failed_tag) == (PrefetchError.READ_SLVERR if response == SLVERR else PrefetchError.READ_DECERR, 0, tag)
    asked = rows[(rows["arvalid"] == 1) & (rows["arready"] == 1)]
    assert [int(r["araddr"]) for r in asked if r["araddr"] <= at < r["araddr"] + (int(r["arlen"]) + 1) * width // 8] == [address]
    assert (rows["demand_complete"][-1], rows["prefetch_complete"][-1]) == (tag, 4)
    assert whole(width, found, rows, found.prefetch) == [True] * 12
    arrived = whole(width, found, rows, found.demand)
    assert [a for a, d in zip(arrived, found.demand, strict=True) if d.tag != tag] == [True] * 9
    # Exactly the pieces that end before the failing beat.
    touched = (byte_indices(config, victim) // (width // 8) * (width // 8) == at).any(axis=1)
    expected = accesses(config, victim, found.memory)
    assert np.isin(delivered(rows)["host_address"], expected["address"]).sum() == np.argmax(touched)


def test_read_error_skips_what_has_not_begun() -> None:
    """Many descriptors of the tag: those far behind the failing one are not even asked for."""
    demand = [replace(d, tag=int(i >= 20), last=int(i in (19, 23))) for i, d in enumerate(loads(0, tags=8))]
    found = rings(demand, loads(1, tags=1))
    at = found.demand[0].address & ~63
    settings = {"error_first": at, "error_beyond": at + 1, "error_response": SLVERR, "epochs": 0}
    (recording,) = bench_of(128).run([found.scenario(settings=settings, epochs_given=1)])
    assert error_of(recording.rows)[:3] == (PrefetchError.READ_SLVERR, 0, 0)
    arrived = whole(128, found, recording.rows, found.demand)
    assert arrived[10:20] == [False] * 10
    assert arrived[20:] == [True] * 4


def stores(count: int = 4) -> list[Descriptor]:
    return [
        Descriptor(kind=STORE, select=HostSelect.P, address=SINK + 8000 * i + 1, n0=20, base=20 * i, tag=i, last=1)
        for i in range(count)
    ]


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("width", [64, 512])
def test_write_error(width: int, outside: bool) -> None:
    found = rings(stores(), loads(1))
    at = (found.demand[1].address + 90) // (width // 8) * (width // 8)
    scenarios = []
    for response in (SLVERR, DECERR):
        settings = {"error_first": at, "error_beyond": at + 1, "error_response": response, "epochs": 0}
        scenarios.append(replace(found.scenario(settings=settings, epochs_given=3), errors=[(at, at + 1, response)]))
    codes = (PrefetchError.WRITE_SLVERR, PrefetchError.WRITE_DECERR)
    for expected, recording in zip(codes, bench_of(width).run(scenarios, outside=outside), strict=True):
        rows = recording.rows
        check_protocol(rows, limits(ENGINES[width]))
        code, ring, tag, address = error_of(rows)
        assert (code, ring, tag) == (expected, 0, 1)
        sent = rows[(rows["awvalid"] == 1) & (rows["awready"] == 1)]
        assert [int(r["awaddr"]) for r in sent if r["awaddr"] <= at < r["awaddr"] + (int(r["awlen"]) + 1) * width // 8] == [address]
        assert (rows["demand_complete"][-1], rows["prefetch_complete"][-1]) == (1, 4)
        # All stores are made to their end.
        reads = (rows["host_valid"] == 1) & (rows["host_write"] == 0)
        assert reads.sum() == sum(len(accesses(ENGINES[width], d, found.memory)) for d in found.demand)


@pytest.mark.parametrize("outside", [False, True])
def test_descriptor_that_cannot_be_read(outside: bool) -> None:
    """It has the tag of the one before it; the rest of that tag is skipped."""
    found, tags = rings(loads(0), loads(1)), {0: 0, 4: 1, 5: 1}
    scenarios = []
    for index in tags:
        beat = RING_BYTES + DESCRIPTOR_BYTES * index + 16
        settings = {"error_first": beat, "error_beyond": beat + 8, "error_response": SLVERR, "epochs": 0}
        scenarios.append(replace(found.scenario(settings=settings, epochs_given=3), errors=[(beat, beat + 8, SLVERR)]))
    for (index, tag), recording in zip(tags.items(), bench_of(64).run(scenarios, outside=outside), strict=True):
        assert error_of(recording.rows) == (PrefetchError.DESCRIPTOR_RESPONSE, 1, tag, RING_BYTES + DESCRIPTOR_BYTES * index)
        assert (recording.rows["demand_complete"][-1], recording.rows["prefetch_complete"][-1]) == (4, tag)
        expected = [i < index or d.tag != tag for i, d in enumerate(found.prefetch)]
        expected[index] = False
        assert whole(64, found, recording.rows, found.prefetch) == expected


WORD = memory_stride(ENGINES[128], HostSelect.W)
GOOD = Descriptor(address=SOURCE, n0=10, tag=1)
BAD: dict[str, tuple[Descriptor, PrefetchError]] = {
    "kind": (replace(GOOD, kind=3), PrefetchError.UNKNOWN_KIND),
    "reserved": (replace(GOOD, reserved0=8), PrefetchError.UNKNOWN_KIND),
    "reserved_nop": (replace(GOOD, kind=NOP, reserved0=1), PrefetchError.UNKNOWN_KIND),
    "n0": (replace(GOOD, n0=0), PrefetchError.ZERO_LENGTH),
    "n1": (replace(GOOD, n1=0), PrefetchError.ZERO_LENGTH),
    "n2_store": (replace(GOOD, n2=0, kind=STORE), PrefetchError.ZERO_LENGTH),
    "beyond": (replace(GOOD, address=MEMORY_BYTES - 10 * WORD + 1), PrefetchError.BEYOND_MEMORY),
    "far_beyond": (replace(GOOD, address=1 << 63), PrefetchError.BEYOND_MEMORY),
    "below_1": (replace(GOOD, n1=3, stride1=-SOURCE // 2 - 1), PrefetchError.BEYOND_MEMORY),
    "below_2": (replace(GOOD, n1=3, stride1=-100, n2=2, stride2=-SOURCE + 199), PrefetchError.BEYOND_MEMORY),
    "huge_1": (replace(GOOD, n1=(1 << 20) - 1, stride1=-(1 << 31)), PrefetchError.BEYOND_MEMORY),
    "huge_2": (replace(GOOD, n2=(1 << 20) - 1, n1=1000, stride1=1, stride2=(1 << 31) - 1), PrefetchError.BEYOND_MEMORY),
    "huge_run": (replace(GOOD, n0=(1 << 24) - 1), PrefetchError.BEYOND_MEMORY),
    "select": (replace(GOOD, select=HostSelect.COUNTERS), PrefetchError.BAD_TARGET),
    "select_15": (replace(GOOD, select=15), PrefetchError.BAD_TARGET),
    "store_table": (replace(GOOD, kind=STORE, select=HostSelect.TABLE), PrefetchError.BAD_TARGET),
    "store_broadcast": (replace(GOOD, kind=STORE, broadcast=1), PrefetchError.BAD_TARGET),
    "unit": (replace(GOOD, unit=2), PrefetchError.BAD_TARGET),
    "word_high": (replace(GOOD, base=(1 << 15) - 9), PrefetchError.BAD_TARGET),
    "word_base": (replace(GOOD, base=(1 << 24) - 1), PrefetchError.BAD_TARGET),
    "word_low": (replace(GOOD, base=8, step0=-1), PrefetchError.BAD_TARGET),
    "word_low_1": (replace(GOOD, base=0, n1=2, step1=-10), PrefetchError.BAD_TARGET),
    "word_high_2": (replace(GOOD, n0=1, n2=3, step2=1 << 14), PrefetchError.BAD_TARGET),
    "word_huge": (replace(GOOD, n0=1000, step0=-(1 << 23), n1=500, n2=2), PrefetchError.BAD_TARGET),
    "word_huge_1": (replace(GOOD, n0=1, n1=1 << 19, step1=(1 << 23) - 1), PrefetchError.BAD_TARGET),
    "word_huge_2": (replace(GOOD, n0=1, n2=1 << 19, step2=-(1 << 23)), PrefetchError.BAD_TARGET),
    "first_of_two": (replace(GOOD, unit=7, n0=0), PrefetchError.ZERO_LENGTH),
    "tag_smaller": (replace(GOOD, tag=0), PrefetchError.TAG_ORDER),
}


def test_bad_descriptors_are_refused_whole() -> None:
    """Each of them in a ring of its own scenario, as the second one of tag 1: the rest of that tag is skipped, tag 2 is not."""
    before = [Descriptor(address=SOURCE + 64, n0=5, base=100, last=1), replace(GOOD, base=200)]
    cases = {}
    for name, (bad, code) in BAD.items():
        after = [replace(GOOD, base=300, tag=bad.tag if bad.tag else 1), replace(GOOD, base=400, tag=2, last=1)]
        cases[name] = (rings([*before, bad, *after], loads(1, tags=3)), bad, code)
    scenarios = [found.scenario(settings={"epochs": 0}, epochs_given=2) for found, *_ in cases.values()]
    recordings = bench_of(128).run(scenarios)
    for (name, (found, bad, code)), recording in zip(cases.items(), recordings, strict=True):
        assert error_of(recording.rows) == (code, 0, bad.tag, 2 * DESCRIPTOR_BYTES), name
        check_protocol(recording.rows, limits(ENGINES[128]))
        expected = [True, True, code == PrefetchError.TAG_ORDER, True]
        assert whole(128, found, recording.rows, [d for d in found.demand if d is not bad]) == expected, name
        assert whole(128, found, recording.rows, found.prefetch) == [True] * 9, name
        assert (recording.rows["demand_complete"][-1], recording.rows["prefetch_complete"][-1]) == (1, 3), name


def test_descriptor_behind_the_last_of_its_tag() -> None:
    found = rings([replace(GOOD, last=1), replace(GOOD, base=50), replace(GOOD, base=70, tag=2, last=1)], [])
    (recording,) = bench_of(128).run([found.scenario(settings={"epochs": 0}, epochs_given=2)])
    assert error_of(recording.rows) == (PrefetchError.TAG_ORDER, 0, 1, DESCRIPTOR_BYTES)
    assert whole(128, found, recording.rows, found.demand) == [True, False, True]


def test_bad_ring() -> None:
    """What is in the ring before its end is done; the other ring is not concerned."""
    prefetch = [Descriptor(kind=NOP, tag=i, last=1) for i in range(5)]
    found = rings([Descriptor(kind=NOP, tag=i, last=1) for i in range(5)], prefetch)
    found.memory[MEMORY_BYTES - 128 :] = np.frombuffer(b"".join(d.pack() for d in prefetch[:2]), np.uint8)
    cases: list[tuple[dict[str, int], PrefetchError, int, int]] = [
        ({"prefetch_base": RING_BYTES + 32}, PrefetchError.MISALIGNED, RING_BYTES + 32, 0),
        ({"prefetch_base": MEMORY_BYTES - 128}, PrefetchError.BEYOND_MEMORY, MEMORY_BYTES, 2),
        ({"memory_bytes": RING_BYTES + 191}, PrefetchError.BEYOND_MEMORY, RING_BYTES + 128, 2),
    ]
    scenarios = [found.scenario(settings={"epochs": 0}, epochs_given=4, **inputs) for inputs, *_ in cases]
    for (_, code, address, before), recording in zip(cases, bench_of(128).run(scenarios), strict=True):
        assert error_of(recording.rows) == (code, 1, max(0, before - 1), address)
        assert (recording.rows["demand_complete"][-1], recording.rows["prefetch_complete"][-1]) == (5, before)
        check_protocol(recording.rows, limits(ENGINES[128]))


def test_cancel() -> None:
    """Tag 2 of both rings before it begins; it is waited for in the demand ring, and not yet fetched in the prefetch ring."""
    found = rings(loads(0), [replace(d, after=0 if d.tag < 1 else d.tag) for d in loads(1, each=6)])
    scenario = found.scenario(settings={"epochs": 0})
    scenario = replace(
        scenario,
        phases=[
            Phase(inputs={**scenario.phases[0].inputs, "cap": 1}),
            Phase(inputs={"start": 0, "cancel_valid": 1, "cancel_tag": 2}),
            Phase(inputs={"cancel_valid": 0, "cancel_tag": 0}, cycles=2000),
            Phase(inputs={"epochs_given": 3}, cycles=20000, until_quiet=True),
        ],
    )
    (recording,) = bench_of(128).run([scenario])
    code, _, tag, _ = error_of(recording.rows)
    assert (code, tag) == (PrefetchError.CANCELLED, 2)
    assert whole(128, found, recording.rows, found.demand) == [d.tag != 2 for d in found.demand]
    assert whole(128, found, recording.rows, found.prefetch) == [d.tag != 2 for d in found.prefetch]
    assert (recording.rows["demand_complete"][-1], recording.rows["prefetch_complete"][-1]) == (2, 2)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("width", fast_of([64, 256], "64"))
def test_stop_then_start(width: int, outside: bool) -> None:
    """Stopped at any time, in loads and stores: no new burst, everything asked for comes, and the next start is clean."""
    rng = np.random.default_rng([width, outside])
    cases, scenarios = [], []
    for _ in range(3 if outside else 12):
        found = random_rings(rng, ENGINES[width])
        scenario = found.scenario(stalls=0.2, settings={"stall_r": 100, "stall_w": 100, "stall_aw": 50, "latency": 15})
        clean = scenario.phases
        stopped = [
            clean[0],
            Phase(inputs={"start": 0}, cycles=int(rng.integers(1, 700))),
            Phase(inputs={"stop": 1}, cycles=2000, until_quiet=True),
        ]
        cases.append(found)
        scenarios.append(replace(scenario, phases=[*stopped, *clean]))
    for found, recording in zip(cases, bench_of(width).run(scenarios, outside=outside), strict=True):
        rows, clean_part = parts(recording)
        check_protocol(recording.rows, limits(ENGINES[width]))
        at = int(np.argmax(rows["stop"]))
        assert rows["quiet"][-1]
        new = (rows["arvalid"] == 1)[1:] & ~((rows["arvalid"] == 1) & (rows["arready"] == 0))[:-1]
        assert not new[at + 1 :].any()
        assert not rows["host_valid"][at + 4 :].any()
        # Loads may read what stores wrote only if that is the same both times: they have areas of their own.
        check_run(ENGINES[width], found, clean_part)


@pytest.mark.parametrize("width", [64, 512])
def test_start_after_an_error_is_clean(width: int) -> None:
    found, _, at = planted(width, "middle", np.random.default_rng(width))
    settings = {"error_first": at, "error_beyond": at + 1, "error_response": SLVERR}
    failing = found.scenario(settings={**settings, "epochs": 0}, epochs_given=3)
    # The same engine without a reset; the second start asks for another part of memory, which does not fail.
    other = [replace(d, address=d.address + (1 << 20)) for d in found.demand]
    packed = np.frombuffer(b"".join(d.pack() for d in other), np.uint8)
    found.memory[3 * RING_BYTES : 3 * RING_BYTES + len(packed)] = packed
    clean = [replace(failing.phases[0], inputs={**failing.phases[0].inputs, "demand_base": 3 * RING_BYTES}), failing.phases[1]]
    (recording,) = bench_of(width).run([replace(failing, phases=[*failing.phases, *clean])])
    rows, second = parts(recording)
    assert error_of(rows)[0] == PrefetchError.READ_SLVERR
    assert second.rows["error"].max() == PrefetchError.READ_SLVERR
    assert second.rows["error"][1:].max() == 0
    assert whole(width, Rings(other, [], found.memory), second.rows, other) == [True] * 12
    assert (second.rows["demand_complete"][-1], second.rows["prefetch_complete"][-1]) == (4, 4)
