"""Prefetch engines that are stopped, and of which tags are cancelled, in any cycle: every port is as their cycle model has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor, Inputs
from podweave.spec.load_port import HostSelect
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, STORE_BEGIN, TIMINGS, Case
from podweave.tb.cases.prefetch_directed import directed_case
from podweave.tb.cases.prefetch_engines import ENGINES, lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep
from tests.rtl.prefetch.test_prefetch_lockstep import case_of, check, expected


def check_all(lockstep: PrefetchLockstep, cases: Sequence[Case]) -> list[EngineModel]:
    """Run cases in RTL, one after the other in one simulation, and in the model; returns the models."""
    models = [case.model() for case in cases]
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases], seed=0)
    for case, model, (observed, after) in zip(cases, models, ran, strict=True):
        traces, memory = expected(case, model)
        lockstep.bench.check(traces, observed)
        np.testing.assert_array_equal(after, memory)
    return models


@pytest.mark.parametrize("cycle", [160, 208, 244, 280])
def test_stop_with_a_burst_that_waits_for_its_address(cycle: int) -> None:
    """The memory takes one burst at a time. What it takes behind the stop makes no step, and holds up nothing."""
    load = Descriptor(kind=LOAD, select=HostSelect.W, address=DATA_BEGIN, n0=12, n1=1, n2=1, step0=1)
    loads = [dataclasses.replace(load, address=DATA_BEGIN + 512 * i, last=int(i == 3)) for i in range(4)]
    case = directed_case(lockstep_of("64_small").config, loads, timing=TIMINGS[4], cycles=600)
    model = check("64_small", dataclasses.replace(case, script=[(cycle, {"stop": True})]), 0)
    assert (model.issuer.reads, model.issuer.ar) == (0, None)
    assert model.quiet_from is not None


@pytest.mark.parametrize("name", [pytest.param("128_columns", marks=pytest.mark.more), "64_small"])
def test_stop_in_any_cycle(name: str) -> None:
    """Of loads, a store and descriptors that move nothing, whatever is on its way then; the engine is quiet when the model is."""
    lockstep = lockstep_of(name)
    load = Descriptor(kind=LOAD, select=HostSelect.W, address=DATA_BEGIN, n0=6, n1=1, n2=1, step0=1)
    nothing = Descriptor(kind=NOP)
    store = Descriptor(kind=STORE, select=HostSelect.W, address=STORE_BEGIN + 4, n0=5, n1=1, n2=1, step0=1)
    demand = [load, nothing, dataclasses.replace(load, address=DATA_BEGIN + 323, n0=3), nothing, store, nothing]
    prefetch = [dataclasses.replace(load, base=12, n0=2), nothing, dataclasses.replace(nothing, last=1)]
    demand.append(dataclasses.replace(load, base=20, n0=1, last=1))
    case = directed_case(lockstep.config, demand, prefetch, timing=TIMINGS[4], cycles=700)
    end = case.model(trace=False).run_until_quiet()
    assert 300 < end < 600
    models = check_all(lockstep, [dataclasses.replace(case, script=[(cycle, {"stop": True})]) for cycle in range(end + 2)])
    quiet = [model.quiet_from for model in models]
    # It is never long until it is.
    assert max(at - cycle for cycle, at in enumerate(quiet) if at is not None) < 120
    assert None not in quiet


def outcomes(case: Case, change: dict[str, Any]) -> int:
    """How many different ways a run goes for the prefetch ring and for tags, by when a change comes."""
    events = (changed_in(case, change, cycle).model(trace=False).events for cycle in range(20, 400, 10))
    return len({str((each.complete, each.ahead)) for each in events})


def changed_in(case: Case, change: dict[str, Any], cycle: int) -> Case:
    """With a change in one cycle, and what it changes as it is at first until then."""
    script = {at: {key: value for key, value in some.items() if key not in change} for at, some in case.script}
    script[cycle] = script.get(cycle, {}) | change
    first = {key: getattr(Inputs, key) for key in change}
    return dataclasses.replace(case, inputs=dataclasses.replace(case.inputs, **first), script=sorted(script.items()))


@pytest.mark.campaign
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("change", [{"stop": True}, {"cancel": 1}, {"enable": False}])
def test_changes_in_any_cycle_of_random_programs(name: str, change: dict[str, Any]) -> None:
    """Illegal ones, and faults of the memory, among them; of programs for which it matters when the change comes."""
    shape = {"cycles": 1200, "size": 100, "epochs": 2, "per_tag": 6}
    for faults in (False, True):
        drawn = (case_of(name, seed, faults=faults, **shape) for seed in range(50, 100))
        case = next(each for each in drawn if outcomes(each, change) >= 3)
        at = range(20, 1100, 1 if "stop" in change else 2)
        check_all(lockstep_of(name), [changed_in(case, change, cycle) for cycle in at])
