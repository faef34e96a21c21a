"""Each error of a prefetch engine: of either ring, while nothing else is under way, and while others are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from podweave.golden.cycle.memory.hbm import DECERR, SLVERR, ErrorRange
from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor
from podweave.spec.descriptors import DESCRIPTOR_BYTES, PrefetchError
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, MEMORY_BYTES, STORE_BEGIN, TIMINGS, Case
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import lockstep_of
from podweave.tb.cases.prefetch_rings import RING_BASES
from tests.rtl.prefetch.test_prefetch_lockstep import expected

pytestmark = pytest.mark.more

NAME, BASES = "64_whole", (0, 0, 0)
ENGINES = [(NAME, code) for code in PrefetchError if code]
# Those of the memory, without columns.
ENGINES += [("64_bases", code) for code in PrefetchError if PrefetchError.READ_SLVERR <= code <= PrefetchError.WRITE_DECERR]
PUBLISHED = 200
"""Cycle from which on the ring that fails has anything, while a load of the other ring is under way."""
GOOD = Descriptor(kind=LOAD, select=HostSelect.W, address=DATA_BEGIN, n0=6, n1=1, n2=1, step0=1, tag=1, last=1)
STORED = dataclasses.replace(GOOD, kind=STORE, address=STORE_BEGIN)
LONG = dataclasses.replace(GOOD, address=DATA_BEGIN + 0x2000, n0=60, n1=8, step1=-59, stride1=240, tag=0)


@dataclass(frozen=True)
class Failure:
    """``ring``: descriptors of the ring that fails, by the last one; ``failing``: the byte in memory of the beat that does, with
    its response; ``script``: what is told in the cycle in which the ring is published."""

    ring: list[Descriptor]
    failing: tuple[int, int] | None = None
    script: dict[str, Any] = field(default_factory=dict)
    misaligned: int = 0
    first: bool = False
    """The ring that fails begins, and the other one goes on behind it: beats come in the order in which they are read."""

    @staticmethod
    def of(**changes: int) -> Failure:
        return Failure([dataclasses.replace(GOOD, **changes)])


def failures(long: bool) -> dict[PrefetchError, Failure]:
    """``long``: of stores, of which nothing is under way beside them but themselves, those that go on for long."""
    store = dataclasses.replace(STORED, n0=60, n1=8, step1=-59, stride1=240) if long else STORED
    found = {
        PrefetchError.READ_SLVERR: Failure([GOOD], (DATA_BEGIN, SLVERR), first=True),
        PrefetchError.READ_DECERR: Failure([GOOD], (DATA_BEGIN, DECERR), first=True),
        PrefetchError.WRITE_SLVERR: Failure([store], (STORE_BEGIN, SLVERR)),
        PrefetchError.WRITE_DECERR: Failure([store], (STORE_BEGIN, DECERR)),
        # The place of the descriptor, which is another one in each ring, is that of the error.
        PrefetchError.DESCRIPTOR_RESPONSE: Failure([GOOD], (0, SLVERR)),
        PrefetchError.UNKNOWN_KIND: Failure.of(kind=7),
        PrefetchError.ZERO_LENGTH: Failure.of(n1=0),
        PrefetchError.BEYOND_MEMORY: Failure.of(address=MEMORY_BYTES - 23),
        PrefetchError.MISALIGNED: Failure([GOOD], misaligned=8),
        PrefetchError.BAD_TARGET: Failure.of(base=59),
        PrefetchError.TAG_ORDER: Failure([Descriptor(kind=NOP, tag=2), GOOD]),
        PrefetchError.CANCELLED: Failure([GOOD], script={"cancel": GOOD.tag}),
        PrefetchError.BAD_BASE: Failure.of(base_register=4),
        PrefetchError.BAD_COLUMN: Failure.of(column=1),
        PrefetchError.BAD_BESIDE: Failure.of(beside=1),
    }
    assert set(found) == set(PrefetchError) - {PrefetchError.NONE}
    return found


def case_of(name: str, failure: Failure, which: int, *, busy: bool) -> Case:
    rings: list[list[Descriptor]] = [[], []]
    rings[which] = failure.ring
    # A store begins when all else is through.
    if busy and failure.ring[-1].kind != STORE:
        rings[1 - which] = [LONG]
    place = RING_BASES[which] + DESCRIPTOR_BYTES * (len(failure.ring) - 1)
    errors = ()
    if failure.failing:
        at = failure.failing[0] or place
        errors = (ErrorRange(at, at + 1, failure.failing[1]),)
    case = directed_case(lockstep_of(name).config, *rings, bases=BASES, cycles=2600, timing=TIMINGS[3], errors=errors)
    base = list(RING_BASES)
    base[which] += failure.misaligned
    both = len(rings[0]), len(rings[1])
    alone = (both[0], 0), (0, both[1])
    inputs = dataclasses.replace(case.inputs, base=(base[0], base[1]), tail=(0, 0) if failure.first else alone[1 - which])
    script = [(PUBLISHED, {"tail": alone[which] if failure.first else both, **failure.script}), (PUBLISHED + 2, {"tail": both})]
    return dataclasses.replace(case, inputs=inputs, script=script)


def under_way(model: EngineModel) -> list[int]:
    """Rings of what has begun before the error is there, and takes steps behind it."""
    assert model.error
    log: dict[str, list[Any]] = model.agenda.log or {}
    return [item.ring for (item,) in log.get("items", []) if item.begin < model.error.cycle < item.last_step]


@pytest.mark.parametrize(("name", "code"), ENGINES, ids=[f"{name}-{code.name}" for name, code in ENGINES])
def test_each_error_of_either_ring(name: str, code: PrefetchError) -> None:
    cases, told = [], []
    for busy in (False, True):
        for which in (0, 1):
            failure = failures(long=busy)[code]
            cases.append(case_of(name, failure, which, busy=busy))
            told.append((failure, which, busy))
    lockstep = lockstep_of(name)
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases])
    for case, (failure, which, busy), (observed, after) in zip(cases, told, ran, strict=True):
        model = case.model()
        traces, memory = expected(case, model)
        assert lockstep.bench.check(traces, observed) > 20 * case.cycles
        np.testing.assert_array_equal(after, memory)
        in_order = 0 if code in (PrefetchError.DESCRIPTOR_RESPONSE, PrefetchError.MISALIGNED) else GOOD.tag
        address = RING_BASES[which] + failure.misaligned + DESCRIPTOR_BYTES * (len(failure.ring) - 1)
        if failure.failing:
            address = failure.failing[0] or address
        error = {port: int(observed[port][-1]) for port in ("error", "error_ring", "error_tag", "error_address")}
        assert error == {"error": code, "error_ring": which, "error_tag": in_order, "error_address": address}
        # Of the other ring, the tag is complete; of this one, none.
        done = [int(observed[f"{ring}_complete"][-1]) for ring in ("demand", "prefetch")]
        stores = failure.ring[-1].kind == STORE
        assert (done[which], done[1 - which]) == (0, int(busy and not stores))
        others = set(under_way(model)) - {which}
        assert others == ({1 - which} if busy and not stores else set())
        assert not stores or under_way(model) == [which] * busy
