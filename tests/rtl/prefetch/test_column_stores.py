"""Column stores: bytes where loops by hand put them, every port in every cycle as the model says, errors, order, planted faults."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import DECERR, SLVERR, ErrorRange, HbmChannel
from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import PrefetchError, memory_stride, word_bytes
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, MEMORY_BYTES, STORE_BEGIN, TIMINGS, Case, engine_config, engine_geometry
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep, chip_data
from podweave.tb.lockstep.ports import LockstepError
from tests.rtl.prefetch.test_prefetch_lockstep import expected

# 12 lanes of 16 in X; sums of 4 columns of 20 bits: 10 bytes of 16, as two pieces on a bus of 64 bits.
CONFIGS: dict[str, dict[str, int]] = {
    "64": {"data_width": 64, "max_burst": 8, "buffer_beats": 16, "outstanding": 4, "rows": 12, "column_words": 8},
    "128": {"data_width": 128, "max_burst": 1, "buffer_beats": 16, "outstanding": 16, "rows": 12, "column_words": 5},
    "512": {"data_width": 512, "max_burst": 4, "buffer_beats": 32, "outstanding": 32, "rows": 16, "cols": 32, "column_words": 32},
}
NAME = "64"
X, W, P = HostSelect.X, HostSelect.W, HostSelect.P
LAST = Descriptor(last=1)


def config_of(name: str) -> ChipConfig:
    config = engine_config(address_width=34, **CONFIGS[name])
    array = dataclasses.replace(config.pod.array, psum_width=20)
    return dataclasses.replace(config, pod=dataclasses.replace(config.pod, array=array))


@functools.cache
def lockstep_of(name: str) -> PrefetchLockstep:
    return PrefetchLockstep.of(config_of(name))


def case_of(name: str, *descriptors: Descriptor, cycles: int = 1500, **options: object) -> Case:
    return directed_case(lockstep_of(name).config, [*descriptors, LAST], cycles=cycles, **options)  # type: ignore[arg-type]


def check(name: str, case: Case, seed: int = 1) -> tuple[EngineModel, NDArray[np.uint8]]:
    """Run a case in RTL and in the model; returns the model, and the memory that both left."""
    model = case.model()
    traces, memory = expected(case, model)
    observed, after = lockstep_of(name).run(case.stimulus(), case.program.memory, case.table(), seed=seed)
    assert lockstep_of(name).bench.check(traces, observed) > 0
    np.testing.assert_array_equal(after, memory)
    return model, after


def column_store(select: HostSelect, n0: int, lane_stride: int, *, address: int = STORE_BEGIN, **fields: int) -> Descriptor:
    loops = {"n1": 1, "n2": 1, "step0": 1}
    return Descriptor(kind=STORE, select=select, address=address, n0=n0, column=1, lane_stride=lane_stride, **{**loops, **fields})


def stored_by_hand(case: Case, store: Descriptor, memory: NDArray[np.uint8]) -> None:
    """Loop by loop, word by word, byte by byte, as the description of descriptors says."""
    config = case.config
    beat = config.host_bits // 8
    size, run_begin, word = word_bytes(config, HostSelect(store.select)), store.address, store.base
    for run in range(store.n1 * store.n2):
        for j in range(store.n0):
            for i in range(size):
                where = (np.array([value]) for value in (store.unit, word, i // beat))
                memory[run_begin + i * store.lane_stride + j] = chip_data(config.host_bits, store.select, *where)[0, i % beat]
            if j < store.n0 - 1:
                word += store.step0
        inner = (run + 1) % store.n1
        run_begin += store.stride1 if inner else store.stride2
        word += store.step1 if inner else store.step2


def stores_of(name: str) -> list[Descriptor]:
    """Of every bank: words of one and of all, lanes in one beat and far apart, backwards, across a page, and loops."""
    config = lockstep_of(name).config
    most, beat = CONFIGS[name]["column_words"], config.host_bits // 8
    found = []
    for k, select in enumerate((X, W, P)):
        begin = STORE_BEGIN + 0x4000 * k
        found += [
            column_store(select, 1, memory_stride(config, W), address=begin + 3, base=5),
            column_store(select, most, most, address=begin + 0x400, base=2),
            column_store(select, most, beat, address=begin + 0x1000 - 3 * beat - 2),
            column_store(select, most - 1, -beat - 1, address=begin + 0x1800, unit=1),
            column_store(select, 2, 0, address=begin + 0x1FFF),
            column_store(select, 3, 7, address=begin + 0x2001, n1=2, n2=2, stride1=3, stride2=300, base=20, step1=-4, step2=6),
            column_store(select, most, 100, address=begin + 0x2700, n1=3, stride1=-most, base=most + 2, step0=-1, step1=most),
        ]
    return found


@pytest.mark.parametrize("name", [NAME, *(pytest.param(name, marks=pytest.mark.campaign) for name in ("512", "128"))])
def test_every_byte_where_it_belongs(name: str) -> None:
    for seed, timing in enumerate((TIMINGS[2], TIMINGS[3])):
        stores = stores_of(name)
        case = case_of(name, *stores, cycles=16000, timing=timing)
        model, after = check(name, case, seed)
        memory = case.program.memory.copy()
        for store in stores:
            stored_by_hand(case, store, memory)
        np.testing.assert_array_equal(after, memory)
        assert model.events.complete[0]


@pytest.mark.parametrize("words", [1, 8, 16])
@pytest.mark.more
def test_timing(words: int) -> None:
    """By hand: a step for each word, then one for each lane, each in the cycle after the one before; all else as of any store.

    Taken in cycle t, the first step is in t + 3; with 16 lanes, none of which straddles, the last one in s = t + 2 + words + 16.
    Its beat is in the buffer 2 + read latency + 2 later, where its burst is issued, is on W and accepted 3 later, and answered at
    the latency of the memory, 10, behind the cycle after that. The tag is complete 2 + host levels + 2 later.
    """
    timing = HbmTiming(latency=10, row_miss=0, refresh_interval=0, refresh_cycles=0, queue=64)
    config = lockstep_of("512").config
    model, _ = check("512", directed_case(config, [column_store(X, words, 16, last=1)], cycles=300, timing=timing))
    assert model.agenda.log is not None
    (store,) = model.agenda.log["stores"][0]
    taken = store.item.begin
    assert store.step_times().tolist() == [*range(taken + 3, taken + 3 + words + 16)]
    assert store.reads.tolist() == [True] * words + [False] * 16
    answered = taken + 2 + words + 16 + 2 + config.host_read_latency + 2 + 3 + 11
    assert model.agenda.log["b"][-1][0] == answered
    assert model.events.complete == ([answered + 2 + config.host_levels + 2], [])
    assert model.events.write_beats == 16


def test_steps_of_wide_words_and_of_lanes_that_straddle() -> None:
    """Piece by piece: 8 bytes of each word, and 4; every other lane reaches into one more beat and makes a second step."""
    model, _ = check(NAME, case_of(NAME, column_store(X, 5, 4, address=STORE_BEGIN + 2)))
    assert model.agenda.log is not None
    (store,) = model.agenda.log["stores"][0]
    assert store.reads.tolist() == [*[True] * 5, *[False] * 12, *[True] * 5, *[False] * 6]
    assert model.events.write_beats == 18


GOOD = column_store(X, 8, 8, base=3)
PLAIN = Descriptor(kind=LOAD, select=W, address=DATA_BEGIN, n0=2, n1=1, n2=1, step0=1)
REACH = 11 * 8 + 8
"""Bytes from the first to behind the last of `GOOD`."""
CODES: dict[str, tuple[Descriptor, int]] = {
    "good": (GOOD, 0),
    "one word more": (dataclasses.replace(GOOD, n0=9), PrefetchError.BAD_COLUMN),
    "many words more": (dataclasses.replace(GOOD, n0=40), PrefetchError.BAD_COLUMN),
    "load": (dataclasses.replace(GOOD, kind=LOAD, address=DATA_BEGIN), PrefetchError.BAD_COLUMN),
    "nop": (dataclasses.replace(GOOD, kind=NOP, n0=99), 0),
    "lane stride alone": (dataclasses.replace(PLAIN, lane_stride=-1), 0),
    "at the end": (dataclasses.replace(GOOD, address=MEMORY_BYTES - REACH), 0),
    "one beyond": (dataclasses.replace(GOOD, address=MEMORY_BYTES - REACH + 1), PrefetchError.BEYOND_MEMORY),
    "a run beyond": (dataclasses.replace(GOOD, address=MEMORY_BYTES - REACH, n1=2, stride1=1), PrefetchError.BEYOND_MEMORY),
    "far beyond": (dataclasses.replace(GOOD, lane_stride=(1 << 31) - 1), PrefetchError.BEYOND_MEMORY),
    "below": (dataclasses.replace(GOOD, lane_stride=-STORE_BEGIN // 11 - 1), PrefetchError.BEYOND_MEMORY),
    "far below": (dataclasses.replace(GOOD, lane_stride=-(1 << 31)), PrefetchError.BEYOND_MEMORY),
    "select": (dataclasses.replace(GOOD, select=HostSelect.TABLE), PrefetchError.BAD_TARGET),
    "no select": (dataclasses.replace(GOOD, select=15, address=MEMORY_BYTES - 8, lane_stride=1), PrefetchError.BAD_TARGET),
    "broadcast": (dataclasses.replace(GOOD, broadcast=1), PrefetchError.BAD_TARGET),
    "word": (dataclasses.replace(GOOD, base=57), PrefetchError.BAD_TARGET),
    "no words": (dataclasses.replace(GOOD, n0=0), PrefetchError.ZERO_LENGTH),
    "two errors": (dataclasses.replace(GOOD, n0=9, unit=2), PrefetchError.BAD_TARGET),
}


@pytest.mark.parametrize("what", CODES)
@pytest.mark.more
def test_codes(what: str) -> None:
    descriptor, code = CODES[what]
    case = case_of(NAME, PLAIN, descriptor, cycles=600)
    model, after = check(NAME, case)
    assert (model.error.code if model.error else 0) == code
    if code:
        np.testing.assert_array_equal(after, case.program.memory)


def test_an_error_of_a_lane_is_that_of_its_burst() -> None:
    """Two lanes fail; all others are written, the tag is not complete, and what stands behind is skipped."""
    store = column_store(X, 4, 64, tag=0, last=1)
    failing = [STORE_BEGIN + 64 * lane for lane in (3, 7)]
    errors = ErrorRange(failing[0], failing[0] + 1, SLVERR), ErrorRange(failing[1], failing[1] + 1, DECERR)
    later = column_store(W, 2, 8, address=STORE_BEGIN + 0x1000, tag=1, last=1)
    case = directed_case(lockstep_of(NAME).config, [store, later], epochs_done=1, cycles=1500, errors=errors)
    model, after = check(NAME, case)
    assert model.error
    assert (model.error.code, model.error.tag, model.error.address) == (PrefetchError.WRITE_SLVERR, 0, failing[0])
    memory = case.program.memory.copy()
    for one in (store, later):
        stored_by_hand(case, one, memory)
    for at in failing:
        memory[at : at + 4] = case.program.memory[at : at + 4]
    np.testing.assert_array_equal(after, memory)
    assert model.events.complete[0] == []


@pytest.mark.parametrize("timing", [TIMINGS[2], TIMINGS[3], TIMINGS[4]])
@pytest.mark.parametrize("column", [0, 1])
def test_a_load_behind_a_store_reads_what_it_stored(column: int, timing: HbmTiming) -> None:
    """In either ring: nothing is taken before the last response of a store. A load that was taken before reads what was there."""
    store = column_store(X, 8, 8) if column else dataclasses.replace(GOOD, column=0, lane_stride=0)
    load = Descriptor(kind=LOAD, select=W, address=STORE_BEGIN, n0=24, n1=1, n2=1, step0=1)
    case = directed_case(
        lockstep_of(NAME).config,
        [load, store, dataclasses.replace(load, base=30, last=1)],
        [dataclasses.replace(load, unit=1, after=1), LAST],
        cycles=3000,
        timing=timing,
    )
    # The prefetch ring may begin while the store is under way.
    begins = case.model().agenda.log
    assert begins is not None
    (stored,) = begins["stores"][0]
    case = dataclasses.replace(case, script=[(stored.item.begin + 2, {"epochs_done": 1})])
    model, after = check(NAME, case)
    assert model.agenda.log is not None
    answered = max(cycle for cycle, _ in model.agenda.log["b"])
    begun = [item.begin for (item,) in model.agenda.log["items"]]
    assert begun[:2] == sorted(begun[:2])
    assert min(begun[2:]) > answered + 2
    observed, _ = lockstep_of(NAME).run(case.stimulus(), case.program.memory, case.table(), seed=1)
    writes = (observed["host_valid"] == 1) & (observed["host_write"] == 1) & (observed["host_select"] == W)
    words = observed["host_data"][writes][:, 0].astype("<u4").reshape(3, 24).view(np.uint8)
    before, stored_bytes = (bytes_[STORE_BEGIN : STORE_BEGIN + 96] for bytes_ in (case.program.memory, after))
    assert (before != stored_bytes).any()
    for found, memory in zip(words, (before, stored_bytes, stored_bytes), strict=True):
        np.testing.assert_array_equal(found, memory)


def test_stop_in_a_column_store_and_a_new_start() -> None:
    """Wherever it is stopped: no step more, and no beat that has no burst."""
    store = column_store(P, 8, 24, n1=3, stride1=1000, step1=1)
    case = case_of(NAME, store, column_store(X, 3, 9, address=STORE_BEGIN + 0x2000), cycles=700)
    for cycle in range(45, 110, 5):
        check(NAME, dataclasses.replace(case, script=[(cycle, {"stop": True})]), cycle)


WRONG: dict[str, dict[str, int]] = {
    "lane stride": {"lane_stride": 9},
    "words of a run": {"n0": 7},
    "rows, not columns": {"column": 0},
    "stride": {"stride1": 33},
    "step": {"step1": 2},
}


@functools.cache
def observed_case() -> tuple[Case, dict[str, NDArray[np.int64]], NDArray[np.uint8]]:
    case = case_of(NAME, column_store(X, 8, 8, n1=2, stride1=200, step1=1), cycles=700)
    return case, *lockstep_of(NAME).run(case.stimulus(), case.program.memory, case.table())


@pytest.mark.parametrize("what", WRONG)
def test_a_model_of_another_store_is_refused(what: str) -> None:
    case, observed, after = observed_case()
    lockstep_of(NAME).bench.check(expected(case, case.model())[0], observed)
    store = dataclasses.replace(case.program.rings[0][0], **WRONG[what])
    program = dataclasses.replace(case.program, rings=([store, LAST], []))
    other = dataclasses.replace(case, program=program)
    traces, memory = expected(other, other.model())
    with pytest.raises(LockstepError):
        lockstep_of(NAME).bench.check(traces, observed)
    assert (memory != after).any()


def test_a_model_of_other_sizes_is_refused() -> None:
    """Fewer words than there is room for is an error there; a byte more of each word, a lane more."""
    case, observed, _ = observed_case()
    geometry = engine_geometry(case.config)
    wider = {**geometry.targets, X: dataclasses.replace(geometry.targets[X], bytes=13)}
    for changes in ({"column_words": 7}, {"targets": wider}):
        wrong = dataclasses.replace(geometry, **changes)
        channel = HbmChannel(case.timing, beat_bytes=wrong.beat_bytes, end=MEMORY_BYTES)
        model = EngineModel(wrong, channel, case.program.rings, case.program.sizes, case.inputs, trace=True)
        model.run_until(case.cycles)
        with pytest.raises(LockstepError):
            lockstep_of(NAME).bench.check(expected(case, model)[0], observed)


PLANTED = {
    "a lane too few in memory": (r"lane == last_lane", r"lane == 4'ha"),
    "a lane too few of a piece": (r"lanes_left == 1'h1", r"lanes_left == 2'h2"),
    "two words change places": (r"piece_7\[7:0\], piece_6\[7:0\]", r"piece_6[7:0], piece_7[7:0]"),
    "a lane that ends with its beat straddles": (r"straddles = (\w+) > 4'h8", r"straddles = \1 >= 4'h8"),
}


@pytest.mark.campaign
@pytest.mark.parametrize("what", PLANTED)
def test_faults_in_rtl_are_seen(what: str) -> None:
    def plant(verilog: str) -> str:
        altered, count = re.subn(*PLANTED[what], verilog)
        assert count == 1
        return altered

    case, _, _ = observed_case()
    faulty = PrefetchLockstep.of(case.config, alter=plant)
    observed, _ = faulty.run(case.stimulus(), case.program.memory, case.table())
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        faulty.bench.check(expected(case, case.model())[0], observed)
