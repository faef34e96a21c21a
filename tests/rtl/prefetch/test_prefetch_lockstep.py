"""Prefetch engines on channels of HBM in lockstep with their cycle model: every port, every cycle, whatever goes wrong."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import DECERR, SLVERR, ErrorRange, HbmChannel
from podweave.golden.cycle.ports import PortTrace
from podweave.golden.cycle.prefetch.engine import STALLS, EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, STORE, Descriptor
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import (
    DATA_BEGIN,
    MEMORY_BYTES,
    STORE_BEGIN,
    Case,
    Program,
    engine_geometry,
    random_case,
)
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import ENGINES, MORE_ENGINES, lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep, chip_data
from podweave.tb.cases.prefetch_rings import RING_BASES, pack_descriptors, put_rings
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of


def case_of(name: str, seed: int, *, faults: bool, **shape: Any) -> Case:
    return random_case(np.random.default_rng([seed, faults]), lockstep_of(name).config, faults=faults, **shape)


def expected(case: Case, model: EngineModel) -> tuple[dict[str, PortTrace], NDArray[np.uint8]]:
    return case.expected(model, functools.partial(chip_data, case.config.host_bits))


def check(name: str, case: Case, seed: int) -> EngineModel:
    """Run a case in RTL and in the model; returns the model."""
    lockstep, model = lockstep_of(name), case.model()
    traces, memory = expected(case, model)
    observed, after = lockstep.run(case.stimulus(), case.program.memory, case.table(), seed=seed)
    assert lockstep.bench.check(traces, observed) > 20 * case.cycles
    np.testing.assert_array_equal(after, memory)
    return model


def plain_case(name: str, seed: int) -> Case:
    return case_of(name, seed, faults=False, epochs=3, per_tag=6)


@functools.cache
def telling_seeds(name: str) -> list[int]:
    """Of cases in which, together, everything is waited for; the first one waits for the bus and for room, and stores."""
    seeds: list[int] = []
    missing = {"first", *STALLS}
    for seed in range(200):
        events = plain_case(name, seed).model(trace=False).events
        happens = {cause for cause, cycles in events.stalls.items() if cycles}
        if {"bus", "buffer"} <= happens and events.write_beats > 40:
            happens.add("first")
        if missing & happens and ("first" in happens or "first" not in missing):
            seeds.append(seed)
            missing -= happens
        if not missing:
            return seeds
    raise AssertionError(f"{missing} did not come about")


@pytest.mark.parametrize("name", fast_of(ENGINES, "64_small", "64_bases", "64_links"))
def test_lockstep(name: str) -> None:
    for seed in telling_seeds(name):
        check(name, plain_case(name, seed), seed)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.more
def test_lockstep_with_faults(name: str) -> None:
    errors = []
    for seed in range(10):
        model = check(name, case_of(name, seed, faults=True, cycles=3000), seed)
        errors.append(model.error.code if model.error else 0)
    assert len(set(errors)) >= 4, errors


def later_case(case: Case, by: int) -> Case:
    """The same, ``by`` epochs later."""
    rings = [
        [dataclasses.replace(d, tag=d.tag + by, after=d.after + by * (d.after > 0)) for d in ring] for ring in case.program.rings
    ]
    program = dataclasses.replace(case.program, rings=(rings[0], rings[1]), memory=case.program.memory.copy())
    put_rings(program.memory, program.rings)
    late = ("epochs_done", "cancel")
    script = [(cycle, {k: v + by if k in late and v is not None else v for k, v in some.items()}) for cycle, some in case.script]
    inputs = dataclasses.replace(case.inputs, epochs_done=case.inputs.epochs_done + by)
    return dataclasses.replace(case, program=program, script=script, inputs=inputs)


@pytest.mark.parametrize("by", [0x5A5A, 0xA5A5, 0xFFE0])
def test_lockstep_of_late_epochs(by: int) -> None:
    """Every bit of a tag is something else than 0 somewhere; of cases in which one is cancelled, too."""
    found = 0
    for seed in range(30, 90):
        case = case_of("64_small", seed, faults=True, cycles=3000)
        if any(changes.get("cancel") is not None for _, changes in case.script):
            check("64_small", later_case(case, by), seed)
            found += 1
        if found == 2:
            return
    raise AssertionError("no case has a cancelled tag")


X_WORD = Descriptor(select=HostSelect.X, address=DATA_BEGIN, n0=4, n1=1, n2=1, step0=1, tag=3)
BESIDE = dataclasses.replace(X_WORD, beside=1)


def beside_case() -> Case:
    demand = [
        dataclasses.replace(BESIDE, kind=LOAD, base=8),
        dataclasses.replace(BESIDE, kind=STORE, base=8, after=1, address=1 << 16),
        dataclasses.replace(BESIDE, kind=LOAD, base=8, after=1),
        dataclasses.replace(X_WORD, kind=LOAD, base=16),
        dataclasses.replace(BESIDE, kind=LOAD, base=24, last=1),
    ]
    prefetch = [dataclasses.replace(BESIDE, kind=LOAD, base=32, after=2, last=1)]
    case = directed_case(lockstep_of("64_bases").config, demand, prefetch, bases=(0, 0, 0), cycles=2000)
    inputs = dataclasses.replace(case.inputs, gap=False)
    steps: list[tuple[int, dict[str, Any]]] = [(400, {"epochs_done": 1}), (800, {"epochs_done": 2, "enable": False})]
    steps += [(1000, {"enable": True}), (1200, {"epochs_done": 3}), (1400, {"gap": True})]
    return dataclasses.replace(case, inputs=inputs, script=steps)


def test_beside_an_epoch() -> None:
    """Loads and a store of X banks with ``beside`` wait for ``after`` alone; what has none waits for its epoch and the gap, and so
    does all behind it in its ring. The store is over before the load behind it begins."""
    model = check("64_bases", beside_case(), 0)
    log: dict[str, list[Any]] = model.agenda.log or {}
    begins = sorted((item.begin, item.descriptor.base) for (item,) in log["items"])
    store, behind = begins[1:3]
    assert [base for _, base in begins] == [8, 8, 8, 32, 16, 24]
    assert store[0] < behind[0] - 20
    assert [at // 200 for at, _ in begins] == [0, 2, 2, 5, 7, 7]


@pytest.mark.parametrize(
    ("name", "select", "code"),
    [("64_bases", HostSelect.P, 15), ("64_bases", HostSelect.W, 15), ("64_bases", HostSelect.X, 0), ("64_small", HostSelect.X, 6)],
)
def test_beside_of_what_cannot_be(name: str, select: HostSelect, code: int) -> None:
    """Only X banks, and only where they have parts."""
    config = lockstep_of(name).config
    bad = dataclasses.replace(BESIDE, kind=LOAD, select=select, tag=0, last=1)
    model = check(name, directed_case(config, [bad], bases=(0,) * (3 if name == "64_bases" else 0), cycles=500), 0)
    assert (model.error.code if model.error else 0) == code


@pytest.mark.parametrize("ring", [0, 1])
@pytest.mark.more
def test_a_store_that_fails_completes_nothing_of_its_ring(ring: int) -> None:
    """The first error is that of its first burst that failed; the other ring goes on."""
    store = Descriptor(kind=STORE, select=HostSelect.W, address=STORE_BEGIN + 8, n0=40, n1=1, n2=1, step0=1, last=1)
    load = dataclasses.replace(store, kind=LOAD, address=DATA_BEGIN, unit=1)
    failing = dataclasses.replace(store, address=STORE_BEGIN + 0x1000), dataclasses.replace(store, tag=1)
    rings = (failing, [load]) if ring == 0 else ([load], failing)
    errors = tuple(ErrorRange(STORE_BEGIN + at, STORE_BEGIN + at + 8, code) for at, code in ((0x1058, SLVERR), (0x1090, DECERR)))
    case = directed_case(lockstep_of("64_small").config, *rings, epochs_done=1, cycles=1500, errors=errors)
    model = check("64_small", case, ring)
    assert model.error
    assert (model.error.ring, model.error.tag) == (ring, 0)
    assert [len(complete) for complete in model.events.complete] == [ring, 1 - ring]


@pytest.mark.more
def test_stores_from_any_byte_on() -> None:
    """Pieces of each size at each place in a beat, several words in a run; runs that end where others begin."""
    stores = []
    for select, n0 in ((HostSelect.W, 5), (HostSelect.X, 4), (HostSelect.P, 2)):
        for offset in range(8):
            begin = STORE_BEGIN + 0x200 * len(stores) + offset
            loops = {"n0": n0, "n1": 3, "n2": 1, "step0": 1, "step1": 2, "stride1": 37}
            stores.append(Descriptor(kind=STORE, select=select, address=begin, base=offset, **loops))
    case = directed_case(lockstep_of("64_small").config, [*stores, Descriptor(last=1)], cycles=4000)
    model = check("64_small", case, 2)
    assert model.error is None
    assert len(model.events.complete[0]) == 1


@pytest.mark.more
def test_rings_that_end_anywhere() -> None:
    """Both are misaligned, so nothing is read: addresses of all bits, of which the demand ring's is reported."""
    rng, lockstep = np.random.default_rng(5), lockstep_of("64_small")
    cases = []
    for _ in range(40):
        case = directed_case(lockstep.config, [X_WORD], [X_WORD], cycles=80)
        base = tuple(int(rng.integers(1 << 28)) * 64 + int(rng.integers(1, 64)) for _ in range(2))
        cases.append(dataclasses.replace(case, inputs=dataclasses.replace(case.inputs, base=base, memory_bytes=1 << 34)))
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases])
    for case, (observed, _) in zip(cases, ran, strict=True):
        model = case.model()
        assert model.error
        assert (model.error.ring, model.error.address) == (0, case.inputs.base[0])
        assert lockstep.bench.check(expected(case, model)[0], observed)


@pytest.mark.more
def test_words_of_any_number_are_prefetched() -> None:
    """As many as have all bits in turn, of which the run sees the first: they are counted when the load begins."""
    lockstep = lockstep_of("64_small")
    rng, cases = np.random.default_rng(6), []
    for bit in range(24):
        loops = {"n0": 1, "n1": 1 << bit // 2, "n2": 1 << (bit + 1) // 2, "step0": 0}
        many = dataclasses.replace(X_WORD, kind=LOAD, select=HostSelect.W, last=1, **loops)
        case = directed_case(lockstep.config, [], [many], cycles=250, seed=int(rng.integers(100)))
        cases.append(dataclasses.replace(case, inputs=dataclasses.replace(case.inputs, gap=True, enable=True)))
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases])
    for bit, (case, (observed, _)) in enumerate(zip(cases, ran, strict=True)):
        assert observed["unconsumed"][-1] == 1 << bit
        assert lockstep.bench.check(expected(case, case.model())[0], observed)


def test_rings_wrap_around() -> None:
    """Descriptors behind the end of a ring come from its begin: as often as the tail says, the same ones."""
    name = "64_small"
    case = case_of(name, 1, faults=False, epochs=1, per_tag=2)
    again = [dataclasses.replace(d, tag=0, after=0, last=0) for d in case.program.rings[0] if d.kind < 2] * 20
    size = len(again) // 20
    memory = case.program.memory.copy()
    memory[RING_BASES[0] : RING_BASES[0] + 64 * size] = pack_descriptors(again[:size]).reshape(-1)
    program = Program((again, []), (size, 1), memory)
    inputs = dataclasses.replace(case.inputs, tail=(3 * size + 1, 0), gap=True, enable=True)
    script = [(900, {"tail": (7 * size + 1, 0)})]
    case = dataclasses.replace(case, program=program, inputs=inputs, script=script, cycles=4000)
    model = check(name, case, 0)
    assert model.reader.index[0] == 7 * size + 1


@pytest.mark.campaign
@pytest.mark.parametrize("name", ENGINES | MORE_ENGINES)
def test_campaign(name: str) -> None:
    for seed in range(1000, 1060):
        rng = np.random.default_rng(seed)
        size, cycles = int(rng.choice([300, 2000, 6000])), int(rng.choice([5000, 12000]))
        check(name, case_of(name, seed, faults=seed % 2 == 1, size=size, cycles=cycles), seed)


@functools.cache
def observed_case() -> tuple[Case, dict[str, NDArray[np.int64]], dict[str, PortTrace]]:
    name = "64_small"
    case = plain_case(name, telling_seeds(name)[0])
    return case, lockstep_of(name).run(case.stimulus(), case.program.memory, case.table())[0], expected(case, case.model())[0]


@pytest.mark.campaign
def test_a_planted_fault_is_seen() -> None:
    """An engine that wants one more credit than a burst has beats does all that it should, only later."""

    def plant(verilog: str) -> str:
        assert verilog.count("fits = credits >= burst_beats;") == 1
        return verilog.replace("fits = credits >= burst_beats;", "fits = credits > burst_beats;")

    case, _, traces = observed_case()
    faulty = PrefetchLockstep.of(case.config, alter=plant)
    observed, after = faulty.run(case.stimulus(), case.program.memory, case.table())
    np.testing.assert_array_equal(after, expected(case, case.model())[1])
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        faulty.bench.check(traces, observed)


@pytest.mark.campaign
@pytest.mark.parametrize("ring", [0, 1])
def test_a_gate_that_does_not_know_beside_is_seen(ring: int) -> None:
    def plant(verilog: str) -> str:
        changed, count = re.subn(rf"(assign banks_{ring} = \w+) & \w+;", r"\1;", verilog)
        assert count == 1
        return changed

    case = beside_case()
    faulty = PrefetchLockstep.of(case.config, alter=plant)
    observed, _ = faulty.run(case.stimulus(), case.program.memory, case.table())
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        faulty.bench.check(expected(case, case.model())[0], observed)


WRONG: dict[str, dict[str, int]] = {
    "buffer": {"buffer_beats": 17},
    "outstanding": {"outstanding": 3},
    "burst": {"max_burst": 4},
    "held descriptors": {"descriptors": 3},
    "completion": {"host_levels": 2},
    "reads": {"read_latency": 8},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_model_of_another_engine_is_refused(what: str) -> None:
    """One size is not what it is: no smaller difference of behaviour is possible."""
    case, observed, _ = observed_case()
    geometry = dataclasses.replace(engine_geometry(case.config), **WRONG[what])
    channel = HbmChannel(case.timing, beat_bytes=geometry.beat_bytes, end=MEMORY_BYTES)
    model = EngineModel(geometry, channel, case.program.rings, case.program.sizes, case.inputs, trace=True)
    for cycle, changes in case.script:
        model.run_until(cycle)
        model.change(**changes)
    model.run_until(case.cycles)
    with pytest.raises(LockstepError):
        lockstep_of("64_small").bench.check(expected(case, model)[0], observed)


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    _, observed, traces = observed_case()
    bench = lockstep_of("64_small").bench
    assert sorted(traces) == sorted(port.name for port in bench.outputs)
    for port in traces:
        values, known = observed[port].copy(), traces[port].known
        cycle = int(np.flatnonzero(known.reshape(len(known), -1).all(axis=1))[-1])
        values[(cycle, -1) if values.ndim == 2 else cycle] ^= 1
        with pytest.raises(LockstepError, match=f"at cycle {cycle}, port {port}"):
            bench.check(traces, {**observed, port: values})


def test_runs_that_end_inside_of_a_store() -> None:
    """Several in one simulation, a reset between them: each leaves the beats in memory that W took, and no more."""
    lockstep = lockstep_of("64_small")
    store = Descriptor(kind=STORE, select=HostSelect.X, last=1, address=STORE_BEGIN, n0=40, n1=1, n2=1, step0=1)
    whole = directed_case(lockstep.config, [store], cycles=600)
    traces, stored = expected(whole, whole.model())
    taken = np.flatnonzero(traces["m_axi_wvalid"].value & traces["m_axi_wready"].value)
    assert len(taken) > 8
    ends = [int(taken[beat]) + more for beat in (0, 1, 2, 5, len(taken) - 1) for more in (0, 1)]
    cases = [dataclasses.replace(whole, cycles=end) for end in ends]
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases])
    for case, (observed, after) in zip(cases, ran, strict=True):
        traces, memory = expected(case, case.model())
        assert lockstep.bench.check(traces, observed)
        np.testing.assert_array_equal(after, memory)
        behind = STORE_BEGIN + 8 * int((taken < case.cycles).sum())
        np.testing.assert_array_equal(memory[:behind], stored[:behind])
        np.testing.assert_array_equal(memory[behind:], case.program.memory[behind:])
