"""Random programs for prefetch engines on AXI, illegal ones and faults of the memory among them: every port in every cycle."""

from __future__ import annotations

import functools
from typing import cast

import numpy as np

from podweave.tb.cases.prefetch_cases import Case, random_case
from podweave.tb.cases.prefetch_engines import ENGINES, lockstep_of
from podweave.tb.cases.prefetch_lockstep import chip_data
from podweave.tb.lockstep.ports import LockstepError

from .case import Outcome, describe
from .choices import Choices


def run_engine(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Some runs of one engine; nothing outside of MEMORY_BYTES and of what descriptors may store is ever written."""
    name = str(rng.choice(list(ENGINES)))
    lockstep = lockstep_of(name)
    outcome.text = describe([], engine=name)
    cases: list[Case] = []
    for _ in rng.several(8, 33):
        # It draws as a generator of NumPy does.
        drawn = cast(np.random.Generator, rng)
        faults = bool(rng.integers(0, 3))
        size, epochs = int(rng.choice([100, 100, 300, 2000, 6000])), 1 + int(rng.integers(0, 4))
        # Rings have room for 64 descriptors: half of the programs may fill them.
        most = 60 // (epochs + 1)
        shape = {"size": size, "epochs": epochs, "per_tag": most if rng.integers(0, 2) else 1 + int(rng.integers(0, most))}
        cycles = int(rng.choice([3000, 6000, 12000]))
        case = random_case(drawn, lockstep.config, faults=faults, cycles=cycles, **shape)
        outcome.text += f"\n{case.program.rings}\n{case.inputs}\n{case.script}\n{case.timing}\n{case.errors}"
        cases.append(case)
    ran = lockstep.run_all([(case.stimulus(), case.program.memory, case.table()) for case in cases], seed=seed)
    for case, (observed, after) in zip(cases, ran, strict=True):
        model = case.model()
        traces, memory = case.expected(model, functools.partial(chip_data, case.config.host_bits))
        outcome.add(networks=1, transfers=sum(model.reader.index), cycles=case.cycles)
        try:
            outcome.add(compared=lockstep.bench.check(traces, observed))
        except LockstepError as error:
            outcome.failed("ports", str(error))
            return
        if not np.array_equal(memory, after):
            at = int(np.flatnonzero(memory != after)[0])
            outcome.failed("memory", f"byte {at:#x} of the memory should be {memory[at]}, and is {after[at]}")
