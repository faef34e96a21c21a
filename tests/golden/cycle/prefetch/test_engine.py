"""The cycle model of a prefetch engine: timelines worked by hand, bandwidth, and that it does not matter how it is driven."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.golden.cycle.memory.hbm import HbmChannel, Piece
from podweave.golden.cycle.prefetch.delivery import Burst, Delivery, Item
from podweave.golden.cycle.prefetch.engine import EngineModel, Inputs
from podweave.golden.cycle.prefetch.store import StoreModel, store_steps
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor, DescriptorCheck, EngineGeometry, Target
from podweave.predict.memory_timing import HbmTiming
from podweave.tb.cases.prefetch_cases import LEAD, engine_config, random_case

PLAIN = HbmTiming(latency=10, row_miss=0, refresh_interval=0, refresh_cycles=0, queue=200)
WORDS4, WORDS64, BYTES = 1, 2, 7
"""Selects of words of 4, 64 and 1 bytes."""


def geometry(beat_bytes: int = 64, **changes: Any) -> EngineGeometry:
    sizes = {WORDS4: 4, WORDS64: 64, BYTES: 1}
    base = EngineGeometry(
        beat_bytes=beat_bytes,
        address_width=34,
        buffer_beats=256,
        max_burst=32,
        outstanding=128,
        descriptors=4,
        nodes=2,
        host_levels=1,
        read_latency=5,
        targets={select: Target(1 << 16, size, max(1, size // beat_bytes), size) for select, size in sizes.items()},
        storable=(WORDS4, WORDS64),
        epoch_banks=(0,),
    )
    return dataclasses.replace(base, **changes)


def engine(
    demand: list[Descriptor], prefetch: list[Descriptor], sizes: EngineGeometry, *, timing: HbmTiming = PLAIN, **inputs: Any
) -> EngineModel:
    channel = HbmChannel(timing, beat_bytes=sizes.beat_bytes, end=1 << 30)
    tail = len(demand), len(prefetch)
    given = Inputs(base=(0, 1 << 16), memory_bytes=1 << 30, tail=tail, **inputs)
    return EngineModel(sizes, channel, (demand, prefetch), (max(1, tail[0]), max(1, tail[1])), given, trace=True)


def load(select: int, n0: int, n1: int = 1, *, address: int = 1 << 20, **fields: int) -> Descriptor:
    return Descriptor(kind=LOAD, select=select, address=address, n0=n0, n1=n1, n2=1, step0=1, step1=1, **fields)


def test_words_whose_last_piece_is_smaller() -> None:
    """Four words of 64, 64 and 16 bytes lie in nine beats; of these, the fifth, seventh and ninth have a second piece to end in."""
    target = Target(1 << 16, 144, 3, 138)
    assert target.piece_bytes == 64
    sizes = geometry()
    sizes = dataclasses.replace(sizes, targets={**sizes.targets, WORDS64: target})
    model = engine([load(WORDS64, 4, last=1)], [], sizes)
    model.run_until_quiet()
    (item,) = (entry for (entry,) in model.agenda.log["items"])
    assert [pops.steps for pops in item.pops for _ in range(pops.beats)] == [1, 1, 1, 1, 2, 1, 2, 1, 2]
    assert len(item.piece_steps(sizes)) == 12
    # From byte 60 of a beat on, the first piece begins in one beat and ends in the next: a step only pops the first.
    model = engine([load(WORDS64, 1, address=(1 << 20) + 60, last=1)], [], sizes)
    model.run_until_quiet()
    (item,) = (entry for (entry,) in model.agenda.log["items"])
    assert [pops.steps for pops in item.pops for _ in range(pops.beats)] == [1, 1, 1, 1]
    assert len(item.piece_steps(sizes)) == 3


def test_one_load_from_start_to_completion() -> None:
    """Decided on in 0, issued in 1, on AR in 2; R in 12; checked from 16 on; head from 29, taken in 30; its burst on AR in 34."""
    model = engine([load(WORDS64, 3, last=1)], [], geometry())
    model.run_until_quiet()
    log = model.agenda.log
    assert log is not None
    assert [entry[:4] for entry in log["ar"]] == [(2, 2, 0, 1), (34, 34, 1 << 20, 3)]
    (item,) = log["items"][0]
    # R in 44, 45 and 46; popped two cycles later, delivered two after that.
    assert item.begin == 30
    assert item.piece_steps(model.geometry).tolist() == [46, 47, 48]
    assert model.events.complete == ([48 + 2 + 1 + 2], [])
    assert model.quiet_from == 53 + 1
    assert model.events.read_beats == {"descriptor": 1, "demand": 3, "prefetch": 0}


def steps_of(sizes: EngineGeometry, descriptor: Descriptor, due: list[int], begin: int = 0) -> tuple[list[int], list[int]]:
    """Cycles of pops and of pieces of a load of one run, whose beats are on R in ``due``."""
    ended: list[Item] = []
    delivery = Delivery(sizes, 16, ended.append)
    item = Item(begin, 0, descriptor, counts=False)
    delivery.begin(item)
    offset = descriptor.address % sizes.beat_bytes
    for i, cycle in enumerate(due):
        burst = Burst(item, descriptor.address - offset + i * sizes.beat_bytes, 1, i, len(due), offset, i + 1 == len(due))
        delivery.arrive(burst, [Piece(16 * cycle, 1)])
    assert ended == [item]
    return [delivery.time_of(i) for i in range(len(due))], item.piece_steps(sizes).tolist()


def test_pieces_of_an_unaligned_run() -> None:
    """Words of 4 bytes from byte 6 of beats of 8 on: the first one straddles, so a step before it only pops."""
    run = load(WORDS4, 4, address=1 << 20 | 6)
    assert steps_of(geometry(8), run, [10, 11, 20]) == ([12, 13, 22], [13, 14, 22, 23])
    # From byte 4 on there is one word in the first beat; no beat that is there is waited for, nor the take.
    aligned = load(WORDS4, 4, address=1 << 20 | 4)
    assert steps_of(geometry(8), aligned, [1, 2, 3], begin=40) == ([43, 44, 46], [43, 44, 45, 46])
    # Words of a beat from byte 1 on: one more pop than pieces.
    assert steps_of(geometry(64), load(WORDS64, 2, address=1 << 20 | 1), [5, 6, 9]) == ([7, 8, 11], [8, 11])


def test_steps_of_a_store() -> None:
    """Three words of 4 bytes from byte 2 on, in beats of 8: the second and third step reach or pass the end of a beat."""
    sizes = geometry(8, buffer_beats=2)
    run = Descriptor(kind=STORE, select=WORDS4, address=2, n0=3, n1=1, n2=1, step0=1)
    reads, pushes = (column.astype(int).tolist() for column in store_steps(run, sizes))
    assert (reads, pushes) == ([1, 1, 1], [0, 1, 1])
    # Two runs, each with a word that straddles: one more step each.
    again = dataclasses.replace(run, address=6, n0=1, n1=2, stride1=16)
    assert [column.astype(int).tolist() for column in store_steps(again, sizes)] == [[1, 0, 1, 0], [1, 1, 1, 1]]
    store = StoreModel(sizes, Item(10, 0, again, counts=False))
    # Room for two beats; the first is in the buffer 2 + 5 + 2 cycles after its step.
    assert store.push_times == [13, 14]
    assert store.can_issue(2) == 14 + 9
    burst = Burst(store.item, 0, 2, 0, 2, 6, False)
    store.issue(30, burst)
    store.address_accepted(33)
    assert store.send() == (35, burst)
    # W has the first beat from 33 on and takes it in 34; its successor leaves the buffer then.
    assert (store.pop_times, store.accepted, store.push_times) == ([32, 34], [34, 35], [13, 14, 33, 35])
    assert store.step_times().tolist() == [13, 14, 33, 35]


CHECKS: list[tuple[dict[str, int], int]] = [
    ({}, 0),
    ({"kind": 3}, 6),
    ({"reserved": 4}, 6),
    ({"n1": 0}, 7),
    ({"kind": NOP, "n1": 0, "address": 1 << 60, "unit": 9}, 0),
    ({"address": (1 << 30) - 8}, 0),
    ({"address": (1 << 30) - 7}, 8),
    ({"address": 1 << 34}, 8),
    ({"n2": 2, "stride2": -4096}, 8),
    ({"n2": 2, "stride2": -4095, "step2": 1}, 0),
    ({"base": (1 << 16) - 2}, 0),
    ({"base": (1 << 16) - 1}, 10),
    ({"step0": -1}, 10),
    ({"step0": -1, "base": 1}, 0),
    ({"n2": 1 << 19, "step2": 1, "base": 5}, 10),
    ({"unit": 2}, 10),
    ({"unit": 2, "broadcast": 1}, 0),
    ({"select": 9}, 10),
    ({"kind": STORE}, 0),
    ({"kind": STORE, "broadcast": 1}, 10),
    ({"kind": STORE, "select": BYTES}, 10),
]


@pytest.mark.parametrize(("changes", "code"), CHECKS)
def test_codes_of_descriptors(changes: dict[str, int], code: int) -> None:
    """Two words of 4 bytes in a memory of 1 GiB, and what makes them illegal."""
    descriptor = dataclasses.replace(load(WORDS4, 2, address=4095), **changes)
    assert DescriptorCheck(geometry()).check(0, descriptor, 1 << 30) == code


def test_base_registers() -> None:
    """Reserved bits without them; with two, what register 3 adds is nothing, and an error of its own."""
    two, based = DescriptorCheck(geometry(base_registers=2)), load(WORDS4, 2, address=1 << 20, base_register=2)
    assert DescriptorCheck(geometry()).check(0, based, 1 << 30) == 6
    assert [two.check(0, dataclasses.replace(based, base_register=number), 1 << 30) for number in range(4)] == [0, 0, 0, 13]
    moved = [dataclasses.replace(based, base_register=number).based((5, 7)).address - (1 << 20) for number in range(4)]
    assert moved == [0, 5, 7, 0]
    assert two.check(0, dataclasses.replace(based, base_register=3, kind=NOP), 1 << 30) == 0


COLUMN: list[tuple[dict[str, int], int]] = [
    ({}, 0),
    ({"n0": 5}, 14),
    ({"kind": LOAD}, 14),
    ({"kind": NOP, "n0": 5}, 0),
    ({"column": 0, "n0": 5}, 0),
    # Four lanes, and four bytes of the last one.
    ({"address": (1 << 30) - 304}, 0),
    ({"address": (1 << 30) - 303}, 8),
    ({"lane_stride": -1366}, 8),
    ({"lane_stride": -1365}, 0),
    ({"unit": 2, "n0": 5}, 10),
]


@pytest.mark.parametrize(("changes", "code"), COLUMN)
def test_codes_of_column_stores(changes: dict[str, int], code: int) -> None:
    """Four words of 4 bytes, lanes 100 bytes apart; the fields are reserved bits where there are no such stores."""
    store = dataclasses.replace(load(WORDS4, 4, address=4095), kind=STORE, column=1, lane_stride=100)
    store = dataclasses.replace(store, **changes)
    assert DescriptorCheck(geometry(column_words=4)).check(0, store, 1 << 30) == code
    assert DescriptorCheck(geometry()).check(0, store, 1 << 30) == 6


def test_column_store_by_hand() -> None:
    """Two words of 16 bytes, of which 10 count, in beats of 8: two pieces of each, 8 and 2 lanes; one of them straddles."""
    sizes = geometry(8)
    sizes = dataclasses.replace(sizes, targets={WORDS64: Target(1 << 16, 16, 2, 10)})
    store = Descriptor(kind=STORE, select=WORDS64, address=4, n0=2, n1=2, n2=1, base=7, step0=3, step1=5)
    store = dataclasses.replace(store, stride1=100, column=1, lane_stride=1)
    starts, size = store.memory_runs(sizes.targets[WORDS64])
    assert (starts.tolist(), size) == ([*range(4, 14), *range(104, 114)], 2)
    words, pieces = store.accesses(sizes.targets[WORDS64])
    assert words.tolist() == [7, 10, 7, 10, 15, 18, 15, 18]
    assert pieces.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    reads, pushes = (column.astype(int).tolist() for column in store_steps(store, sizes))
    # Lane 3 is from byte 7 on; 104 is at the begin of a beat, and its lane 7 at the end of one.
    assert reads == 2 * [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert pushes == [1 - read for read in reads]


def test_order_of_tags() -> None:
    check = DescriptorCheck(geometry())
    tags = [(0, 1, 0, 0), (0, 1, 1, 0), (0, 1, 0, 12), (1, 1, 0, 0), (0, 0, 1, 12), (0, 2, 0, 0), (0, 1, 0, 12)]
    for ring, tag, last, code in tags:
        assert check.check(ring, Descriptor(tag=tag, last=last), 1 << 30) == (11 if code else 0)
    assert check.check(1, Descriptor(tag=0), 1 << 30, unreadable=True) == 5
    assert (check.previous_tag(0), check.previous_tag(1)) == (2, 1)


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize(("run_bytes", "share"), [(64, 0.95), (4096, 0.99)])
def test_runs_keep_the_bus_busy(width: int, run_bytes: int, share: float) -> None:
    """At 100 cycles of latency: runs that lie apart, between the first and the last beat."""
    sizes = geometry(width // 8, outstanding=128, buffer_beats=512, max_burst=64)
    runs = 256 * 1024 // run_bytes // 8
    work = [load(WORDS64, run_bytes // 64, runs, address=(1 + i) << 20, stride1=run_bytes, last=int(i == 7)) for i in range(8)]
    timing = HbmTiming(refresh_interval=0, refresh_cycles=0, row_miss=0)
    model = engine(work, [Descriptor(last=1)], sizes, timing=timing)
    model.run_until_complete(1)
    assert model.agenda.log is not None
    data = [(address, pieces) for address, _, _, pieces in model.agenda.log["r"] if address >= 1 << 20]
    first, last = model.channel.first_cycle(data[0][1][0]), model.channel.last_cycle(data[-1][1])
    assert model.events.read_beats["demand"] == 256 * 1024 // sizes.beat_bytes
    assert model.events.read_beats["demand"] / (last - first + 1) > share


def test_what_never_completes_is_told() -> None:
    model = engine([load(WORDS4, 1, last=1)], [load(WORDS4, 1, last=1, after=1)], geometry())
    with pytest.raises(RuntimeError, match="the prefetch ring will never complete 1 tags"):
        model.run_until_complete(1)
    model.change(epochs_done=1)
    assert model.run_until_complete(1) > model.events.complete[0][0]


def test_nothing_is_run_past_a_completion() -> None:
    """What waits for it changes inputs then, while a slow memory has the next burst wait for long."""
    demand = [load(WORDS64, 2, last=1), Descriptor(last=1, tag=1)]
    prefetch = [Descriptor(last=1), load(WORDS64, 400, tag=1, last=1)]
    model = engine(demand, prefetch, geometry(), timing=HbmTiming(latency=300, queue=1, refresh_interval=0))
    complete = model.run_until_complete(1)
    assert model.now <= complete
    assert model.run_until_complete(2) > complete + 300


def test_prefetch_descriptors_wait_for_cap_and_switch() -> None:
    """Two loads of 10 words for later epochs under a cap of 15; then nothing at all, but for the epoch that is next."""
    ring = [load(WORDS4, 10, tag=1, last=1), load(WORDS4, 10, tag=2, last=1), load(WORDS4, 10, tag=3, last=1)]
    rings = [Descriptor(last=1, tag=tag) for tag in range(4)], [Descriptor(last=1), *ring]
    model = engine(*rings, geometry(), cap=15)
    model.run_until_quiet()
    assert (len(model.events.complete[1]), model.gate.unconsumed) == (2, 10)
    assert model.events.stalls["cap"] > 0
    model.change(enable=False, epochs_done=1)
    model.run_until_quiet()
    assert (len(model.events.complete[1]), model.gate.unconsumed) == (2, 0)
    model.change(epochs_done=2)
    model.run_until_quiet()
    assert (len(model.events.complete[1]), model.events.prefetched, model.events.late) == (3, 2, 1)


@pytest.mark.parametrize("seed", range(6))
def test_steps_of_any_size_give_the_same(seed: int) -> None:
    """A model that stops in every cycle, so that it passes over none, sees the same as one that goes from change to change."""
    config = engine_config(data_width=64, address_width=34, max_burst=8, buffer_beats=16, outstanding=4, descriptors=2)
    case = random_case(np.random.default_rng(seed), config, faults=seed % 2 == 1, cycles=3000)
    at_once, cycle_by_cycle = case.model(), dataclasses.replace(case, script=everywhere(case.script, case.cycles)).model()
    assert at_once.events == cycle_by_cycle.events
    assert at_once.error == cycle_by_cycle.error
    assert at_once.quiet_from == cycle_by_cycle.quiet_from
    logs = at_once.agenda.log, cycle_by_cycle.agenda.log
    assert logs[0] is not None
    assert logs[1] is not None
    assert [entry[:4] for entry in logs[0]["ar"]] == [entry[:4] for entry in logs[1]["ar"]]


def everywhere(script: list[tuple[int, dict[str, Any]]], cycles: int) -> list[tuple[int, dict[str, Any]]]:
    changes = dict(script)
    return [(cycle, changes.get(cycle, {})) for cycle in range(max(cycles - LEAD, max(changes, default=0) + 1))]
