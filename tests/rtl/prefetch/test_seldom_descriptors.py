"""Descriptors that random programs do not have, each by hand: lengths of rows, stores ahead, loops that are one step in place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, STORE, Descriptor
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, STORE_BEGIN, Case
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep, chip_data
from tests.rtl.prefetch import test_column_stores
from tests.rtl.prefetch.test_prefetch_lockstep import expected

pytestmark = pytest.mark.more

NAME, BASES = "64_whole", (0, 0, 0)
X, W, P, LENGTHS = HostSelect.X, HostSelect.W, HostSelect.P, HostSelect.LENGTHS


def run(case: Case, lockstep: PrefetchLockstep) -> tuple[EngineModel, dict[str, NDArray[np.int64]], NDArray[np.uint8]]:
    """Every port in every cycle; returns the model, all ports, and the memory afterwards."""
    model = case.model()
    traces, memory = expected(case, model)
    observed, after = lockstep.run(case.stimulus(), case.program.memory, case.table(), seed=3)
    assert lockstep.bench.check(traces, observed) > 20 * case.cycles
    np.testing.assert_array_equal(after, memory)
    assert model.error is None
    return model, observed, after


def test_lengths_of_rows_are_loaded_by_either_ring() -> None:
    config = lockstep_of(NAME).config
    stride = memory_stride(config, LENGTHS)
    load = Descriptor(kind=LOAD, select=LENGTHS, n0=5, n1=2, n2=1, step0=1, step1=-2, stride1=7 * stride + 1, last=1)
    loads = [
        dataclasses.replace(load, address=DATA_BEGIN + 3, base=4),
        dataclasses.replace(load, address=DATA_BEGIN + 0x801, base=8, unit=1, tag=1),
    ]
    case = directed_case(config, loads[:1], loads[1:], bases=BASES, cycles=500)
    _, observed, _ = run(case, lockstep_of(NAME))
    writes = (observed["host_valid"] == 1) & (observed["host_write"] == 1)
    assert set(observed["host_select"][writes].tolist()) == {LENGTHS}
    found = {}
    for unit, address, word in zip(*(observed[name][writes] for name in ("host_unit", "host_address", "host_data")), strict=True):
        found[int(unit), int(address)] = word.astype("<u4").tobytes()[:stride]
    for d in loads:
        for run_number in range(2):
            # The second run begins two words before the last of the first: 4 to 8, then 6 to 10.
            for i in range(5):
                at = d.address + run_number * d.stride1 + i * stride
                word = d.base + 2 * run_number + i
                if run_number or i < 2:
                    assert found.pop((d.unit, word)) == case.program.memory[at : at + stride].tobytes()
    assert not found


STORE_X = Descriptor(kind=STORE, select=X, address=STORE_BEGIN + 5, n0=1, n1=1, n2=1, unit=1, last=1)
STORES = {
    "loop 2 alone": dataclasses.replace(STORE_X, n2=4, base=9, step2=-3, stride2=41),
    "loop 2 alone, of words of two beats": dataclasses.replace(STORE_X, select=P, n2=3, base=2, step2=5, stride2=-64),
    "loop 2 in place": dataclasses.replace(STORE_X, n0=3, n2=3, base=1, step0=1, step2=2, stride2=0),
    "all in place": dataclasses.replace(STORE_X, select=W, n1=2, n2=2, base=3, step1=1, step2=4),
    "several loops": dataclasses.replace(STORE_X, select=P, n0=2, n1=2, n2=2, base=6, step0=1, step1=7, step2=-4, stride1=90),
}


def stored_by_hand(case: Case, d: Descriptor) -> NDArray[np.uint8]:
    """Loop by loop, word by word, beat by beat, as the description of descriptors says."""
    memory, bits = case.program.memory.copy(), case.config.host_bits
    stride = memory_stride(case.config, HostSelect(d.select))
    begin, word = d.address, d.base
    for number in range(d.n1 * d.n2):
        for j in range(d.n0):
            for beat in range(-(-stride * 8 // bits)):
                where = (np.array([value]) for value in (d.unit, word, beat))
                # What only fills the last piece is stored with it.
                count = min(stride - beat * bits // 8, bits // 8)
                at = begin + j * stride + beat * bits // 8
                memory[at : at + count] = chip_data(bits, d.select, *where)[0, :count]
            word += d.step0 if j < d.n0 - 1 else 0
        inner = (number + 1) % d.n1
        begin += d.stride1 if inner else d.stride2
        word += d.step1 if inner else d.step2
    return memory


@pytest.mark.parametrize("ring", [0, 1])
@pytest.mark.parametrize("what", STORES)
def test_stores_of_seldom_loops_by_hand(what: str, ring: int) -> None:
    """By the prefetch ring, too; there as here, a bank that belongs to an epoch is read when that is over."""
    store, done = dataclasses.replace(STORES[what], tag=1), 300
    case = directed_case(lockstep_of(NAME).config, *([], [store]) if ring else ([store], []), bases=BASES, cycles=900)
    case = dataclasses.replace(case, script=[(done, {"epochs_done": 1})])
    model, observed, after = run(case, lockstep_of(NAME))
    np.testing.assert_array_equal(after, stored_by_hand(case, store))
    assert model.agenda.log is not None
    ((item,),) = model.agenda.log["items"]
    assert (item.begin > done) == (store.select in (X, P))
    assert [int(observed[f"{name}_complete"][-1]) for name in ("demand", "prefetch")] == [1 - ring, ring]


def test_loads_of_wide_words_from_any_byte() -> None:
    """Pieces as wide as a beat of 64 bytes, which lie in two of them, and the rest of their words."""
    lockstep = test_column_stores.lockstep_of("512")
    stride = memory_stride(lockstep.config, P)
    offsets = (0, 1, 2, 31, 32, 33, 62, 63)
    loads = [
        Descriptor(kind=LOAD, select=P, address=DATA_BEGIN + 0x400 * i + offset, n0=2, n1=1, n2=1, base=2 * i, step0=1)
        for i, offset in enumerate(offsets)
    ]
    case = directed_case(lockstep.config, [*loads, Descriptor(last=1)], cycles=700)
    _, observed, _ = run(case, lockstep)
    writes = (observed["host_valid"] == 1) & (observed["host_write"] == 1)
    found: dict[int, bytes] = {}
    for address, piece in zip(observed["host_address"][writes].tolist(), observed["host_data"][writes], strict=True):
        found[address] = found.get(address, b"") + piece.astype("<u4").tobytes()
    assert sorted(found) == [*range(2 * len(loads))]
    for d in loads:
        for i in range(2):
            memory = case.program.memory[d.address + i * stride : d.address + (i + 1) * stride].tobytes()
            assert found[d.base + i][:stride] == memory
