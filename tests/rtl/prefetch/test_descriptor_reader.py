"""The descriptor reader alone: rings anywhere in memory, of any size, as long as any tail says, up to the end of memory."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest

from podweave.golden.cycle.prefetch.reader import CHECK_CYCLES, TO_HEAD
from podweave.golden.cycle.prefetch.words import (
    BEYOND_MEMORY,
    DESCRIPTOR_BYTES,
    LOAD,
    MISALIGNED,
    NOP,
    STORE,
    Descriptor,
    DescriptorCheck,
    EngineGeometry,
)
from podweave.rtl.prefetch.descriptor_reader import DescriptorReader
from podweave.rtl.prefetch.engine_words import CODE_WIDTH, held_layout, prefetch_of
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import TAG_WIDTH, descriptor_layout
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config, engine_geometry
from podweave.tb.cases.prefetch_engines import ENGINES
from tests.rtl.block_tables import Values, bits_of, compare, few, tables
from tests.rtl.prefetch.test_descriptor_check import ALWAYS, fitted, spoilt

pytestmark = pytest.mark.more

CYCLES = 24000
ADDRESS = 34
FIELDS = [field for field in descriptor_layout().fields if hasattr(Descriptor(), field.name)]
# Cycles from the last beat of a descriptor to its check.
TO_CHECK = 3


@dataclass
class Ring:
    """One of the two, as its registers and memory have it."""

    base: int
    size: int
    tail: int
    position: int = 0
    index: int = 0
    held: int = 0
    code: int = 0
    tag: int = 0
    descriptors: dict[int, Descriptor] = field(default_factory=dict)
    # From which cycle on a head is there, and its bits, -1 where they are not known.
    heads: deque[tuple[int, list[int]]] = field(default_factory=deque)
    popped: int = -1

    @property
    def address(self) -> int:
        return self.base + DESCRIPTOR_BYTES * self.position


def descriptor_of(rng: np.random.Generator, ring: Ring) -> Descriptor:
    """What lies at the position where the ring is."""
    if ring.position not in ring.descriptors:
        found, _ = fitted(rng, int(rng.choice([NOP, LOAD, STORE])))
        if rng.random() < 0.3:
            # The same words over and over: counts of all bits.
            widths = {field.name: field.width for field in FIELDS}
            counts = {name: (1 << int(rng.integers(widths[name]))) + int(rng.integers(2)) for name in ("n0", "n1", "n2")}
            loops = dict.fromkeys(("step0", "step1", "step2", "stride1", "stride2"), 0)
            found = dataclasses.replace(found, **counts, **loops, address=int(rng.integers(1 << 20)))
        if rng.random() < 0.2:
            found = spoilt(rng, found)
        ring.tag = min(ring.tag + int(rng.choice([0, 1, 1 << int(rng.integers(13))])), (1 << TAG_WIDTH) - 1)
        more = {"tag": ring.tag, "last": int(rng.random() < 0.3), "after": int(rng.integers(1 << TAG_WIDTH))}
        ring.descriptors[ring.position] = dataclasses.replace(found, **more)
    return ring.descriptors[ring.position]


def bits_in_memory(descriptor: Descriptor) -> list[int]:
    found = [0] * (8 * DESCRIPTOR_BYTES)
    layout = descriptor_layout()
    for each in FIELDS:
        at = layout.offset(each.name)
        found[at : at + each.width] = [getattr(descriptor, each.name) >> bit & 1 for bit in range(each.width)]
    return found


def head_of(geometry: EngineGeometry, config: ChipConfig, descriptor: Descriptor, code: int, tag: int, where: int) -> list[int]:
    target = geometry.targets.get(descriptor.select)
    run_bytes = descriptor.n0 * (target.stride if target else 0)
    fields = {each.name: getattr(descriptor, each.name) for each in FIELDS}
    fields |= {"error": code, "tag": tag, "where": where, "words": min(descriptor.words, 1 << 32), "run_bytes": run_bytes}
    legal = code == 0 and descriptor.kind != NOP
    layout = held_layout(config)
    known = np.repeat([legal or each.name in ALWAYS for each in layout.fields], [each.width for each in layout.fields])
    return [int(bit) for bit in np.where(known, bits_of(layout, fields), -1)]


def random_rings(rng: np.random.Generator, config: ChipConfig) -> tuple[list[Ring], int]:
    """And the end of memory: often near the end of one of them."""
    rings = []
    for _ in range(2):
        base = DESCRIPTOR_BYTES * int(rng.integers(1 << int(rng.integers(1, ADDRESS - 6))))
        if rng.random() < 0.2:
            # Just below all that can be addressed.
            base = (1 << ADDRESS) - DESCRIPTOR_BYTES * int(rng.integers(1, 4))
        if rng.random() < 0.15:
            base += int(rng.integers(1, DESCRIPTOR_BYTES))
        rings.append(Ring(base, few(rng, 32), few(rng, 32), tag=int(rng.integers(1 << int(rng.integers(1, 15))))))
    if rng.random() < 0.4:
        memory_bytes = 1 << ADDRESS
    else:
        # Up to an end of a descriptor, or a byte less.
        memory_bytes = max(ring.base for ring in rings) + DESCRIPTOR_BYTES * int(rng.integers(5)) - int(rng.random() < 0.3)
    return rings, min(max(0, memory_bytes), 1 << ADDRESS)


@dataclass
class Reading:
    """A descriptor on its way: beats may come from cycle ``begin`` on."""

    ring: int
    address: int
    descriptor: Descriptor
    begin: int
    beats: int = 0
    failed: bool = False


def drive(config: ChipConfig, rng: np.random.Generator, given: Values, seen: Values) -> dict[object, int]:
    """Rings for some descriptors each, until there is a clear. Returns how often each thing happened."""
    geometry, depth, beat = engine_geometry(config), prefetch_of(config).descriptors, prefetch_of(config).data_width
    width, most = held_layout(config).width, (1 << ADDRESS) - 1
    rings, memory_bytes = random_rings(rng, config)
    checker, age, check_free, unchecked, enable = DescriptorCheck(geometry), 0, 0, 0, True
    request: tuple[int, int, Descriptor] | None = None
    reading: deque[Reading] = deque()
    # And the cycles in which they end.
    checks: deque[tuple[int, Reading]] = deque()
    counts: dict[object, int] = dict.fromkeys(("fetched", "wrapped", MISALIGNED, BEYOND_MEMORY, "failed", "legal"), 0)
    for cycle in range(CYCLES):
        age += 1
        if rng.random() < 0.02:
            enable = bool(rng.random() < 0.8)
        idle = request is None and unchecked == 0 and not any(ring.held for ring in rings)
        clear = cycle == 0 or age > 250 or rng.random() < (0.05 if idle else 0.001)
        granted = request is not None and rng.random() < 0.4
        now = {"clear": clear, "enable": enable, "memory_bytes": memory_bytes, "granted": granted, "beat_valid": 0}
        if reading and reading[0].begin <= cycle and rng.random() < 0.8:
            came = reading[0]
            wrong = rng.random() < 0.004
            last = came.beats == 8 * DESCRIPTOR_BYTES // beat - 1
            given["beat_data"][cycle] = bits_in_memory(came.descriptor)[beat * came.beats : beat * (came.beats + 1)]
            now |= {"beat_valid": 1, "beat_last": last, "beat_failed": wrong, "beat_ring": came.ring, "beat_address": came.address}
            came.beats, came.failed = came.beats + 1, came.failed or bool(wrong)
            if last:
                check_free = max(cycle + TO_CHECK, check_free) + CHECK_CYCLES
                checks.append((check_free - 1, reading.popleft()))
        for name, value in now.items():
            given[name][cycle] = value
        heads = [bool(ring.heads) and ring.heads[0][0] <= cycle and ring.popped < cycle for ring in rings]
        pops = [head and rng.random() < 0.6 for head in heads]
        wants = [ring.code == 0 and ring.index != ring.tail and ring.held < depth for ring in rings]
        chosen = None if request or not enable or not any(wants) else int(not wants[0])
        for i, ring in enumerate(rings):
            given["base"][cycle, i], given["size"][cycle, i], given["tail"][cycle, i] = ring.base, ring.size, ring.tail
            given["pop"][cycle, i] = pops[i]
        if cycle:
            seen["request_valid"][cycle] = request is not None
            if request:
                seen["request_ring"][cycle], seen["request_address"][cycle] = request[:2]
            seen["waiting"][cycle] = chosen is not None or request is not None or unchecked > 0
            for i, ring in enumerate(rings):
                seen["head_valid"][cycle, i], seen["held"][cycle, i] = heads[i], ring.held > 0
                seen["broken"][cycle, i] = ring.code > 0 and ring.held == 0
                if seen["broken"][cycle, i]:
                    seen["broken_code"][cycle, i], seen["broken_address"][cycle, i] = ring.code, ring.address & most
                if heads[i]:
                    seen["head"][cycle, width * i : width * (i + 1)] = ring.heads[0][1]
                seen["previous_tag"][cycle, i] = checker.previous_tag(i)
        for ring, pop in zip(rings, pops, strict=True):
            if pop:
                ring.heads.popleft()
                ring.popped, ring.held = cycle, ring.held - 1
        if checks and checks[0][0] == cycle:
            _, came = checks.popleft()
            code = checker.check(came.ring, came.descriptor, memory_bytes, unreadable=came.failed)
            tag = checker.previous_tag(came.ring) if came.failed else came.descriptor.tag
            bits = head_of(geometry, config, came.descriptor, code, tag, came.address)
            rings[came.ring].heads.append((cycle + TO_HEAD, bits))
            unchecked -= 1
            counts["failed"] += came.failed
            counts["legal"] += code == 0
        if granted and request:
            reading.append(Reading(*request, cycle + 2 + int(rng.integers(30))))
            request = None
        elif chosen is not None:
            ring = rings[chosen]
            if ring.address % DESCRIPTOR_BYTES or ring.address + DESCRIPTOR_BYTES > memory_bytes:
                ring.code = MISALIGNED if ring.address % DESCRIPTOR_BYTES else BEYOND_MEMORY
                counts[ring.code] += 1
            else:
                request = chosen, ring.address, descriptor_of(rng, ring)
                ring.position = (ring.position + 1) % ring.size
                counts["wrapped"] += ring.position == 0
                ring.index, ring.held, unchecked = ring.index + 1, ring.held + 1, unchecked + 1
                counts["fetched"] += 1
        if clear:
            rings, memory_bytes = random_rings(rng, config)
            for i, ring in enumerate(rings):
                given["base"][cycle, i] = ring.base
            checker, age, check_free, unchecked, enable, request = DescriptorCheck(geometry), 0, 0, 0, True, None
            reading.clear()
            checks.clear()
    return counts


@functools.cache
def case(name: str) -> tuple[BlockBench, Values, Values]:
    config, rng = engine_config(address_width=ADDRESS, **ENGINES[name]), np.random.default_rng(7)
    lanes = dict.fromkeys(("head_valid", "pop", "broken", "held"), (1, 2, False))
    lanes |= {"base": (ADDRESS, 2, False), "broken_address": (ADDRESS, 2, False), "broken_code": (CODE_WIDTH, 2, False)}
    lanes |= {"size": (32, 2, False), "tail": (32, 2, False), "previous_tag": (TAG_WIDTH, 2, False)}
    lanes |= {"beat_data": (1, prefetch_of(config).data_width, False), "head": (1, 2 * held_layout(config).width, False)}
    bench = BlockBench.of(DescriptorReader(config), lanes, random_initial_state=True, depth=CYCLES)
    given, seen = tables(bench, rng, CYCLES)
    counts = drive(config, rng, given, seen)
    assert min(counts.values()) > 2, counts
    assert counts["legal"] > 200
    return bench, given, seen


@pytest.mark.parametrize("name", ["64_small"])
def test_any_rings(name: str) -> None:
    bench, given, seen = case(name)
    compare(seen, bench.run(given))
