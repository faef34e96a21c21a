"""The burst issuer alone: runs of any length anywhere in memory, and channels, room and bursts under way that are waited for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from podweave.rtl.prefetch.burst_issuer import PAGE_BYTES, BurstIssuer
from podweave.rtl.prefetch.engine_words import ReadClass, beat_bits, burst_layout, prefetch_of, targets, walk_layout
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DESCRIPTOR_BYTES, STORABLE
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config
from podweave.tb.cases.prefetch_engines import ENGINES, MORE_ENGINES
from tests.rtl.block_tables import Values, any_word, bits_of, compare, few, of_part, tables
from tests.rtl.side_by_side import SideBySide

pytestmark = pytest.mark.more

CYCLES = 14000
ADDRESS = 34


@dataclass(frozen=True)
class Burst:
    """``at``: its first beat."""

    at: int
    beats: int
    last: bool
    store: int
    ring: int
    tag: int


@dataclass
class Model:
    """By the contract: what is in each stage, and what is under way."""

    config: ChipConfig
    runs: Iterator[int] = field(default_factory=lambda: iter(()))
    walk: dict[str, int] = field(default_factory=dict)
    run: int | None = None
    bursts: Iterator[Burst] = field(default_factory=lambda: iter(()))
    split: Burst | None = None
    burst: Burst | None = None
    read: tuple[int, int] | None = None
    write: tuple[int, int] | None = None
    reads: int = 0
    writes: int = 0
    stored: int = 0
    used: int = 0
    stalls: tuple[int, int] = (0, 0)

    def starts(self, walk: dict[str, int]) -> Iterator[int]:
        """Where the stretches of a descriptor begin."""
        lanes = targets(self.config)[walk["select"]].bytes if walk.get("column") else 1  # type: ignore[index]
        begin = walk["address"]
        for _ in range(walk["n2"]):
            for inner in range(walk["n1"]):
                yield from ((begin + lane * walk.get("lane_stride", 0)) % (1 << ADDRESS) for lane in range(lanes))
                begin += walk["stride2" if inner == walk["n1"] - 1 else "stride1"]

    def cut(self, start: int, walk: dict[str, int]) -> Iterator[Burst]:
        """Bursts of a run: of beats that it touches, within a page, of as many beats as there may be."""
        prefetch = prefetch_of(self.config)
        beat = prefetch.data_width // 8
        at, end = start // beat, -(-(start + walk["run_bytes"]) // beat)
        while at < end:
            page_end = (at * beat // PAGE_BYTES + 1) * PAGE_BYTES // beat
            beats = min(end - at, prefetch.max_burst, page_end - at)
            ids = {name: walk[name] for name in ("store", "ring", "tag")}
            yield Burst(at % ((1 << ADDRESS) // beat), beats, at + beats == end, **ids)
            at += beats

    def begin(self, walk: dict[str, int]) -> None:
        self.runs, self.walk = self.starts(walk), walk
        self.run = next(self.runs)

    def move(self, issued: bool) -> None:
        """From stage to stage at the end of a cycle."""
        goes = self.split is not None and (self.burst is None or issued)
        taken = self.run is not None and (self.split is None or (goes and self.split.last))
        self.burst = self.split if goes else None if issued else self.burst
        if goes:
            self.split = next(self.bursts, None)
        if taken and self.run is not None:
            self.bursts = self.cut(self.run, self.walk)
            self.split, self.run = next(self.bursts), next(self.runs, None)


def random_walk(rng: np.random.Generator, config: ChipConfig) -> dict[str, int]:
    """One run or some, short or of nearly all of memory."""
    layout = walk_layout(config)
    walk, widths = any_word(layout, rng), {field.name: field.width for field in layout.fields}
    for name in ("stride1", "stride2", "lane_stride"):
        if name in walk:
            size = 1 << int(rng.integers(3, 32))
            walk[name] = int(rng.integers(-size, size))
    beat = 1 << beat_bits(config)
    walk["run_bytes"] = int(rng.choice([rng.integers(1, 8 * beat), beat * few(rng, 33 - beat_bits(config)) + rng.integers(2)]))
    for name in ("n1", "n2"):
        walk[name] = few(rng, widths[name]) if rng.random() < 0.5 else int(rng.integers(1, 3))
    if rng.random() < 0.3:
        walk["n1"] = 1
    if "column" in walk:
        walk["select"] = int(rng.choice(list(STORABLE)))
        walk["column"] &= walk["store"]
    return walk


def drive(config: ChipConfig, rng: np.random.Generator, given: Values, seen: Values) -> dict[str, int]:
    """Returns how often each thing was issued."""
    prefetch, beat = prefetch_of(config), 1 << beat_bits(config)
    outstanding, room = prefetch.outstanding, prefetch.buffer_beats
    layout, burst_word = walk_layout(config), burst_layout(config)
    model, walk, age = Model(config), random_walk(rng, config), 0
    counted = {"descriptors": 0, "loads": 0, "stores": 0, "walks": 0}
    names = ("begin", "stopped", "request_valid", "arready", "awready", "release", "reserve", "read", "write", "stored")
    rates = dict.fromkeys(names, 0.5)
    for cycle in range(CYCLES):
        if cycle % 200 == 0:
            rates = {name: float(rng.choice([0.1, 0.5, 0.95])) for name in names}
            rates["request_valid"] = float(rng.choice([0.02, 0.02, 0.4]))
            rates["stopped"] = float(rng.choice([0, 0, 0.2]))
        now = {name: rng.random() < rate for name, rate in rates.items()}
        walking = model.run is not None
        age += 1
        clear = int(cycle == 0 or age > 150)
        burst, fits = model.burst, model.burst is not None and room - model.used >= model.burst.beats
        may_read = (model.read is None or now["arready"]) and model.reads < outstanding and not now["stopped"]
        granted = may_read and now["request_valid"]
        loads = burst is not None and not burst.store and may_read and not now["request_valid"] and fits
        may_write = (model.write is None or now["awready"]) and model.writes < outstanding and not now["stopped"]
        stores = burst is not None and burst.store and may_write and model.stored >= burst.beats
        begins = not walking and now["begin"]
        reserve, release = now["reserve"] and model.used < room and not loads, now["release"] and model.used > 0
        ends = {"read_ended": now["read"] and model.reads > 0, "write_ended": now["write"] and model.writes > 0}
        stored = now["stored"] and model.stored < room
        given["clear"][cycle], given["begin"][cycle], given["walk"][cycle] = clear, begins, bits_of(layout, walk)
        for name in ("stopped", "request_valid"):
            given[name][cycle] = now[name]
        given["m_axi_arready"][cycle], given["m_axi_awready"][cycle] = now["arready"], now["awready"]
        for name, value in {"reserve": reserve, "release": release, "stored": stored, **ends}.items():
            given[name][cycle] = value
        if cycle:
            ports = {
                **{"walking": walking, "busy": walking or model.split is not None or burst is not None, "granted": granted},
                **{"credit": model.used < room, "read_issued": granted or loads, "write_issued": stores},
                **{"reading": model.reads > 0 or model.read is not None, "writing": model.writes > 0 or model.write is not None},
                **{"stall_buffer": model.stalls[0], "stall_bus": model.stalls[1]},
                **{"m_axi_arvalid": model.read is not None, "m_axi_awvalid": model.write is not None},
            }
            for name, value in ports.items():
                seen[name][cycle] = value
            for way, channel in (("ar", model.read), ("aw", model.write)):
                if channel:
                    seen[f"m_axi_{way}addr"][cycle], seen[f"m_axi_{way}len"][cycle] = channel
        after_read = None if now["arready"] else model.read
        after_write = None if now["awready"] else model.write
        if granted:
            address, ring = int(given["request_address"][cycle]), int(given["request_ring"][cycle])
            word = {"read_class": ReadClass.DESCRIPTOR, "ring": ring, "tag": 0, "address": address}
            after_read = address, DESCRIPTOR_BYTES // beat - 1
        if burst and loads:
            kind = ReadClass.PREFETCH if burst.ring else ReadClass.DEMAND
            word = {"read_class": kind, "ring": burst.ring, "tag": burst.tag, "address": burst.at * beat}
            after_read = burst.at * beat, burst.beats - 1
        if cycle and (granted or loads):
            known = np.repeat([loads or f.name != "tag" for f in burst_word.fields], [f.width for f in burst_word.fields])
            seen["burst"][cycle] = np.where(known, bits_of(burst_word, word), -1)
        if burst and stores:
            after_write = burst.at * beat, burst.beats - 1
            if cycle:
                seen["write_address"][cycle], seen["write_length"][cycle] = after_write
        for name, happened in (("descriptors", granted), ("loads", loads), ("stores", stores)):
            counted[name] += bool(happened)
        waits = burst is not None and not burst.store and not fits
        model.stalls = int(waits), int(model.read is not None and not now["arready"])
        model.read, model.write = after_read, after_write
        model.used += (burst.beats if burst and loads else 0) + int(reserve) - int(release)
        model.stored += int(stored) - (burst.beats if burst and stores else 0)
        model.reads += int(granted or loads) - int(ends["read_ended"])
        model.writes += int(bool(stores)) - int(ends["write_ended"])
        model.move(bool(loads or stores))
        if begins:
            model.begin(walk)
            walk, age = random_walk(rng, config), 0
            counted["walks"] += 1
        if clear:
            model, age = Model(config), 0
    return counted


@functools.cache
def case(name: str) -> tuple[BlockBench, Values, Values]:
    config, rng = engine_config(address_width=ADDRESS, **(ENGINES | MORE_ENGINES)[name]), np.random.default_rng(len(name))
    lanes = {"issuer_walk": (1, walk_layout(config).width, False), "issuer_burst": (1, burst_layout(config).width, False)}
    # Verilog knows ``begin`` as something else.
    bench = BlockBench.of(SideBySide({"issuer": BurstIssuer(config)}), lanes, random_initial_state=True, depth=CYCLES)
    given, seen = tables(bench, rng, CYCLES)
    given["clear"][:] = 0
    counted = drive(config, rng, of_part("issuer", given), of_part("issuer", seen))
    assert counted["walks"] > 100
    assert min(counted.values()) > 80, counted
    return bench, given, seen


@pytest.mark.parametrize("name", ["64_small", "128_columns", "64_long_bursts"])
def test_bursts_of_any_runs(name: str) -> None:
    """Each length and address has high bits; what would lose one would end early, or elsewhere."""
    bench, given, seen = case(name)
    compare(seen, bench.run(given))
