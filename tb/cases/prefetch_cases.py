"""Random programs for prefetch engines: descriptors that are legal by construction, and scripts of everything that gates them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.memory.hbm import ErrorRange, HbmChannel
from podweave.golden.cycle.ports import PortTrace
from podweave.golden.cycle.prefetch.engine import EngineModel, Inputs
from podweave.golden.cycle.prefetch.ports import ChipWords, EnginePorts
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor, DescriptorCheck, EngineGeometry, Target
from podweave.predict.memory_timing import HbmTiming
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
from podweave.spec.descriptors import BESIDE_BANKS, EPOCH_BANKS, STORABLE, loadable, memory_stride, words_of
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import host_widths

from .prefetch_rings import RING_BASES, on_a_base, published, put_rings, with_bodies

MEMORY_BYTES = 1 << 17
DATA_BEGIN, STORE_BEGIN = 0x4000, 1 << 16


def engine_config(
    *,
    rows: int = 4,
    cols: int = 4,
    pods: int = 4,
    managers: int = 2,
    jobs: int = 0,
    x_parts: int = 1,
    row_registers: int = 0,
    **prefetch: int,
) -> ChipConfig:
    """A chip whose engines serve small nodes; with links if it has ``jobs``, with row functions if it has ``row_registers``."""
    return ChipConfig(
        name="engine",
        pods=pods,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols)),
        memory=MemoryConfig(banks=pods, x_words=64, x_parts=x_parts, w_words=max(64, rows), p_words=40),
        network=NetworkConfig(),
        post=PostConfig(parameter_sets=5, tables=2, row_registers=row_registers),
        program=ProgramConfig(load_jobs=16, stream_jobs=16, post_jobs=16),
        prefetch=PrefetchConfig(managers=managers, **prefetch),
        links=LinksConfig(flit_bits=32, jobs=jobs) if jobs else None,
    )


def engine_geometry(config: ChipConfig) -> EngineGeometry:
    """What the cycle model of an engine needs to know of a configuration."""
    prefetch = config.prefetch
    assert prefetch is not None
    beat = prefetch.data_width // 8
    targets = {}
    for select in loadable(config):
        stride = memory_stride(config, select)
        targets[int(select)] = Target(words_of(config, select), stride, -(-stride // beat), -(-host_widths(config)[select][1] // 8))
    return EngineGeometry(
        beat_bytes=beat,
        address_width=prefetch.address_width,
        buffer_beats=prefetch.buffer_beats,
        max_burst=prefetch.max_burst,
        outstanding=prefetch.outstanding,
        descriptors=prefetch.descriptors,
        base_registers=prefetch.base_registers,
        column_words=prefetch.column_words,
        passes=config.passes > 0,
        nodes=config.nodes_per_manager,
        host_levels=config.host_levels,
        read_latency=config.host_read_latency,
        targets=targets,
        epoch_banks=tuple(int(s) for s in EPOCH_BANKS),
        beside_banks=tuple(int(s) for s in BESIDE_BANKS) if config.memory.x_parts > 1 else (),
        storable=tuple(int(s) for s in STORABLE),
    )


Script = list[tuple[int, dict[str, Any]]]
"""(cycle, changes of `Inputs` from that cycle on), in order of time."""
LEAD = 8
"""Cycle of ``start``, plus one: cycle 0 of a script."""


@dataclass(frozen=True)
class Program:
    """``rings``: descriptors of the demand and the prefetch ring; ``sizes``: of the rings; ``memory``: what they find."""

    rings: tuple[list[Descriptor], list[Descriptor]]
    sizes: tuple[int, int]
    memory: NDArray[np.uint8]
    bases: tuple[int, ...] = ()
    """Base registers."""
    turns: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Members of `Inputs` that say how a run goes over the rings, if it has several passes."""

    @property
    def published(self) -> tuple[list[Descriptor], list[Descriptor]]:
        """Descriptors of the rings in the order in which a run goes over them."""
        passes, (demand, prefetch) = self.turns.get("passes", 1), self.turns.get("bodies", ((0, 0), (0, 0)))
        return published(self.rings[0], demand, passes), published(self.rings[1], prefetch, passes)


def _fitting(rng: np.random.Generator, counts: list[int], words: int) -> tuple[int, list[int]] | None:
    """A base and steps on which loops stay inside ``words``; None if that did not come about."""
    steps = [int(rng.choice([1, 1, 1, -1, 2, 0])), int(rng.integers(-4, 9)), int(rng.integers(-8, 17))]
    if rng.random() < 0.5:
        # As loops of a tensor: rows side by side.
        steps[1] = steps[2] = steps[0]
    inner = (counts[0] - 1) * steps[0]
    middle = (counts[1] - 1) * (inner + steps[1])
    outer = (counts[2] - 1) * (middle + inner + steps[2])
    low, high = (sum(pick(0, part) for part in (inner, middle, outer)) for pick in (min, max))
    if high - low >= words:
        return None
    return int(rng.integers(-low, words - high)), steps


def random_transfer(rng: np.random.Generator, geometry: EngineGeometry, *, kind: int, size: int) -> Descriptor:
    """A load or store of up to ``size`` bytes."""
    selects = list(geometry.storable) if kind == STORE else list(geometry.targets)
    while True:
        select = int(rng.choice(selects))
        target = geometry.targets[select]
        most = max(1, size // target.stride)
        shape = rng.choice(4)
        counts = [
            [int(rng.integers(1, min(most, target.words) + 1)), 1, 1],
            [1, int(rng.integers(1, min(most, 24) + 1)), int(rng.integers(1, 3))],
            [int(rng.integers(1, min(most, 8) + 1)), int(rng.integers(1, 5)), int(rng.integers(1, 4))],
            [int(rng.integers(1, 3)), int(rng.integers(1, 7)), int(rng.integers(1, 3))],
        ][shape]
        found = _fitting(rng, counts, target.words)
        if found is None or np.prod(counts) * target.stride > 2 * size:
            continue
        run = counts[0] * target.stride
        strides = [int(rng.integers(-2 * run, 3 * run + 1)) for _ in range(2)]
        if rng.random() < 0.5:
            strides = [run, run]
        middle = (counts[1] - 1) * strides[0]
        outer = (counts[2] - 1) * (middle + strides[1])
        low = min(0, middle) + min(0, outer)
        high = max(0, middle) + max(0, outer) + run
        begin, end = (STORE_BEGIN, MEMORY_BYTES) if kind == STORE else (DATA_BEGIN, MEMORY_BYTES)
        if high - low > end - begin:
            continue
        address = int(rng.integers(begin - low, end - high + 1))
        align = int(rng.choice([1, 1, geometry.beat_bytes, 64, 4096]))
        aligned = address - address % align
        if aligned + low >= begin:
            address = aligned
        return Descriptor(
            kind=kind,
            select=select,
            broadcast=int(kind == LOAD and rng.random() < 0.2),
            unit=int(rng.integers(0, geometry.nodes)),
            address=address,
            n0=counts[0],
            n1=counts[1],
            n2=counts[2],
            base=found[0],
            step0=found[1][0],
            step1=found[1][1],
            step2=found[1][2],
            stride1=strides[0],
            stride2=strides[1],
        )


def random_program(
    rng: np.random.Generator, geometry: EngineGeometry, *, epochs: int, per_tag: int, size: int = 600, stores: float = 0.15
) -> Program:
    """Up to ``per_tag`` descriptors of each ring and tag, of up to ``size`` bytes; a share of ``stores`` among those of the demand
    ring, and among all where some go beside epochs."""
    rings: tuple[list[Descriptor], list[Descriptor]] = ([], [])
    for ring, descriptors in enumerate(rings):
        for tag in range(epochs + 1):
            count = int(rng.integers(1, per_tag + 1))
            for i in range(count):
                choice = rng.random()
                store = choice < 0.15 + stores and (ring == 0 or geometry.beside_banks)
                kind = NOP if choice < 0.15 else STORE if store else LOAD
                made = Descriptor() if kind == NOP else random_transfer(rng, geometry, kind=kind, size=size)
                if kind == STORE and geometry.column_words and rng.random() < 0.7:
                    made = _in_columns(rng, geometry, made)
                after = int(rng.choice([0, 0, tag, max(0, tag - 1)]))
                made = dataclasses.replace(made, tag=tag, last=int(i == count - 1), after=after)
                if geometry.beside_banks and (kind == NOP or made.select in geometry.beside_banks):
                    made = dataclasses.replace(made, beside=int(rng.random() < 0.6))
                descriptors.append(made)
    sizes = tuple(int(rng.choice([len(d), len(d) + 1, 61])) for d in rings)
    memory = rng.integers(0, 256, MEMORY_BYTES, np.uint8)
    bases = tuple(rng.integers(0, DATA_BEGIN, geometry.base_registers).tolist())
    if bases:
        rings = ([on_a_base(rng, d, bases) for d in rings[0]], [on_a_base(rng, d, bases) for d in rings[1]])
    turns: dict[str, Any] = {}
    if geometry.passes and rng.random() < 0.8:
        rings, turns = with_bodies(rng, rings, epochs)
        # A second lap would do without the body.
        sizes = (len(rings[0]), len(rings[1]))
    put_rings(memory, rings)
    return Program(rings, (sizes[0], sizes[1]), memory, bases, turns)


def _in_columns(rng: np.random.Generator, geometry: EngineGeometry, store: Descriptor) -> Descriptor:
    """A column store of as many words of a run as there may be, where that is legal and stays where stores go."""
    target, n0 = geometry.targets[store.select], min(store.n0, geometry.column_words)
    lane_stride = int(rng.choice([n0, target.stride, geometry.beat_bytes, int(rng.integers(-300, 300))]))
    made = dataclasses.replace(store, column=1, n0=n0, lane_stride=lane_stride)
    starts, _ = made.memory_runs(target)
    legal = not DescriptorCheck(geometry).check(0, made, MEMORY_BYTES) and starts.min() >= STORE_BEGIN
    return made if legal else store


@dataclass(frozen=True)
class Case:
    """One run of an engine: ``cycles`` in all; the script counts from `LEAD` on."""

    config: ChipConfig
    program: Program
    inputs: Inputs
    script: Script
    timing: HbmTiming
    cycles: int
    errors: tuple[ErrorRange, ...] = ()

    def model(self, *, trace: bool = True) -> EngineModel:
        """Run the cycle model to the end of the case."""
        geometry = engine_geometry(self.config)
        channel = HbmChannel(self.timing, beat_bytes=geometry.beat_bytes, end=MEMORY_BYTES, errors=self.errors)
        model = EngineModel(geometry, channel, self.program.published, self.program.sizes, self.inputs, trace=trace)
        for cycle, changes in self.script:
            model.run_until(cycle)
            model.change(**changes)
        model.run_until(self.cycles - LEAD)
        return model

    def expected(self, model: EngineModel, chip: ChipWords) -> tuple[dict[str, PortTrace], NDArray[np.uint8]]:
        """All ports, and the memory afterwards."""
        memory = self.program.memory.copy()
        ports = EnginePorts(model, cycles=self.cycles, lead=LEAD, memory=memory, chip=chip)
        return ports.ports(), memory

    def table(self) -> NDArray[np.uint32]:
        return self.timing.table(base=0, end=MEMORY_BYTES, errors=self.errors)

    def stimulus(self) -> dict[str, NDArray]:
        """Inputs of a `PrefetchLockstep` in every cycle."""
        columns: dict[str, NDArray] = {}
        if self.inputs.bases:
            columns["bases"] = np.tile(np.array(self.inputs.bases, np.int64), (self.cycles, 1))
        if self.config.passes:
            held = {name: getattr(self.inputs, name) for name in ("passes", "pass_epochs", "pass_stride")}
            for ring, name in enumerate(("demand", "prefetch")):
                held[f"{name}_body"], held[f"{name}_body_end"] = self.inputs.bodies[ring]
            columns |= {name: np.full(self.cycles, value, np.int64) for name, value in held.items()}

        def fill(begin: int, inputs: Inputs) -> None:
            values: dict[str, int] = {"enable": inputs.enable, "cap": inputs.cap, "memory_bytes": inputs.memory_bytes}
            values |= {"epochs_done": inputs.epochs_done, "gap": inputs.gap, "stop": inputs.stop}
            for ring, name in enumerate(("demand", "prefetch")):
                values |= {f"{name}_base": inputs.base[ring], f"{name}_tail": inputs.tail[ring]}
                values[f"{name}_size"] = self.program.sizes[ring]
            for name, value in values.items():
                columns.setdefault(name, np.zeros(self.cycles, np.int64))[begin:] = value

        for name in ("cancel_valid", "cancel_tag", "start"):
            columns[name] = np.zeros(self.cycles, np.int64)
        columns["start"][LEAD - 1] = 1
        inputs = self.inputs
        fill(0, inputs)
        for cycle, changes in self.script:
            inputs = dataclasses.replace(inputs, **changes)
            fill(LEAD + cycle, inputs)
            if changes.get("cancel") is not None:
                columns["cancel_valid"][LEAD + cycle], columns["cancel_tag"][LEAD + cycle] = 1, changes["cancel"]
        return columns


TIMINGS = (
    HbmTiming(latency=12, row_bytes=256, banks=2, row_miss=4, refresh_interval=300, refresh_cycles=12, queue=6),
    HbmTiming(),
    HbmTiming(latency=2, row_miss=0, refresh_interval=0, refresh_cycles=0, queue=2),
    HbmTiming(latency=30, beat_sixteenths=41, jitter=9, queue=20, row_bytes=512),
    HbmTiming(latency=7, beat_sixteenths=23, row_miss=15, jitter=40, queue=1, seed=77),
)


def random_case(rng: np.random.Generator, config: ChipConfig, *, faults: bool, cycles: int = 6000, **shape: Any) -> Case:
    """A random program under random gates; with ``faults``, some of all that can go wrong."""
    geometry = engine_geometry(config)
    shape = {"epochs": int(rng.integers(1, 5)), "per_tag": int(rng.integers(1, 6)), **shape}
    program = random_program(rng, geometry, **shape)
    if faults and rng.random() < 0.7:
        program = with_bad_descriptors(rng, geometry, program, count=int(rng.integers(1, 4)))
    lengths = [len(ring) for ring in program.published]
    published = [int(rng.integers(0, n + 1)) if rng.random() < 0.4 else n for n in lengths]
    inputs = Inputs(
        base=RING_BASES,
        memory_bytes=MEMORY_BYTES,
        bases=program.bases,
        **program.turns,
        tail=(published[0], published[1]),
        enable=bool(rng.random() < 0.8),
        cap=int(rng.choice([0, 0, 10, 60, 200])),
    )
    if faults and rng.random() < 0.1:
        inputs = dataclasses.replace(inputs, base=(RING_BASES[0] + 4 * int(rng.integers(0, 2)), RING_BASES[1] + 32))
    if faults and rng.random() < 0.1:
        inputs = dataclasses.replace(inputs, memory_bytes=RING_BASES[1] + 64 * int(rng.integers(0, 4)))
    changes: dict[int, dict[str, Any]] = {}

    def change(cycle: int, **values: Any) -> None:
        changes.setdefault(cycle, {}).update(values)

    epochs = shape["epochs"] + program.turns.get("passes", 1) - 1
    span, begin = cycles // (2 * epochs), 0
    for epoch in range(epochs):
        begin += int(rng.integers(1, span))
        change(begin, gap=False)
        begin += int(rng.integers(1, span // 2))
        change(begin, gap=True, epochs_done=epoch + 1)
    tail = list(published)
    for cycle in sorted(rng.integers(1, cycles // 2, 12).tolist()):
        ring = int(rng.integers(0, 2))
        tail[ring] = min(lengths[ring], tail[ring] + int(rng.integers(0, 8)))
        change(cycle, tail=(tail[0], tail[1]))
    change(cycles // 2 + 1, tail=(lengths[0], lengths[1]))
    if rng.random() < 0.3:
        for cycle in rng.integers(1, cycles, 4).tolist():
            change(cycle, enable=bool(rng.random() < 0.5))
            change(cycle + 9, cap=int(rng.choice([0, 20, 100])))
    if faults and rng.random() < 0.3:
        for cycle in rng.integers(1, cycles // 2, 2).tolist():
            change(cycle, cancel=int(rng.integers(0, epochs + 1)))
    if faults and rng.random() < 0.3:
        change(int(rng.integers(1, cycles // 2)), stop=True)
    errors = []
    if faults and rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.choice([rng.integers(RING_BASES[0], RING_BASES[0] + 1024), rng.integers(DATA_BEGIN, MEMORY_BYTES)]))
            errors.append(ErrorRange(at, at + int(rng.choice([1, 500, 8000])), int(rng.choice([2, 3]))))
    script = [(cycle, changes[cycle]) for cycle in sorted(changes)]
    return Case(config, program, inputs, script, TIMINGS[int(rng.integers(0, len(TIMINGS)))], cycles, tuple(errors))


def with_bad_descriptors(rng: np.random.Generator, geometry: EngineGeometry, program: Program, *, count: int) -> Program:
    """The same with ``count`` descriptors that are illegal, or nearly so."""
    rings = ([*program.rings[0]], [*program.rings[1]])
    transfer = random_transfer(rng, geometry, kind=int(rng.choice([LOAD, STORE])), size=300)
    words = geometry.targets[transfer.select].words
    for _ in range(count):
        ring = rings[int(rng.integers(0, 2))]
        at = int(rng.integers(0, len(ring)))
        old = dataclasses.replace(transfer, tag=ring[at].tag, last=ring[at].last, after=ring[at].after)
        bad: list[dict[str, int]] = [
            {"kind": int(rng.integers(3, 16))},
            {"reserved": 1 << int(rng.integers(0, 4))},
            {"beside": 1},
            {rng.choice(["n0", "n1", "n2"]): 0},
            {"address": MEMORY_BYTES - int(rng.integers(0, 40))},
            {"address": 1 << int(rng.integers(33, 63))},
            {"stride1": -(1 << 31), "n1": int(rng.integers(1, 3))},
            {"stride2": (1 << 31) - 1, "n2": 1 << 19, "n1": 1},
            {"select": int(rng.integers(0, 16))},
            {"base": words - int(rng.integers(0, 3)), "step0": 1},
            {"step1": -(1 << 23), "n1": int(rng.integers(1, 3))},
            {"step0": 1 << 22, "n0": 1 << int(rng.integers(0, 2))},
            {"unit": int(rng.integers(geometry.nodes - 1, geometry.nodes + 2)), "broadcast": int(rng.integers(0, 2))},
            {"tag": int(rng.integers(0, 3))},
            {"last": 1},
        ]
        if geometry.column_words:
            bad += [{"column": 1}, {"column": 1, "n0": geometry.column_words + 1}, {"lane_stride": 5}]
        if geometry.passes:
            bad += [{"turns": 1}, {"turns": 0}, {"moves": 1}]
        if program.bases:
            bad += [{"base_register": int(rng.integers(0, 16))}, {"base_register": int(rng.integers(1, len(program.bases) + 1))}]
        ring[at] = dataclasses.replace(old, **bad[int(rng.integers(0, len(bad)))])
    memory = program.memory.copy()
    put_rings(memory, rings)
    return Program(rings, program.sizes, memory, program.bases, program.turns)
