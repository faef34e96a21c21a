"""What a prefetch engine is told, and what it refuses: descriptors, sizes, and the order of tags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NOP, LOAD, STORE = 0, 1, 2
DEMAND, PREFETCH = 0, 1
DESCRIPTOR_BYTES = 64
PAGE = 4096
TAG_BITS = 16

# Codes of errors.
READ_ERROR = {2: 1, 3: 2}
WRITE_ERROR = {2: 3, 3: 4}
DESCRIPTOR_RESPONSE, UNKNOWN_KIND, ZERO_LENGTH, BEYOND_MEMORY, MISALIGNED, BAD_TARGET, TAG_ORDER, CANCELLED = range(5, 13)
BAD_BASE, BAD_COLUMN, BAD_BESIDE = 13, 14, 15


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A run of ``n0`` words lies side by side in memory from ``address`` on; ``n1`` by ``n2`` of them are moved, as loops say.

    When loop 1 or 2 advances, the run begins ``stride<i>`` bytes after the one before; words on the chip are ``step0`` apart in a
    run, and ``step<i>`` from the last one of a run to the first one of the next. ``base_register``: number of the one that is
    added to ``address``, 0 for none. ``reserved``: any bit that must be 0.

    ``turns``: descriptors behind it in its ring are for one more pass. ``moves``: the address is that of the first pass.

    ``column``: a store writes byte i of the words of a run side by side, ``lane_stride`` bytes behind their bytes i - 1.
    ``beside``: it waits for ``after`` alone, even if an epoch is on that has its bank.
    """

    kind: int = NOP
    select: int = 0
    last: int = 0
    broadcast: int = 0
    unit: int = 0
    tag: int = 0
    after: int = 0
    address: int = 0
    base_register: int = 0
    n0: int = 0
    n1: int = 0
    n2: int = 0
    base: int = 0
    step0: int = 0
    step1: int = 0
    step2: int = 0
    stride1: int = 0
    stride2: int = 0
    column: int = 0
    lane_stride: int = 0
    moves: int = 0
    turns: int = 0
    beside: int = 0
    reserved: int = 0

    @cached_property
    def words(self) -> int:
        return self.n0 * self.n1 * self.n2

    def based(self, bases: tuple[int, ...]) -> Descriptor:
        """The same with its base register added to its address; ``bases``: of registers 1 and on, beyond which they are 0."""
        base = bases[self.base_register - 1] if 0 < self.base_register <= len(bases) else 0
        return dataclasses.replace(self, address=self.address + base)

    def turned(self, turns: int, epochs: int, stride: int) -> Descriptor:
        """The same behind so many turns, of ``epochs`` epochs and ``stride`` bytes each."""
        if not turns:
            return self
        tag, after = ((value + turns * epochs) % (1 << TAG_BITS) for value in (self.tag, self.after))
        return dataclasses.replace(self, tag=tag, after=after, address=self.address + self.moves * turns * stride)

    def run_starts(self) -> NDArray[np.int64]:
        """Address of every run: (n1 * n2,)."""
        return self._walk(self.address, self.stride1, self.stride2, (self.n1 - 1) * self.stride1)

    def memory_runs(self, target: Target) -> tuple[NDArray[np.int64], int]:
        """Where the stretches of memory that are written or read in one go begin, in order, and the bytes of each."""
        if not self.column:
            return self.run_starts(), self.n0 * target.stride
        lanes = np.arange(target.bytes, dtype=np.int64) * self.lane_stride
        return (self.run_starts()[:, None] + lanes).reshape(-1), self.n0

    def accesses(self, target: Target) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Word address and piece of every access of the chip, in order."""
        words, pieces = self.word_addresses(), np.arange(target.pieces)
        if not self.column:
            return np.repeat(words, target.pieces), np.tile(pieces, len(words))
        runs = np.repeat(words.reshape(-1, 1, self.n0), target.pieces, axis=1)
        return runs.reshape(-1), np.broadcast_to(pieces[:, None], runs.shape).reshape(-1)

    def _walk(self, first: int, inner: int, outer: int, row: int) -> NDArray[np.int64]:
        i, j = np.arange(self.n1, dtype=np.int64), np.arange(self.n2, dtype=np.int64)
        return (first + j[:, None] * (row + outer) + i * inner).reshape(-1)

    def word_addresses(self) -> NDArray[np.int64]:
        """Address on the chip of every word: (n0 * n1 * n2,)."""
        run = (self.n0 - 1) * self.step0
        starts = self._walk(self.base, run + self.step1, run + self.step2, (self.n1 - 1) * (run + self.step1))
        return (starts[:, None] + np.arange(self.n0, dtype=np.int64) * self.step0).reshape(-1)


@dataclass(frozen=True)
class Target:
    """What a select reaches: ``words`` in a node, ``stride`` bytes from word to word in memory, in ``pieces`` on the load port.

    ``bytes``: of those ``stride``, the first, that are not only there to fill it. A piece has a power of two of bytes, the same in
    all pieces but the last one of a word, which may be smaller, if it is not of what can be stored.
    """

    words: int
    stride: int
    pieces: int
    bytes: int

    @cached_property
    def piece_bytes(self) -> int:
        return 1 << (-(-self.stride // self.pieces) - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class EngineGeometry:
    """Sizes of an engine. ``base_registers``: it has; without any, their number in a descriptor is reserved bits.

    ``column_words``: words of a run of a column store, at most; with 0, the fields of such stores are reserved bits.

    ``passes``: a run may have several; else what is for them in a descriptor is reserved bits.

    ``nodes``: it serves; ``host_levels``, ``read_latency``: cycles, of the chip that it feeds. ``targets``: by select, what can be
    loaded; ``storable``: selects that can also be stored; ``epoch_banks``: selects that may only be reached while no epoch is on;
    ``beside_banks``: of these, those that may be reached beside one; without any, ``beside`` is a reserved bit.
    """

    beat_bytes: int
    address_width: int
    buffer_beats: int
    max_burst: int
    outstanding: int
    descriptors: int
    base_registers: int = 0
    column_words: int = 0
    passes: bool = False
    nodes: int
    host_levels: int
    read_latency: int
    targets: Mapping[int, Target]
    storable: tuple[int, ...]
    epoch_banks: tuple[int, ...]
    beside_banks: tuple[int, ...] = ()

    @property
    def burst_limit(self) -> int:
        """Beats."""
        return min(self.max_burst, PAGE // self.beat_bytes)


@dataclass
class Inputs:
    """Of an engine, from some cycle on. ``base``, ``tail``: of the demand and the prefetch ring. ``bases``: base registers.

    ``passes``: a ring goes over its body once less. ``bodies``: of each ring, the descriptors from the first index on to before the
    second; a body that begins at 0 is none. ``pass_epochs``, ``pass_stride``: what a turn adds to tags and after, and to addresses
    that move.
    """

    base: tuple[int, int]
    memory_bytes: int
    bases: tuple[int, ...] = ()
    passes: int = 1
    bodies: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    pass_epochs: int = 0
    pass_stride: int = 0
    tail: tuple[int, int] = (0, 0)
    enable: bool = True
    cap: int = 0
    epochs_done: int = 0
    gap: bool = True
    stop: bool = False
    cancel: int | None = None
    """Tag that is cancelled in this one cycle."""


class DescriptorCheck:
    """Codes of descriptors, in the order in which they were fetched; remembers for each ring what came before."""

    def __init__(self, geometry: EngineGeometry):
        self.geometry = geometry
        self.previous: list[tuple[int, bool] | None] = [None, None]

    def previous_tag(self, ring: int) -> int:
        before = self.previous[ring]
        return before[0] if before else 0

    def check(self, ring: int, descriptor: Descriptor, memory_bytes: int, *, unreadable: bool = False) -> int:
        """The smallest code that applies; 0 for a legal descriptor, which has its base register and turns added."""
        code = DESCRIPTOR_RESPONSE if unreadable else self._own(descriptor, memory_bytes)
        before = self.previous[ring]
        if not code and before and (descriptor.tag < before[0] or (descriptor.tag == before[0] and before[1])):
            code = TAG_ORDER
        if not code and descriptor.kind != NOP:
            if descriptor.base_register > self.geometry.base_registers:
                code = BAD_BASE
            elif descriptor.column and (descriptor.kind == LOAD or descriptor.n0 > self.geometry.column_words):
                code = BAD_COLUMN
            elif descriptor.beside and descriptor.select not in self.geometry.beside_banks:
                code = BAD_BESIDE
        if code not in (DESCRIPTOR_RESPONSE, UNKNOWN_KIND, TAG_ORDER):
            self.previous[ring] = descriptor.tag, bool(descriptor.last)
        return code

    def _own(self, d: Descriptor, memory_bytes: int) -> int:
        missing = d.base_register and not self.geometry.base_registers
        missing = missing or ((d.column or d.lane_stride) and not self.geometry.column_words)
        missing = missing or ((d.moves or d.turns) and not self.geometry.passes)
        missing = missing or (d.beside and not self.geometry.beside_banks)
        if d.reserved or d.kind > STORE or missing:
            return UNKNOWN_KIND
        if d.kind == NOP:
            return 0
        if 0 in (d.n0, d.n1, d.n2):
            return ZERO_LENGTH
        target = self.geometry.targets.get(d.select, Target(0, 0, 1, 1))
        columns = d.column and d.kind == STORE
        lanes = (target.bytes - 1) * d.lane_stride if columns else 0
        low, high = _reach(d.address, ((d.n1 - 1) * d.stride1, (d.n2 - 1) * ((d.n1 - 1) * d.stride1 + d.stride2), lanes))
        run = d.n0 if columns else d.n0 * target.stride
        if d.address >> self.geometry.address_width or low < 0 or high + run > memory_bytes:
            return BEYOND_MEMORY
        run = (d.n0 - 1) * d.step0
        row = (d.n1 - 1) * (run + d.step1)
        low, high = _reach(d.base, (run, row, (d.n2 - 1) * (row + run + d.step2)))
        if low < 0 or high >= target.words or (d.kind == STORE and (d.select not in self.geometry.storable or d.broadcast)):
            return BAD_TARGET
        return BAD_TARGET if not d.broadcast and d.unit >= self.geometry.nodes else 0


def _reach(base: int, spread: tuple[int, ...]) -> tuple[int, int]:
    return base + sum(min(0, part) for part in spread), base + sum(max(0, part) for part in spread)
