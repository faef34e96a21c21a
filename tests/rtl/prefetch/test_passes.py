"""Bodies of rings, which a run goes over for each of its passes, in lockstep with the cycle model, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor
from podweave.spec.descriptors import PrefetchError
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, MEMORY_BYTES, STORE_BEGIN, Case
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep
from podweave.tb.lockstep.ports import LockstepError
from tests.rtl.prefetch.test_prefetch_lockstep import check, expected

NAME, PLAIN = "64_bases", "64_small"
LOADED = Descriptor(kind=LOAD, select=HostSelect.W, address=DATA_BEGIN, n0=10, n1=1, n2=1, step0=1)
STORED = dataclasses.replace(LOADED, kind=STORE, address=STORE_BEGIN)


def case_of(demand: list[Descriptor], body: tuple[int, int], passes: int, *, stride: int = 128, epochs: int = 2) -> Case:
    """A demand ring that is gone over as often."""
    case = directed_case(lockstep_of(NAME).config, demand, bases=(0, 0, 0), epochs_done=200, cycles=3000)
    turns: dict[str, Any] = {"passes": passes, "pass_epochs": epochs, "pass_stride": stride, "bodies": (body, (0, 0))}
    program = dataclasses.replace(case.program, turns=turns)
    tail = len(program.published[0]), 0
    return dataclasses.replace(case, program=program, inputs=dataclasses.replace(case.inputs, tail=tail, **turns))


def ring(*, lead: int = 1, body: int = 3, rest: int = 1) -> tuple[list[Descriptor], tuple[int, int]]:
    """A ring of two epochs before the body, two in it, and one behind; of each the first descriptors move."""
    found = [dataclasses.replace(LOADED, moves=1, tag=0)] * lead + [Descriptor(tag=1, last=1)]
    begin = len(found)
    kinds = [dataclasses.replace(STORED, moves=1), dataclasses.replace(LOADED, moves=1), LOADED]
    found += [dataclasses.replace(kinds[i % 3], tag=2) for i in range(body - 1)]
    found += [Descriptor(tag=3, last=1, turns=1)]
    end = len(found)
    found += [dataclasses.replace(STORED, moves=1, tag=2) for _ in range(rest)] + [Descriptor(tag=2, last=1)]
    return found, (begin, end)


@pytest.mark.parametrize(("lead", "body", "rest", "passes"), [(1, 3, 1, 4), (3, 1, 0, 5), (0, 5, 2, 2), (2, 4, 1, 1)])
def test_bodies_of_all_lengths(lead: int, body: int, rest: int, passes: int) -> None:
    descriptors, where = ring(lead=lead, body=body, rest=rest)
    model = check(NAME, case_of(descriptors, where, passes), 1)
    assert model.error is None
    assert len(model.events.complete[0]) == 2 + (passes - 1)
    assert model.reader.turns == [passes - 1, 0]


@pytest.mark.parametrize(
    ("what", "changes", "stride", "code"),
    [
        ("beyond, but not at first", {"moves": 1, "address": MEMORY_BYTES - 290}, 128, PrefetchError.BEYOND_MEMORY),
        ("does not move", {"moves": 0, "address": MEMORY_BYTES - 290}, 128, 0),
        ("the sum has a carry", {"moves": 1}, (1 << 34) - 1, PrefetchError.BEYOND_MEMORY),
        ("the base register counts too", {"moves": 1, "base_register": 2}, 128, 0),
        ("a NOP", {"moves": 1, "kind": NOP, "address": MEMORY_BYTES}, 1 << 33, 0),
        ("tags that do not rise", {"tag": 1}, 128, PrefetchError.TAG_ORDER),
    ],
)
def test_what_counts_is_the_sum(what: str, changes: dict[str, int], stride: int, code: int) -> None:
    descriptors, where = ring()
    descriptors = [dataclasses.replace(descriptor, moves=0) for descriptor in descriptors]
    descriptors[where[0] + 1] = dataclasses.replace(LOADED, **{"tag": 2, **changes})
    model = check(NAME, case_of(descriptors, where, 4, stride=stride), 2)
    assert (model.error.code if model.error else 0) == code


@pytest.mark.parametrize("flag", ["moves", "turns"])
def test_without_passes_their_bits_are_reserved(flag: str) -> None:
    case = directed_case(lockstep_of(PLAIN).config, [dataclasses.replace(LOADED, **{flag: 1}), Descriptor(last=1)], cycles=600)
    model = check(PLAIN, case, 1)
    assert model.error
    assert model.error.code == PrefetchError.UNKNOWN_KIND


def test_a_model_that_turns_otherwise_is_seen() -> None:
    descriptors, where = ring()
    case = case_of(descriptors, where, 4)
    observed, after = lockstep_of(NAME).run(case.stimulus(), case.program.memory, case.table())
    traces, memory = expected(case, case.model())
    assert lockstep_of(NAME).bench.check(traces, observed)
    np.testing.assert_array_equal(after, memory)
    for changes in ({"pass_stride": 136}, {"passes": 3}, {"bodies": ((where[0], where[1] + 1), (0, 0))}, {"pass_epochs": 150}):
        other = dataclasses.replace(case, inputs=dataclasses.replace(case.inputs, **changes))
        with pytest.raises(LockstepError):
            lockstep_of(NAME).bench.check(expected(other, other.model())[0], observed)


@pytest.mark.campaign
def test_a_fault_in_rtl_is_seen() -> None:
    """A ring makes one turn more."""

    def plant(verilog: str) -> str:
        old = "passes - 1'h1"
        assert old in verilog
        return verilog.replace(old, "passes")

    descriptors, where = ring()
    case = case_of(descriptors, where, 3)
    faulty = PrefetchLockstep.of(case.config, alter=plant)
    observed, _ = faulty.run(case.stimulus(), case.program.memory, case.table())
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        faulty.bench.check(expected(case, case.model())[0], observed)
