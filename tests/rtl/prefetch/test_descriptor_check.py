"""The check of descriptors alone, against the rules that the cycle model has: at their edges, and with every bit of every field."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor, DescriptorCheck, EngineGeometry
from podweave.rtl.prefetch.descriptor_check import CHECK_CYCLES
from podweave.rtl.prefetch.descriptor_check import DescriptorCheck as CheckBlock
from podweave.rtl.prefetch.engine_words import fetched_layout, held_layout
from podweave.spec.descriptors import descriptor_layout, reserved_fields
from podweave.spec.layout import Layout
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config, engine_geometry
from podweave.tb.cases.prefetch_engines import ENGINES

pytestmark = pytest.mark.more

CONFIG = engine_config(address_width=34, **ENGINES["64_small"])
GEOMETRY: EngineGeometry = engine_geometry(CONFIG)
WIDTHS = {field.name: field for field in descriptor_layout().fields}
FETCHED, HELD = fetched_layout(CONFIG), held_layout(CONFIG)
DEPTH = 1 << 15
# Beside these, what is checked has its fields as they are.
ALWAYS = ("error", "tag", "where")


@dataclass(frozen=True)
class Item:
    """A descriptor as it was fetched, the size of memory then, and idle cycles before it; with ``clear``, a reset in them."""

    descriptor: Descriptor
    memory_bytes: int
    ring: int
    failed: int = 0
    where: int = 0
    pause: int = 0
    clear: bool = False


@functools.cache
def bench() -> BlockBench:
    lanes = {"head": (1, FETCHED.width, False), "push_word": (1, HELD.width, False), "previous_tag": (16, 2, False)}
    return BlockBench.of(CheckBlock(CONFIG), lanes, random_initial_state=True, depth=DEPTH)


def bits_of(layout: Layout, values: dict[str, Any]) -> list[int]:
    found: list[int] = []
    for field in layout.fields:
        found += [int(values[field.name]) >> bit & 1 for bit in range(field.width)]
    return found


def fitted(rng: np.random.Generator, kind: int) -> tuple[Descriptor, int]:
    """A legal descriptor, and the first byte behind what it touches."""
    select = int(rng.choice(GEOMETRY.storable if kind == STORE else list(GEOMETRY.targets)))
    target = GEOMETRY.targets[select]
    while True:
        n = [int(n) for n in rng.choice([1, 1, 2, 3, 5, 17], 3)]
        steps = [int(step) for step in rng.integers(-3, 4, 3)]
        if rng.random() < 0.2:
            # Many words, of which those of two loops are the same.
            n = [int(n) for n in rng.integers(1, 1 << rng.integers(1, 11, 3))]
            steps = [0, 0, 0]
        run = (n[0] - 1) * steps[0]
        row = (n[1] - 1) * (run + steps[1])
        parts = (run, row, (n[2] - 1) * (row + run + steps[2]))
        low, high = (sum(edge(0, part) for part in parts) for edge in (min, max))
        if high - low < target.words:
            break
    base = -low + int(rng.choice([0, target.words - 1 - (high - low), rng.integers(target.words - (high - low))]))
    size = 1 << int(rng.integers(3, 31))
    strides = [int(stride) for stride in rng.integers(-size, size, 2) // max(n[1], n[2])]
    row = (n[1] - 1) * strides[0]
    parts = (row, (n[2] - 1) * (row + strides[1]))
    low, high = (sum(edge(0, part) for part in parts) for edge in (min, max))
    address = -low + int(rng.choice([0, rng.integers(1 << 20)]))
    fields = {f"n{i}": n[i] for i in range(3)} | {f"step{i}": steps[i] for i in range(3)}
    fields |= {"stride1": strides[0], "stride2": strides[1], "base": base, "address": address, "select": select}
    fields |= {"unit": int(rng.integers(GEOMETRY.nodes)), "broadcast": int(kind == LOAD and rng.random() < 0.3)}
    return Descriptor(kind=kind, **fields), address + high + n[0] * target.stride


def spoilt(rng: np.random.Generator, descriptor: Descriptor) -> Descriptor:
    """One field has another value: any, one bit off, or the next."""
    absent = reserved_fields(CONFIG)
    names = [name for name in WIDTHS if name not in absent and not name.startswith("reserved") and name not in ("tag", "last")]
    field = WIDTHS[str(rng.choice(names))]
    value, size = getattr(descriptor, field.name), 1 << min(field.width, 62)
    changed = int(rng.choice([rng.integers(size), value ^ 1 << int(rng.integers(min(field.width, 62))), value + 1, value - 1, 0]))
    changed %= size
    if field.signed and changed >= size // 2:
        changed -= size
    return dataclasses.replace(descriptor, **{field.name: changed})


def items(seed: int, count: int) -> list[Item]:
    rng = np.random.default_rng(seed)
    found: list[Item] = []
    tags = [0, 0]
    for _ in range(count):
        clear = bool(rng.random() < 0.02)
        tags = [int(tag) for tag in rng.integers(0, 1 << 15, 2)] if clear else tags
        ring = int(rng.integers(2))
        kind = int(rng.choice([NOP, LOAD, STORE], p=[0.1, 0.5, 0.4]))
        descriptor, end = fitted(rng, kind)
        # Just enough memory, a byte too little, all that there may be.
        memory_bytes = int(rng.choice([end, end, end - 1, 1 << 34, end + rng.integers(1 << 20)]))
        if rng.random() < 0.35:
            descriptor = spoilt(rng, descriptor)
        tags[ring] = int(np.clip(tags[ring] + rng.choice([0, 0, 0, 1, -1, 300, 1 << int(rng.integers(13))]), 0, 0xFFFF))
        descriptor = dataclasses.replace(
            descriptor,
            tag=tags[ring],
            last=int(rng.random() < 0.3),
            after=int(rng.integers(1 << 16)),
            reserved=int(rng.random() < 0.02),
        )
        where, failed = 64 * int(rng.integers(1 << 28)), int(rng.random() < 0.03)
        pause = int(rng.choice([0, 0, 1, 5])) + 2 * clear
        found.append(Item(descriptor, min(memory_bytes, 1 << 34), ring, failed, where, pause, clear))
    return found


def of_many_words() -> list[Item]:
    """Legal loads of one word, again and again: as often as can be counted, about as many runs as that, and as there may be."""
    most = (1 << 20) - 1
    counts = [(n0, n1, n2) for n0 in (1, 2, 3) for n1, n2 in ((1 << 16, 1 << 15), (1 << 16, 1 << 16), ((1 << 17) - 1, 1 << 16))]
    counts += [(n0, n1, n2) for n0 in (1, 3, (1 << 24) - 1) for n1, n2 in ((1 << 17, 1 << 16), (1 << 16, 1 << 17), (most, most))]
    load = Descriptor(kind=LOAD, select=GEOMETRY.storable[0], tag=0xFFFF)
    return [
        Item(dataclasses.replace(load, n0=n0, n1=n1, n2=n2, after=number), 1 << 34, number % 2)
        for number, (n0, n1, n2) in enumerate(counts)
    ]


def test_every_descriptor_is_checked_by_the_rules() -> None:
    codes: dict[int, int] = {}
    many = of_many_words()
    listed = items(0, 2200) + many
    cycles = sum(item.pause + CHECK_CYCLES for item in listed) + 2
    given = {port.name: np.zeros((cycles, port.lanes) if port.lanes else cycles, np.int64) for port in bench().inputs}
    pushes, known = np.zeros(cycles, np.int64), np.zeros((cycles, HELD.width), bool)
    words, previous = np.zeros((cycles, HELD.width), np.int64), np.zeros((cycles, 2), np.int64)
    rules, at = DescriptorCheck(GEOMETRY), 0
    for item in listed:
        if item.clear:
            given["clear"][at], rules = 1, DescriptorCheck(GEOMETRY)
            previous[at + 1 :] = 0
        at += item.pause
        end = at + CHECK_CYCLES - 1
        descriptor = item.descriptor
        fields = {name: getattr(descriptor, name) for name in WIDTHS if hasattr(descriptor, name)}
        fields |= {"failed": item.failed, "ring": item.ring, "where": item.where, "reserved": descriptor.reserved}
        given["head_valid"][at : end + 1], given["head"][at : end + 1] = 1, bits_of(FETCHED, fields)
        given["memory_bytes"][end - 1] = item.memory_bytes
        tag = rules.previous_tag(item.ring) if item.failed else descriptor.tag
        code = rules.check(item.ring, descriptor, item.memory_bytes, unreadable=bool(item.failed))
        codes[code] = codes.get(code, 0) + 1
        assert item not in many or code == 0
        stride = GEOMETRY.targets[descriptor.select].stride if descriptor.select in GEOMETRY.targets else 0
        result = {"error": code, "words": min(descriptor.words, 1 << 32), "run_bytes": descriptor.n0 * stride}
        words[end] = bits_of(HELD, {**fields, **result, "tag": tag})
        legal = code == 0 and descriptor.kind != NOP
        known[end] = np.repeat([legal or field.name in ALWAYS for field in HELD.fields], [f.width for f in HELD.fields])
        pushes[end] = 1 << item.ring
        previous[end + 1 :] = [rules.previous_tag(ring) for ring in range(2)]
        at = end + 1
    observed = bench().run(given)
    np.testing.assert_array_equal(observed["push"], pushes)
    np.testing.assert_array_equal(observed["pop"], pushes > 0)
    np.testing.assert_array_equal(observed["push_word"][known], words[known])
    np.testing.assert_array_equal(observed["previous_tag"], previous)
    assert codes[0] > 800
    assert all(codes.get(code, 0) > 20 for code in (5, 6, 7, 8, 10, 11)), codes
