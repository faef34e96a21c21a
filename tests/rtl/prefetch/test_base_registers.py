"""Base registers: what is added to the addresses of loads and stores, in lockstep with the cycle model, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from podweave.golden.cycle.memory.hbm import HbmChannel
from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor
from podweave.spec.descriptors import PrefetchError
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, MEMORY_BYTES, STORE_BEGIN, Case, engine_geometry
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep
from podweave.tb.lockstep.ports import LockstepError
from tests.rtl.prefetch.test_prefetch_lockstep import check, expected

NAME, PLAIN = "64_bases", "64_small"
BASES = 0x40, 1 << 33, (1 << 34) - 1
"""Of addresses of 34 bits: a few bytes, far beyond the memory, and all ones."""
GOOD = Descriptor(kind=LOAD, select=HostSelect.W, address=DATA_BEGIN, n0=10, n1=1, n2=1, step0=1)
BYTES = 40
"""Of `GOOD`, in memory."""


def case_of(*descriptors: Descriptor, name: str = NAME) -> Case:
    bases = BASES if name == NAME else ()
    return directed_case(lockstep_of(name).config, [*descriptors, Descriptor(last=1)], bases=bases, cycles=600)


CODES: dict[str, tuple[dict[str, int], int]] = {
    "none": ({}, 0),
    "at the end": ({"base_register": 1, "address": MEMORY_BYTES - BYTES - 0x40}, 0),
    "one beyond": ({"base_register": 1, "address": MEMORY_BYTES - BYTES - 0x3F}, PrefetchError.BEYOND_MEMORY),
    "address alone is beyond": ({"base_register": 1, "address": MEMORY_BYTES}, PrefetchError.BEYOND_MEMORY),
    "base is beyond": ({"base_register": 2}, PrefetchError.BEYOND_MEMORY),
    # The sum is small only if its bit 34 is forgotten.
    "carry": ({"base_register": 3, "address": DATA_BEGIN + 1}, PrefetchError.BEYOND_MEMORY),
    "high bit": ({"base_register": 1, "address": 1 << 34 | DATA_BEGIN}, PrefetchError.BEYOND_MEMORY),
    "low by itself": ({"base_register": 1, "address": 0, "n1": 2, "stride1": -0x40}, 0),
    "too low": ({"base_register": 1, "address": 0, "n1": 2, "stride1": -0x41}, PrefetchError.BEYOND_MEMORY),
    "store": ({"base_register": 1, "kind": STORE, "address": STORE_BEGIN}, 0),
    "store beyond": ({"base_register": 2, "kind": STORE, "address": STORE_BEGIN}, PrefetchError.BEYOND_MEMORY),
    "no such register": ({"base_register": 4}, PrefetchError.BAD_BASE),
    "no such register, store": ({"base_register": 15, "kind": STORE}, PrefetchError.BAD_BASE),
    "two errors": ({"base_register": 4, "address": MEMORY_BYTES}, PrefetchError.BEYOND_MEMORY),
    "two others": ({"base_register": 4, "unit": 2}, PrefetchError.BAD_TARGET),
    "nop": ({"base_register": 4, "kind": NOP}, 0),
}


@pytest.mark.parametrize("what", CODES)
def test_the_sum_is_what_counts(what: str) -> None:
    changes, code = CODES[what]
    model = check(NAME, case_of(GOOD, dataclasses.replace(GOOD, **changes)), 1)
    assert (model.error.code if model.error else 0) == code
    assert model.events.complete[0] == [] if code else len(model.events.complete[0]) == 1


def test_a_bad_base_counts_for_the_order_of_tags() -> None:
    """As other errors of what a descriptor says; a smaller tag behind it is one more, and it is reported before."""
    bad = dataclasses.replace(GOOD, base_register=9)
    for ring, code in (
        ([dataclasses.replace(bad, tag=1), GOOD], PrefetchError.BAD_BASE),
        ([dataclasses.replace(GOOD, tag=1), bad], PrefetchError.TAG_ORDER),
    ):
        case = directed_case(lockstep_of(NAME).config, ring, bases=BASES, epochs_done=1, cycles=600)
        model = check(NAME, case, 2)
        assert model.error
        assert model.error.code == code
        assert model.reader.checker.previous_tag(0) == 1


@pytest.mark.parametrize("kind", [LOAD, NOP])
def test_without_base_registers_their_number_is_reserved(kind: int) -> None:
    model = check(PLAIN, case_of(dataclasses.replace(GOOD, kind=kind, base_register=1), name=PLAIN), 1)
    assert model.error
    assert model.error.code == PrefetchError.UNKNOWN_KIND


def all_registers() -> Case:
    """Loads and stores by every register, with registers that differ in their bytes of a beat."""
    config, bases = lockstep_of(NAME).config, (0x123, 0x45, 0x1006)
    moves = [
        dataclasses.replace(GOOD, kind=kind, address=begin - base, base_register=number, base=10 * number, n0=5)
        for number, base in enumerate((0, *bases))
        for kind, begin in ((LOAD, DATA_BEGIN + 100 * number), (STORE, STORE_BEGIN + 100 * number))
    ]
    return directed_case(config, [*moves, Descriptor(last=1)], bases=bases, cycles=2000)


def test_planted_faults_are_seen() -> None:
    case = all_registers()
    traces, memory = expected(case, case.model())
    observed, after = lockstep_of(NAME).run(case.stimulus(), case.program.memory, case.table())
    assert lockstep_of(NAME).bench.check(traces, observed) > 0
    np.testing.assert_array_equal(after, memory)
    # A model whose registers hold something else, or that adds none.
    for bases in ((0x124, 0x45, 0x1006), (0x123, 0x45, 0x1007), ()):
        other = dataclasses.replace(case, inputs=dataclasses.replace(case.inputs, bases=bases))
        with pytest.raises(LockstepError):
            lockstep_of(NAME).bench.check(expected(case, other.model())[0], observed)
    # A model of an engine with one register less refuses what this one does.
    geometry = dataclasses.replace(engine_geometry(case.config), base_registers=2)
    channel = HbmChannel(case.timing, beat_bytes=geometry.beat_bytes, end=MEMORY_BYTES)
    model = EngineModel(geometry, channel, case.program.rings, case.program.sizes, case.inputs, trace=True)
    model.run_until(case.cycles)
    assert model.error
    assert model.error.code == PrefetchError.BAD_BASE
    with pytest.raises(LockstepError):
        lockstep_of(NAME).bench.check(expected(case, model)[0], observed)


@pytest.mark.campaign
def test_a_fault_in_rtl_is_seen() -> None:
    """Base register 2 is taken for 1."""

    def plant(verilog: str) -> str:
        assert verilog.count("bases[67:34]") == 1
        return verilog.replace("bases[67:34]", "bases[33:0]")

    case = all_registers()
    faulty = PrefetchLockstep.of(case.config, alter=plant)
    observed, _ = faulty.run(case.stimulus(), case.program.memory, case.table())
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        faulty.bench.check(expected(case, case.model())[0], observed)
