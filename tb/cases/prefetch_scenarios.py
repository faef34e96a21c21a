"""Rings of descriptors for tests of a prefetch engine, and the verdict on what it made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import (
    ArrayConfig,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
)
from podweave.spec.descriptors import (
    DESCRIPTOR_BYTES,
    EPOCH_BANKS,
    STORABLE,
    DescriptorKind,
    loadable,
    memory_stride,
    word_bytes,
    words_of,
)
from podweave.spec.load_port import HostSelect

from ..benches.prefetch_bench import MEMORY_BYTES, PrefetchBench, Recording, Scenario, start_phases
from ..lockstep.axi_checker import Limits, check_buffer, check_protocol
from ..lockstep.prefetch_expected import Descriptor, accesses, beats_left, store

RING_BYTES = 1 << 14
"""The rings are at 0 and at this."""
SOURCE, SINK = 1 << 16, 1 << 19
"""What loads read begins here, and what stores write there."""


def engine_config(width: int, rows: int = 4, cols: int = 4, **prefetch: int) -> ChipConfig:
    """4 nodes of 2 managers; banks large enough for 1 MiB."""
    settings = {"managers": 2, "data_width": width, "buffer_beats": 32, "max_burst": 8, "outstanding": 8, "descriptors": 4}
    return ChipConfig(
        name="engine",
        pods=4,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols)),
        memory=MemoryConfig(banks=4, x_words=500, w_words=1 << 15, p_words=300),
        network=NetworkConfig(),
        post=PostConfig(),
        program=ProgramConfig(load_jobs=300, stream_jobs=400, post_jobs=500),
        prefetch=PrefetchConfig(**{**settings, **prefetch}),
    )


ENGINES = {
    64: engine_config(64, buffer_beats=16, max_burst=4, outstanding=4, column_words=8),
    128: engine_config(128, rows=8, cols=4, buffer_beats=16, max_burst=8, descriptors=2),
    256: engine_config(256, rows=16, cols=16, buffer_beats=64, max_burst=16, outstanding=2),
    512: engine_config(512, rows=32, cols=64, buffer_beats=128, max_burst=64, outstanding=64, descriptors=8, column_words=32),
}
"""Of every width, with limits that are often met; some with column stores."""


@dataclass(frozen=True)
class Rings:
    demand: Sequence[Descriptor]
    prefetch: Sequence[Descriptor]
    memory: NDArray[np.uint8] = field(repr=False)

    def scenario(
        self, *, cycles: int = 20000, stalls: float = 0.0, settings: dict[str, int] | None = None, **inputs: int
    ) -> Scenario:
        """All published at the start; with epochs to come as tags tell if ``settings`` say nothing of them."""
        epochs = max((d.tag for d in (*self.demand, *self.prefetch)), default=0)
        return Scenario(
            memory=self.memory,
            phases=start_phases(self.demand, self.prefetch, (0, RING_BYTES), cycles, **inputs),
            settings={"epochs": epochs, "epoch_cycles": 40, **(settings or {})},
            stalls=stalls,
        )


def rings(
    demand: Sequence[Descriptor], prefetch: Sequence[Descriptor], *, seed: int = 0, memory_bytes: int = MEMORY_BYTES
) -> Rings:
    """Memory of random bytes that holds both rings."""
    memory = np.random.default_rng(seed).integers(0, 256, memory_bytes, dtype=np.uint8)
    for base, ring in ((0, demand), (RING_BYTES, prefetch)):
        packed = np.frombuffer(b"".join(descriptor.pack() for descriptor in ring), np.uint8)
        assert len(packed) <= RING_BYTES
        memory[base : base + len(packed)] = packed
    return Rings(demand, prefetch, memory)


def _one_of(rng: np.random.Generator, *values: Any) -> int:
    return int(values[int(rng.integers(len(values)))])


def random_descriptor(rng: np.random.Generator, config: ChipConfig, kind: DescriptorKind, area: tuple[int, int]) -> Descriptor:
    """Anything legal that stays inside ``area`` [begin, end) in memory."""
    choices = STORABLE if kind == DescriptorKind.STORE else loadable(config)
    select = choices[int(rng.integers(len(choices)))]
    assert config.prefetch is not None
    column = int(kind == DescriptorKind.STORE and config.prefetch.column_words > 0 and rng.random() < 0.6)
    n0 = _one_of(rng, 1, 2, rng.integers(1, 9), rng.integers(1, config.prefetch.column_words + 1 if column else 60))
    n1, n2 = (_one_of(rng, 1, 1, rng.integers(1, 3 if column else 6)) for _ in range(2))
    words = words_of(config, select)
    most = max(1, (words - 1) // (3 * max(n0, n1, n2)))
    steps = [_one_of(rng, 1, 1, 0, -1, rng.integers(-most, most + 1)) for _ in range(3)]
    run, beat = n0 * memory_stride(config, select), config.host_bits // 8
    lane_stride = _one_of(rng, n0, beat, memory_stride(config, HostSelect.W), rng.integers(-200, 200)) if column else 0
    strides = [_one_of(rng, run, 0, -run, rng.integers(-3000, 3000), 64 * rng.integers(-20, 20)) for _ in range(2)]
    broadcast = int(kind == DescriptorKind.LOAD and rng.random() < 0.2)
    unit = int(rng.integers(0, 256 if broadcast else config.nodes_per_manager))
    found = Descriptor(
        kind=kind,
        select=select,
        broadcast=broadcast,
        unit=unit,
        n0=n0,
        n1=n1,
        n2=n2,
        column=column,
        lane_stride=lane_stride,
        **{f"step{i}": step for i, step in enumerate(steps)},
        **{f"stride{i + 1}": stride for i, stride in enumerate(strides)},
    )
    on_chip, in_memory = found.word_addresses(), found.run_addresses()
    if column:
        lanes = lane_stride * np.arange(word_bytes(config, select))
        in_memory, run = (in_memory[:, None] + lanes).reshape(-1), n0
    if np.ptp(on_chip) >= words or np.ptp(in_memory) + run > area[1] - area[0]:
        return random_descriptor(rng, config, kind, area)
    # Often at an end of what there is, and of a page.
    spare = words - 1 - int(np.ptp(on_chip))
    base = _one_of(rng, 0, spare, rng.integers(0, spare + 1)) - int(on_chip.min())
    low, high = area[0], area[1] - int(np.ptp(in_memory)) - run
    somewhere = int(rng.integers(low, high + 1))
    address = _one_of(rng, low, high, somewhere, max(low, somewhere & ~4095))
    return replace(found, base=base, address=address + int(found.run_addresses()[0]) - int(in_memory.min()))


def random_rings(rng: np.random.Generator, config: ChipConfig, *, tags: int = 3, most: int = 5) -> Rings:
    """Both rings for tags 0 to ``tags``, with up to ``most`` descriptors each; loads and stores of any kind."""
    made: list[list[Descriptor]] = []
    kinds = [DescriptorKind.LOAD] * 6 + [DescriptorKind.STORE, DescriptorKind.NOP]
    for ring in range(2):
        found: list[Descriptor] = []
        # Stores of one ring do not write what those of the other do: their order is not given. Loads differ in their data.
        source, sink = ((base + (ring << 15), base + (ring + 1 << 15) - 1) for base in (SOURCE, SINK))
        for tag in range(tags + 1):
            count = int(rng.integers(1, most + 1))
            for i in range(count):
                kind = DescriptorKind(_one_of(rng, *kinds))
                area = sink if kind == DescriptorKind.STORE else source
                one = Descriptor(kind=kind) if kind == DescriptorKind.NOP else random_descriptor(rng, config, kind, area)
                after = int(rng.integers(0, tag + 1)) if rng.random() < 0.2 else 0
                found.append(replace(one, tag=tag, after=after, last=int(i == count - 1)))
        made.append(found)
    return rings(*made, seed=int(rng.integers(1 << 30)), memory_bytes=SINK + (1 << 16))


class PrefetchMismatchError(AssertionError):
    """The engine did something else than its descriptors say."""


def matched(config: ChipConfig, found: Rings, recording: Recording) -> list[Descriptor]:
    """Descriptors with accesses, in the order of service; raises `PrefetchMismatchError` unless all accesses are theirs.

    Loads must not read what stores of the same scenario write.
    """
    seen = recording.accesses
    served = _interleaved(config, found, seen)
    memory = found.memory.copy()
    for descriptor in served:
        if descriptor.kind == DescriptorKind.STORE:
            store(config, descriptor, memory)
    if not np.array_equal(memory, recording.memory):
        where = int(np.argmax(memory != recording.memory))
        raise PrefetchMismatchError(f"byte {where:#x} of memory is {recording.memory[where]}, expected {memory[where]}")
    return served


def _interleaved(config: ChipConfig, found: Rings, seen: NDArray) -> list[Descriptor]:
    """The order of both rings that makes these accesses: descriptor by descriptor, whole. Where two would do, all are tried.

    Stores that read the same words make the same accesses: of those, the one with the smaller tag came first.
    """
    moving = [[d for d in ring if d.kind != DescriptorKind.NOP] for ring in (found.demand, found.prefetch)]
    expected = [[accesses(config, d, found.memory) for d in ring] for ring in moving]
    # For how many of each ring may have been served, the rings in the order of service.
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {(0, 0): []}
    reached = 0
    for _ in range(len(moving[0]) + len(moving[1])):
        following: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for counts, order in ways.items():
            at = sum(len(one) for ring, count in zip(expected, counts, strict=True) for one in ring[:count])
            reached = max(reached, at)
            for ring in range(2):
                if counts[ring] < len(moving[ring]) and _same(expected[ring][counts[ring]], seen, at):
                    after = (counts[0] + (ring == 0), counts[1] + (ring == 1))
                    longer = [*order, (moving[ring][counts[ring]].tag, ring)]
                    following[after] = min(following.get(after, longer), longer)
        if not following:
            raise PrefetchMismatchError(f"access {reached} of {len(seen)} begins neither of the next descriptors")
        ways = following
    total = sum(len(one) for ring in expected for one in ring)
    if total != len(seen):
        raise PrefetchMismatchError(f"{len(seen) - total} accesses more than there should be")
    (order,) = ways.values()
    left = [iter(ring) for ring in moving]
    return [next(left[ring]) for _, ring in order]


def _same(expected: NDArray, seen: NDArray, at: int) -> bool:
    part = seen[at : at + len(expected)]
    if len(part) != len(expected):
        return False
    for name in ("write", "commit", "select", "broadcast", "address", "beat"):
        if not np.array_equal(part[f"host_{name}"], expected[name]):
            return False
    unit_matters = expected["broadcast"] == 0
    if not np.array_equal(part["host_unit"][unit_matters], expected["unit"][unit_matters]):
        return False
    writes = expected["write"] == 1
    return np.array_equal(part["host_data"][writes], expected["data"][writes])


def limits(config: ChipConfig) -> Limits:
    prefetch = config.prefetch
    assert prefetch is not None
    beat = config.host_bits // 8
    return Limits(beat, max(prefetch.max_burst, DESCRIPTOR_BYTES // beat), prefetch.outstanding, (0, MEMORY_BYTES))


def check_run(config: ChipConfig, found: Rings, recording: Recording) -> list[Descriptor]:
    """All of a run without errors: accesses, memory, protocol, buffer, counts; returns descriptors in the order of service."""
    rows = recording.rows
    assert config.prefetch is not None
    last = rows[-1]
    if last["error"] or not last["quiet"]:
        raise PrefetchMismatchError(f"error {last['error']} at {last['error_address']:#x}, quiet {last['quiet']}")
    tags = [max((d.tag for d in ring), default=-1) + 1 for ring in (found.demand, found.prefetch)]
    if [last["demand_complete"], last["prefetch_complete"]] != tags:
        raise PrefetchMismatchError(f"completed {last['demand_complete']} and {last['prefetch_complete']} tags, expected {tags}")
    check_protocol(rows, limits(config))
    if (recording.accesses["gap"][np.isin(recording.accesses["host_select"], EPOCH_BANKS)] == 0).any():
        raise PrefetchMismatchError("an X or P bank was reached while an epoch is on")
    served = matched(config, found, recording)
    left = beats_left(config, [d for d in served if d.kind == DescriptorKind.LOAD])
    check_buffer(rows, config.prefetch.buffer_beats, left, [(base, base + RING_BYTES) for base in (0, RING_BYTES)])
    _check_completion(config, found, recording, served)
    _check_quiet(rows)
    return served


def _check_completion(config: ChipConfig, found: Rings, recording: Recording, served: Sequence[Descriptor]) -> None:
    """No tag is complete before all of it was long enough ago. Row 0 is that of the start."""
    lengths = [len(accesses(config, d, found.memory)) for d in served]
    cycles = np.flatnonzero(recording.rows["host_valid"])[np.cumsum(lengths, dtype=int) - 1]
    for ring, name in ((found.demand, "demand"), (found.prefetch, "prefetch")):
        counts = recording.rows[f"{name}_complete"]
        for descriptor, cycle in zip(served, cycles, strict=True):
            if any(descriptor is one for one in ring) and (counts[1 : cycle + config.host_levels + 2] > descriptor.tag).any():
                raise PrefetchMismatchError(f"tag {descriptor.tag} of the {name} ring was complete too early")


def _check_quiet(rows: NDArray) -> None:
    """Once it is quiet, nothing happens before an input changes."""
    changed = (np.diff(rows["epochs_done"], prepend=0) != 0) | (np.diff(rows["gap"], prepend=0) != 0) | (rows["start"] == 1)
    stretch = np.cumsum(changed)
    busy = np.any([rows[name] == 1 for name in ("arvalid", "rvalid", "awvalid", "wvalid", "bvalid", "host_valid")], axis=0)
    for name in ("demand_complete", "prefetch_complete", "error"):
        busy |= np.diff(rows[name], prepend=rows[name][:1]) != 0
    # Quiet tells of the cycle before.
    quiet = (rows["quiet"] == 1) & np.concatenate([[False], stretch[1:] == stretch[:-1]])
    first = np.full(int(stretch[-1]) + 1, len(rows))
    np.minimum.at(first, stretch[quiet], np.flatnonzero(quiet))
    late = busy & (np.arange(len(rows)) > first[stretch])
    if late.any():
        raise PrefetchMismatchError(f"cycle {int(np.argmax(late))}: something happens although it was quiet")


def run_rings(
    bench: PrefetchBench, cases: Sequence[tuple[Rings, Scenario]], *, seed: int = 0, outside: bool = False
) -> list[Recording]:
    """Run and check each of ``cases``."""
    recordings = bench.run([scenario for _, scenario in cases], seed=seed, outside=outside)
    for number, ((found, _), recording) in enumerate(zip(cases, recordings, strict=True)):
        try:
            check_run(bench.config, found, recording)
        except AssertionError as error:
            raise PrefetchMismatchError(f"scenario {number}, seed {seed}: {error}") from error
    return recordings


def random_settings(rng: np.random.Generator) -> dict[str, int]:
    """Of a memory between very fast and very slow."""
    chances = {name: _one_of(rng, 0, 60, 180) for name in ("stall_ar", "stall_r", "stall_aw", "stall_w", "stall_b")}
    return {**chances, "latency": _one_of(rng, 1, 3, 20), "aw_after_w": int(rng.integers(0, 2))}
