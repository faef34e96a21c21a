"""rtl.prefetch: whatever a descriptor says, an engine reads and writes nothing outside of MEMORY_BYTES."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.prefetch.words import Descriptor
from podweave.spec.descriptors import descriptor_layout
from podweave.tb.cases.prefetch_cases import DATA_BEGIN, Case, Program, random_case
from podweave.tb.cases.prefetch_engines import lockstep_of
from podweave.tb.cases.prefetch_lockstep import PrefetchLockstep, chip_data
from podweave.tb.cases.prefetch_rings import put_rings

FIELDS = {field.name: field for field in descriptor_layout().fields if not field.name.startswith("reserved")}
PLACES = ("address", "n0", "n1", "n2", "stride1", "stride2", "base_register", "lane_stride", "select", "column", "moves", "kind")
"""What decides where a descriptor reaches."""


def with_any_fields(rng: np.random.Generator, descriptor: Descriptor, end: int) -> Descriptor:
    """The same with one to three fields that say anything, or nearly reach the end of the memory."""
    changes: dict[str, int] = {}
    for name in rng.choice(PLACES if rng.random() < 0.8 else list(FIELDS), int(rng.integers(1, 4))):
        width = min(FIELDS[name].width, 63)
        value = int(rng.integers(0, 1 << int(rng.integers(1, width + 1)), dtype=np.uint64))
        if name == "address":
            value = int(rng.choice([value, end - int(rng.integers(0, 200)), end + int(rng.integers(0, 200)), DATA_BEGIN]))
        if FIELDS[name].signed:
            value -= (1 << width - 1) if rng.random() < 0.5 and value >= 1 << width - 1 else 0
            value = max(-(1 << width - 1), min(value, (1 << width - 1) - 1))
            value = -value if rng.random() < 0.5 else value
        changes[str(name)] = value
    return dataclasses.replace(descriptor, **changes)


def hostile_case(lockstep: PrefetchLockstep, seed: int) -> Case:
    """A random program of which many descriptors say anything, in front of memory that it must leave alone."""
    rng = np.random.default_rng([seed, 91])
    case = random_case(rng, lockstep.config, faults=False, cycles=3000, epochs=1, per_tag=10, size=300)
    end = 64 * int(rng.integers(0x4000 // 64, (1 << 17) // 64))
    first, second = (
        [with_any_fields(rng, each, end) if rng.random() < 0.12 else each for each in ring] for ring in case.program.rings
    )
    memory = case.program.memory.copy()
    put_rings(memory, (first, second))
    program = Program((first, second), case.program.sizes, memory, case.program.bases, case.program.turns)
    inputs = dataclasses.replace(case.inputs, memory_bytes=end, enable=True)
    return dataclasses.replace(case, program=program, inputs=inputs)


def reaches(observed: dict[str, NDArray[np.int64]], channel: str, beat: int) -> NDArray[np.int64]:
    """The first byte behind each burst that an engine asks for."""
    asked = (observed[f"m_axi_{channel}valid"].reshape(-1) == 1).nonzero()[0]
    begins, beats = (observed[f"m_axi_{channel}{name}"].reshape(-1)[asked] for name in ("addr", "len"))
    return begins + (beats + 1) * beat


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 400), marks=pytest.mark.campaign)])
@pytest.mark.parametrize("name", ["64_bases", pytest.param("128_columns", marks=pytest.mark.campaign)])
def test_random_descriptors(name: str, seeds: range) -> None:
    """In lockstep with the model, and by the addresses on the bus and the bytes of the memory alone."""
    lockstep, codes, bursts, beyond = lockstep_of(name), set(), 0, 0
    for seed in seeds:
        case = hostile_case(lockstep, seed)
        assert case.config.prefetch is not None
        beat, end = case.config.prefetch.data_width // 8, case.inputs.memory_bytes
        model = case.model()
        traces, memory = case.expected(model, functools.partial(chip_data, case.config.host_bits))
        observed, after = lockstep.run(case.stimulus(), case.program.memory, case.table(), seed=seed)
        for channel in ("ar", "aw"):
            found = reaches(observed, channel, beat)
            assert found.size == 0 or found.max() <= end, (seed, channel, hex(int(found.max())), hex(end))
            bursts += found.size
        np.testing.assert_array_equal(after[end:], case.program.memory[end:])
        np.testing.assert_array_equal(after, memory)
        lockstep.bench.check(traces, observed)
        codes.add(model.error.code if model.error else 0)
        starts = [each.address for ring in case.program.rings for each in ring if each.kind]
        beyond += sum(start >= end for start in starts)
    # Not all of them end at once, and many would reach beyond.
    assert bursts > 20 * len(seeds)
    assert beyond > len(seeds)
    assert len(codes) >= 2
