"""Walkers of pieces and of columns, and the buffer of columns, alone: steps by loops over bytes, every port in every cycle."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from podweave.rtl.prefetch.column_buffer import ColumnBuffer
from podweave.rtl.prefetch.column_walker import ColumnWalker
from podweave.rtl.prefetch.engine_words import Target, beat_bits, item_layout, prefetch_of, targets
from podweave.rtl.prefetch.piece_walker import PieceWalker
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import STORABLE, DescriptorKind
from podweave.spec.load_port import HostSelect, host_address_width
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config
from podweave.tb.cases.prefetch_engines import ENGINES
from tests.rtl.block_tables import Values, any_word, bits_of, compare, of_part, tables
from tests.rtl.prefetch.test_column_stores import config_of
from tests.rtl.side_by_side import SideBySide

pytestmark = pytest.mark.more

CYCLES = 40000
ITEM = ("select", "broadcast", "unit", "ring", "counts")
Step = tuple[dict[str, int], str]
"""What is on ports, and what the step waits for, if for anything."""


@dataclass(frozen=True)
class Walk:
    """An item, and the bytes of a beat."""

    fields: dict[str, int]
    target: Target
    beat: int
    words: int

    def runs(self) -> Iterator[tuple[int, int, bool]]:
        """Of each run: where in memory it begins, its first word, and whether it is the last one."""
        item = self.fields
        byte, word = item["offset"], item["base"]
        for outer in range(item["n2"]):
            for inner in range(item["n1"]):
                ends = inner == item["n1"] - 1
                yield byte, word, ends and outer == item["n2"] - 1
                word += (item["n0"] - 1) * item["step0"] + item["step2" if ends else "step1"]
                byte += item["stride2" if ends else "stride1"]

    def size(self, piece: int) -> int:
        return self.target.last_bytes if piece == self.target.pieces - 1 else self.target.piece_bytes

    def pieces(self) -> Iterator[Step]:
        """Steps of a walker of pieces."""
        item, beat = self.fields, self.beat
        shared = {name: item[name] for name in ITEM}
        idle = dict.fromkeys(("pops", "delivers", "reads", "pushes", "last"), 0)
        if item["kind"] == DescriptorKind.NOP:
            yield {**shared, **idle, "first": 1, "last": 1}, ""
            return
        first = 1
        for at, word, last_run in self.runs():
            popped = at // beat - 1
            for number in range(item["n0"]):
                for piece in range(self.target.pieces):
                    size, ends_word = self.size(piece), piece == self.target.pieces - 1
                    ends_run = ends_word and number == item["n0"] - 1
                    end = (at + size - 1) // beat
                    straddles, ends = int(end > at // beat), int(ends_run and last_run)
                    step = {**shared, **idle, "straddles": straddles, "commit": int(ends_word), "offset": at % beat}
                    step |= {"piece_bits": size.bit_length() - 1, "beat": piece, "address": word % self.words}
                    if item["kind"] == DescriptorKind.LOAD:
                        if end > popped + 1:
                            yield {**shared, **idle, "pops": 1, "first": first}, "available"
                            first, popped = 0, popped + 1
                        pops = int(end > popped)
                        yield {**step, "delivers": 1, "pops": pops, "first": first, "last": ends}, "available" if pops else ""
                        popped = end
                    else:
                        full, flushes = (at + size) // beat > at // beat, ends_run and straddles
                        pushes = int(full or ends_run)
                        last = int(ends and not flushes)
                        yield {**step, "reads": 1, "pushes": pushes, "first": first, "last": last}, "credit" if pushes else ""
                        if flushes:
                            yield {**shared, **idle, "pushes": 1, "first": 0, "last": ends}, "credit"
                    first, at = 0, at + size
                word += item["step0"]

    def columns(self) -> Iterator[Step]:
        """Steps of a walker of columns."""
        item, beat, n0 = self.fields, self.beat, self.fields["n0"]
        shared = {name: item[name] for name in ("select", "unit", "ring")}
        first = 1
        for at, begin, last_run in self.runs():
            for piece in range(self.target.pieces):
                ends_run = last_run and piece == self.target.pieces - 1
                for number in range(n0):
                    word = (begin + number * item["step0"]) % self.words
                    does = {"reads": 1, "lane": 0, "pushes": 0, "first": first, "last": 0}
                    yield {**shared, **does, "address": word, "beat": piece}, ""
                    first = 0
                lanes = min(self.target.piece_bytes, self.target.bytes - piece * self.target.piece_bytes)
                for lane in range(lanes):
                    more = (at + n0 - 1) // beat > at // beat
                    ends = int(ends_run and lane == lanes - 1)
                    does = {"reads": 0, "lane": 1, "pushes": 1, "first": 0, "last": int(ends and not more)}
                    yield {**shared, **does, "offset": at % beat}, "credit"
                    if more:
                        yield {**shared, **does, "lane": 0, "last": ends}, "credit"
                    at += item["lane_stride"]


def random_walk(rng: np.random.Generator, config: ChipConfig, columns: bool) -> Walk:
    """Few words, or many of which most will be forgotten."""
    layout, found = item_layout(config), targets(config)
    fields, widths = any_word(layout, rng), {field.name: field.width for field in layout.fields}
    kinds = [DescriptorKind.STORE] if columns else list(DescriptorKind)
    fields["kind"] = int(rng.choice(kinds, p=None if columns else [0.1, 0.6, 0.3]))
    stores = fields["kind"] == DescriptorKind.STORE
    select = HostSelect(rng.choice(list(STORABLE) if stores else list(found)))
    # That of a NOP means nothing, and may be any.
    if fields["kind"] != DescriptorKind.NOP:
        fields["select"] = int(select)
    for i in range(3):
        fields[f"n{i}"] = int(rng.integers(1, 4))
    if rng.random() < 0.6:
        # One that is soon over if it loses its highest bit; loops around it never go on, and those inside are short.
        longest = int(rng.integers(1 if columns else 0, 3))
        fields |= {f"n{i}": 1 if i < longest and rng.random() < 0.8 else fields[f"n{i}"] for i in range(3)}
        high, low = int(rng.integers(2, widths[f"n{longest}"])), int(rng.integers(1, 7))
        fields[f"n{longest}"] = (1 << high | (1 << low) * (rng.random() < 0.6 and low < high)) + int(rng.integers(3))
    if columns:
        fields["n0"] = int(rng.integers(1, prefetch_of(config).column_words + 1))
    return Walk(fields, found[select], 1 << beat_bits(config), 1 << host_address_width(config))


def drive(config: ChipConfig, rng: np.random.Generator, given: Values, seen: Values, *, columns: bool) -> int:
    """Items, one behind the other, stops, and now and then a clear. Returns how many were walked to their ends."""
    steps: Iterator[Step] | None = None
    step: Step | None = None
    layout, ended, cleared = item_layout(config), 0, True
    walk, age, lane_bytes = random_walk(rng, config, columns), 0, -1
    rates = {"stopped": 0.1, "available": 0.6, "credit": 0.6, "item_valid": 0.9}
    for cycle in range(CYCLES):
        if cycle % 300 == 0:
            rates = dict(zip(rates, rng.choice([0.02, 0.5, 0.95], 4, p=[0.1, 0.2, 0.7]), strict=True))
            rates["stopped"] = float(rng.choice([0, 0.01, 0.3]))
        now = {name: int(rng.random() < rate) for name, rate in rates.items()}
        age = 0 if step is None or step[0]["last"] else age + 1
        now["clear"] = int(cycle == 0 or rng.random() < 0.002 or (age > 80 and rng.random() < 0.1) or age > 200)
        for name, value in now.items():
            if name in given:
                given[name][cycle] = value
        given["item"][cycle] = bits_of(layout, walk.fields)
        makes = int(step is not None and not now["stopped"] and (not step[1] or now[step[1]]))
        last = int(makes and step is not None and step[0]["last"])
        pops = int(now["item_valid"] and not now["stopped"] and (step is None or (last and not columns)))
        if cycle:
            seen["active"][cycle], seen["step"][cycle], seen["last"][cycle] = step is not None, makes, last
            seen["item_pop"][cycle] = pops
            if makes and step is not None:
                for name, value in step[0].items():
                    seen[name][cycle] = value
            if columns:
                seen["lane_bytes"][cycle] = lane_bytes
        ended += last
        if makes and steps is not None:
            step = next(steps, None)
        if pops:
            steps = walk.columns() if columns else walk.pieces()
            step, lane_bytes, age = next(steps), walk.fields["n0"], 0
        if now["clear"]:
            step = None
        if pops or cleared:
            walk = random_walk(rng, config, columns)
        cleared = bool(now["clear"])
    return ended


def buffer(config: ChipConfig, rng: np.random.Generator, given: Values, seen: Values) -> None:
    """As many words as there is room for, or fewer, and as many shifts as a piece has bytes."""
    most, width = prefetch_of(config).column_words, given["piece"].shape[1] // 8
    pieces: list[np.ndarray[Any, Any]] = []
    shifts = words = 0
    for cycle in range(CYCLES):
        given["clear"][cycle] = cycle == 0
        for name in ("collect", "shift"):
            given[name][cycle] = 0
        for number, piece in enumerate(pieces):
            if cycle and shifts < width:
                seen["column"][cycle, 8 * number : 8 * number + 8] = piece[8 * shifts : 8 * shifts + 8]
        if not cycle or rng.random() < 0.1:
            continue
        if shifts == words == 0:
            words = int(rng.integers(1, most + 1))
            shifts, pieces = 0, []
        if len(pieces) < words:
            given["collect"][cycle] = 1
            pieces.append(given["piece"][cycle])
        elif shifts < width and rng.random() < 0.98:
            given["shift"][cycle] = 1
            shifts += 1
        else:
            # A shift makes the next word the first one, too.
            given["clear"][cycle] = shifts == 0 or rng.random() < 0.5
            shifts, words, pieces = 0, 0, []


CONFIGS = {name: engine_config(address_width=34, **ENGINES[name]) for name in ("64_small", "64_odd_words", "128_columns")}
# Of sums, two pieces, of which the second has bytes that only fill.
CONFIGS["64_two_pieces"] = config_of("64")


@functools.cache
def case(name: str) -> tuple[BlockBench, Values, Values]:
    config, rng = CONFIGS[name], np.random.default_rng(len(name))
    item = item_layout(config).width
    parts: dict[str, Any] = {"pieces": PieceWalker(config)}
    lanes = {"pieces_item": (1, item, False)}
    words = prefetch_of(config).column_words
    if words:
        parts |= {"columns": ColumnWalker(config), "buffer": ColumnBuffer(config)}
        width = parts["buffer"].signature.members["piece"].shape
        lanes |= {"columns_item": (1, item, False), "buffer_piece": (1, width, False), "buffer_column": (1, 8 * words, False)}
    bench = BlockBench.of(SideBySide(parts), lanes, random_initial_state=True, depth=CYCLES)
    given, seen = tables(bench, rng, CYCLES)
    given["clear"][:] = 0
    assert drive(config, rng, of_part("pieces", given), of_part("pieces", seen), columns=False) > 100
    if words:
        assert drive(config, rng, of_part("columns", given), of_part("columns", seen), columns=True) > 50
        buffer(config, rng, of_part("buffer", given), of_part("buffer", seen))
    return bench, given, seen


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_of_any_item(name: str) -> None:
    bench, given, seen = case(name)
    compare(seen, bench.run(given))
