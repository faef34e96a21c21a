"""The descriptor gate alone, against the cycle model that the engine's has for it: heads, tags and words of any bits."""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from podweave.golden.cycle.prefetch.gate import COUNT_LIMIT, GateModel, Room
from podweave.golden.cycle.prefetch.reader import Head, ReaderModel
from podweave.golden.cycle.prefetch.words import LOAD, NOP, STORE, Descriptor, EngineGeometry, Inputs
from podweave.rtl.prefetch.descriptor_gate import DescriptorGate
from podweave.rtl.prefetch.engine_words import beat_bits, fault_layout, held_layout, item_layout, prefetch_of, walk_layout
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import TAG_WIDTH
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config, engine_geometry
from podweave.tb.cases.prefetch_engines import ENGINES
from tests.rtl.block_tables import Values, any_word, bits_of, compare, few, tables

pytestmark = pytest.mark.more

CYCLES = 12000
MOST_TAG = (1 << TAG_WIDTH) - 1


@dataclass
class Rings:
    """What stands in front of the gate: in place of a `ReaderModel`."""

    config: ChipConfig
    queues: list[deque[tuple[Head, dict[str, int]]]] = field(default_factory=lambda: [deque(), deque()])
    popped: list[int] = field(default_factory=lambda: [-1, -1])
    tags: list[int] = field(default_factory=lambda: [0, 0])
    left: list[int] = field(default_factory=lambda: [0, 0])
    broken: list[int] = field(default_factory=lambda: [0, 0])
    ends: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0), (0, 0)])
    index: tuple[int, int] = (0, 0)

    @property
    def held(self) -> list[int]:
        return [len(queue) for queue in self.queues]

    @property
    def checker(self) -> Rings:
        return self

    def previous_tag(self, ring: int) -> int:
        return self.ends[ring][0]

    def address(self, ring: int, index: int) -> int:
        return self.ends[ring][1]

    def head(self, ring: int, t: int) -> Head | None:
        queue = self.queues[ring]
        return queue[0][0] if queue and queue[0][0].valid <= t and self.popped[ring] < t else None

    def pop(self, ring: int, t: int) -> None:
        self.queues[ring].popleft()
        self.popped[ring] = t

    def ended(self, ring: int) -> bool:
        return self.broken[ring] != 0 and not self.queues[ring]

    def more(self, rng: np.random.Generator, geometry: EngineGeometry, t: int, done: int) -> None:
        """A head more, or the end of a ring."""
        for ring in range(2):
            if self.left[ring] == 0 and not self.broken[ring] and rng.random() < 0.1:
                self.broken[ring] = int(rng.integers(1, 16))
            elif self.left[ring] and len(self.queues[ring]) < geometry.descriptors and rng.random() < 0.5:
                self.left[ring] -= 1
                self.queues[ring].append(self.random_head(rng, geometry, ring, t + 1 + int(rng.integers(4)), done))

    def random_head(
        self, rng: np.random.Generator, geometry: EngineGeometry, ring: int, valid: int, done: int
    ) -> tuple[Head, dict[str, int]]:
        """Tags come in order; what has an error may have any."""
        fields = any_word(held_layout(self.config), rng)
        wrong = rng.random() < 0.05
        fields["error"] = int(rng.integers(1, 13)) if wrong else 0
        fields["kind"] = int(rng.choice([NOP, LOAD, STORE], p=[0.15, 0.65, 0.2]))
        fields["select"] = int(rng.choice(geometry.storable if fields["kind"] == STORE else list(geometry.targets)))
        fields["after"] = int(rng.choice([0, done, done + 1, done + 2, done ^ 1 << int(rng.integers(TAG_WIDTH))])) & MOST_TAG
        step = rng.choice([0, 0, 1, 2, 1 << int(rng.integers(TAG_WIDTH))], p=[0.35, 0.25, 0.3, 0.05, 0.05])
        fields["tag"] = self.tags[ring] = min(self.tags[ring] + int(step), MOST_TAG)
        for i, width in enumerate((24, 20, 20)):
            fields[f"n{i}"] = few(rng, width) if rng.random() < 0.4 else 1
        fields["words"] = min(fields["n0"] * fields["n1"] * fields["n2"], COUNT_LIMIT)
        if wrong:
            fields |= {name: int(rng.integers(16)) for name in ("kind", "select")}
            fields["tag"] ^= int(rng.choice([0, 0, 1 << int(rng.integers(TAG_WIDTH))]))
        names = ("kind", "select", "tag", "after", "n0", "n1", "n2")
        descriptor = Descriptor(**{name: fields[name] for name in names})
        return Head(valid, descriptor, fields["error"], fields["tag"], fields["where"]), fields


def masked(layout: Any, values: dict[str, int]) -> list[int]:
    return bits_of(layout, {f.name: values[f.name] & (1 << f.width) - 1 for f in layout.fields})


@dataclass
class Taken:
    """What the gate did in a cycle."""

    begun: tuple[int, Head, dict[str, int], bool] | None = None
    refused: tuple[int, int, int, int] | None = None


def drive(config: ChipConfig, rng: np.random.Generator, given: Values, seen: Values) -> dict[str, int]:
    """Returns how often each thing happened."""
    geometry, beat, word = engine_geometry(config), 1 << beat_bits(config), held_layout(config).width
    happened = dict.fromkeys(("begun", "stores", "refused", "cancelled", "skipped", "gate", "gap", "cap", "unconsumed"), 0)
    taken = Taken()

    def anew() -> tuple[Rings, GateModel]:
        rings = Rings(config)
        rings.tags = [int(rng.integers(1 << int(rng.integers(1, TAG_WIDTH + 1)))) for _ in range(2)]
        rings.left = [int(rng.integers(3, 40)) for _ in range(2)]
        rings.ends = [
            (int(rng.integers(MOST_TAG + 1)), int(rng.integers(1 << prefetch_of(config).address_width))) for _ in range(2)
        ]

        def begin(ring: int, head: Head) -> None:
            taken.begun = ring, head, rings.queues[ring][0][1], bool(head_last(rings, ring) and not gate.failed[ring])

        def refuse(ring: int, code: int, tag: int, address: int) -> None:
            taken.refused = ring, code, tag, address

        gate = GateModel(geometry, cast(ReaderModel, rings), begin, refuse)
        return rings, gate

    def head_last(rings: Rings, ring: int) -> int:
        return rings.queues[ring][0][1]["last"]

    rings, gate = anew()
    level, age, store = 0, 0, None
    done, cap, enable, gap = 0, 0, True, True
    rates = {"stopped": 0.0, "walking": 0.3, "item_ended": 0.3, "store_ended": 0.3}
    for cycle in range(CYCLES):
        if cycle % 100 == 0:
            rates = {name: float(rng.choice([0.05, 0.3, 0.7])) for name in rates}
            rates["stopped"] = float(rng.choice([0, 0, 0.2]))
        now = {name: bool(rng.random() < rate) for name, rate in rates.items()}
        heads = [rings.head(ring, cycle) for ring in range(2)]
        if rng.random() < 0.1:
            enable, gap = bool(rng.random() < 0.7), bool(rng.random() < 0.6)
        if rng.random() < 0.15:
            # Just about what a head waits for.
            wanted = [value for head in heads if head for value in (head.tag, head.descriptor.after)]
            done = max(done, min(int(rng.choice([*wanted, done])) - int(rng.integers(2)), MOST_TAG))
        if rng.random() < 0.3:
            words = min(heads[1].descriptor.words, COUNT_LIMIT) if heads[1] else 0
            edge = max(0, gate.unconsumed + words + int(rng.integers(-1, 2)))
            cap = int(rng.choice([0, edge, edge, rng.integers(1 << 32)])) & ((1 << 32) - 1)
        # Tags that are, or nearly are, those of heads.
        tags = [head.tag if head else int(rng.integers(MOST_TAG + 1)) for head in heads]
        flip = [int(rng.choice([0, 0, 1 << int(rng.integers(TAG_WIDTH))])) for _ in range(2)]
        ring = int(rng.integers(2))
        fault = {"ring": ring, "code": int(rng.integers(1, 5)), "tag": tags[ring] ^ flip[0], "address": int(rng.integers(1 << 34))}
        cancel_tag = tags[int(rng.integers(2))] ^ flip[1]
        ends_item, ends_store = now["item_ended"] and level > 0, bool(now["store_ended"] and store and level == 0)
        inputs = Inputs((0, 0), 0, enable=enable, cap=cap, epochs_done=done, gap=gap)
        faulty, cancels = bool(rng.random() < 0.02), bool(rng.random() < 0.02)
        age += 1
        clear = cycle == 0 or age > 400 or (any(rings.ended(i) for i in range(2)) and rng.random() < 0.02)
        pins = {
            **{"clear": clear, "stopped": now["stopped"], "enable": enable, "cap": cap, "epochs_done": done, "gap": gap},
            **{"cancel_valid": cancels, "cancel_tag": cancel_tag, "fault_valid": faulty},
            **{"item_ended": ends_item, "store_ended": ends_store, "walking": now["walking"]},
        }
        for name, value in pins.items():
            given[name][cycle] = value
        given["fault"][cycle] = bits_of(fault_layout(config), fault)
        for i, head in enumerate(heads):
            given["head_valid"][cycle, i], given["held"][cycle, i] = head is not None, len(rings.queues[i]) > 0
            given["broken"][cycle, i] = rings.ended(i)
            given["broken_code"][cycle, i] = rings.broken[i]
            given["previous_tag"][cycle, i], given["broken_address"][cycle, i] = rings.ends[i]
            if head:
                given["head"][cycle, word * i : word * (i + 1)] = masked(held_layout(config), rings.queues[i][0][1])
        stalls, unconsumed, before = gate.stalls, gate.unconsumed, rings.held
        taken.begun = taken.refused = None
        decisions = [int(decision) for decision in gate._decision]
        _, waiting = gate.cycle(cycle, inputs, Room(now["walking"], level, store is not None, now["stopped"]))
        pops = [int(a > b) for a, b in zip(before, rings.held, strict=True)]
        if cycle:
            values = {
                **{"refused_valid": taken.refused is not None, "begin_item": taken.begun is not None, "begin_walk": 0},
                **{"storing": store is not None, "waiting": waiting, "under_way": level > 0, "unconsumed": unconsumed},
                **{f"stall_{name}": stall for name, stall in zip(("gate", "gap", "cap"), stalls, strict=True)},
            }
            for i in range(2):
                seen["pop"][cycle, i] = pops[i]
            if taken.refused:
                names = ("ring", "code", "tag", "address")
                refused = dict(zip(names, taken.refused, strict=True))
                seen["refused"][cycle] = bits_of(fault_layout(config), refused)
                happened["refused"] += 1
                happened["cancelled"] += refused["code"] == 12
            if taken.begun:
                ring, head, fields, counts = taken.begun
                stores = head.descriptor.kind == STORE
                values["begin_walk"] = head.descriptor.kind != NOP
                own = {"ring": ring, "offset": fields["address"] % beat, "counts": int(counts and not stores), "store": int(stores)}
                seen["item"][cycle] = masked(item_layout(config), {**fields, **own})
                if values["begin_walk"]:
                    seen["walk"][cycle] = masked(walk_layout(config), {**fields, **own})
                happened["begun"] += 1
                happened["stores"] += stores
            if store:
                values |= store
            happened["skipped"] += sum(decision == 4 for decision in decisions)
            for name, stall in zip(("gate", "gap", "cap"), stalls, strict=True):
                happened[name] += stall
            happened["unconsumed"] += unconsumed > 0
            for name, value in values.items():
                seen[name][cycle] = value
        if ends_store:
            store = None
        level += (taken.begun is not None) - ends_item
        if taken.begun and taken.begun[1].descriptor.kind == STORE:
            ring, head, _, counts = taken.begun
            store = {"store_ring": ring, "store_tag": head.tag, "store_counts": int(counts)}
        if faulty:
            gate.fault_tag[fault["ring"]] = fault["tag"]
        if cancels:
            gate.cancelled = cancel_tag
        rings.more(rng, geometry, cycle, done)
        if clear:
            rings, gate = anew()
            level, age, store = 0, 0, None
            done = int(rng.choice([0, max(0, min(rings.tags) - 2)]))
    return happened


@functools.cache
def case(name: str) -> tuple[BlockBench, Values, Values]:
    config, rng = engine_config(address_width=34, **ENGINES[name]), np.random.default_rng(len(name))
    words = {"item": item_layout, "walk": walk_layout, "fault": fault_layout, "refused": fault_layout}
    lanes = {port: (1, layout(config).width, False) for port, layout in words.items()}
    lanes |= dict.fromkeys(("head_valid", "held", "pop", "broken"), (1, 2, False))
    lanes |= {"head": (1, 2 * held_layout(config).width, False), "broken_code": (4, 2, False)}
    lanes |= {"broken_address": (34, 2, False), "previous_tag": (TAG_WIDTH, 2, False)}
    bench = BlockBench.of(DescriptorGate(config), lanes, random_initial_state=True, depth=CYCLES)
    given, seen = tables(bench, rng, CYCLES)
    happened = drive(config, rng, given, seen)
    assert min(happened.values()) > 20, happened
    return bench, given, seen


@pytest.mark.parametrize("name", ["64_small", "128_columns"])
def test_any_heads(name: str) -> None:
    bench, given, seen = case(name)
    compare(seen, bench.run(given))
