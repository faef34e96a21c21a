"""One epoch of row operations while it is scheduled: when pods, post-processors and ports are taken, and what is in its banks.

All nodes do the same at the same time, each with its own tiles, so that every time here is one for all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Reduce
from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import GAP_WIDTH, SCALAR_CYCLES, Combine, Destination, Saturate, Scalar, Statistic

from ..chip.bank_words import EpochFullError
from ..chip.reservations import Timeline, earliest
from ..lower.address_walk import increments
from .program import CachePlace, Words
from .tables import RowJobs, TileStep

Ints = NDArray[np.int64]
LaneSet = tuple[Ints, Ints, Ints]
"""Bias, multiplier and shift of the lanes of a word."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Jobs of post-processors that walk over rows: ``counts`` (words of a window, words of a row, rows).

    ``bases``: by node, the first P word, and where the first result goes. ``strides``: of P words, ``written``: of results, loop by
    loop. ``counts_of``: words of a row of nodes that have fewer. ``sets``: by node, those of the words of a row.
    """

    operation: int
    counts: tuple[int, int, int]
    bases: Mapping[int, tuple[int, int]]
    strides: tuple[int, int, int]
    written: tuple[int, int] = (0, 0)
    sets: Mapping[int, Sequence[LaneSet]]
    counts_of: Mapping[int, int] = field(default_factory=dict)
    reduce: Reduce = Reduce.HORNER
    combine: Combine = Combine.VALUE
    saturate: Saturate = Saturate.WIDE
    destination: Destination = Destination.NONE
    statistic: Statistic = Statistic.NONE
    scalar: Scalar = Scalar.NONE
    subtract: bool = False
    row_scale: bool = False
    row: int = 0
    table: int | None = None
    bank: int | None = None
    """The X bank of the results; by default each node's own."""
    length: int | None = None
    length_step: int = 0
    lanes: int = 0
    """Lanes of a word, where elements of rows are counted."""


@dataclass(frozen=True)
class Done:
    """When a pass reads, writes, and makes statistics: ``written``: the last result may be read; ``registers``: by row, a word
    whose last P word is read in that cycle finds its register ready."""

    start: int
    read: int
    written: int
    registers: Ints


class Epoch:
    """``share``: of W banks, parameter sets and program stores, what it may take; ``rings``: where it begins in them, by node."""

    def __init__(self, config: ChipConfig, number: int, share: float, rings: Mapping[str, Ints]):
        self.config, self.number = config, number
        self.jobs = RowJobs(config)
        self.words: list[Words] = []
        self.pods_free, self.swapped, self.posts_free, self.scalar_free, self.sent = 0, 0, 0, 0, 0
        self.p_writes, self.p_reads = Timeline(), Timeline()
        self.depths = {"w": config.memory.w_words, "set": config.post.parameter_sets}
        program = config.program
        self._stores = {"loads": program.load_jobs, "streams": program.stream_jobs, "posts": program.post_jobs}
        self.begin(share, rings)
        self._sets: dict[tuple[int, bytes], int] = {}
        self._cached: dict[tuple[int, str, CachePlace], int] = {}
        self._to_bank = config.write_latency + config.network_latency

    def begin(self, share: float, rings: Mapping[str, Ints]) -> None:
        """What it may take, and where it begins in rings; nothing has been placed in them."""
        self.rings = {name: begins.copy() for name, begins in rings.items()}
        self.used = {name: np.zeros(self.config.pods, np.int64) for name in rings}
        self.limits = {name: max(1, int(depth * share)) for name, depth in self.depths.items()}
        self.stores = {name: max(2, int(depth * share)) for name, depth in self._stores.items()}

    @property
    def is_empty(self) -> bool:
        return self.jobs.is_empty

    def take_all(self) -> None:
        """Let it have more than its share: all there is."""
        self.limits, self.stores = dict(self.depths), dict(self._stores)

    def require_room(self) -> None:
        """Raises `EpochFullError` if stores hold fewer jobs than there are, or times are too large for their fields."""
        for kind, most in self.stores.items():
            count = max(self.jobs.passes if kind == "posts" else self.jobs.tiles)
            if count > most:
                raise EpochFullError(f"an epoch has {count} {kind}, more than its {most}")
        config = self.config
        posts_end = self.posts_free + config.post_latency + config.post_beats + config.statistic_latency + SCALAR_CYCLES
        cycles = max(self.pods_free + config.write_latency, posts_end) + config.epoch_overhead
        longest = 2**config.pod.time_width - 1
        if cycles > longest:
            raise EpochFullError(f"an epoch lasts {cycles} cycles, more than time_width allows ({longest})")

    def mark(self) -> tuple:
        """What `back_to` needs to undo all that comes."""
        used = {name: count.copy() for name, count in self.used.items()}
        times = self.pods_free, self.swapped, self.posts_free, self.scalar_free, self.sent
        return (
            self.jobs.mark(),
            used,
            times,
            (self.p_writes.copy(), self.p_reads.copy()),
            len(self.words),
            dict(self._sets),
            dict(self._cached),
        )

    def back_to(self, mark: tuple) -> None:
        jobs, self.used, times, (self.p_writes, self.p_reads), words, self._sets, self._cached = mark
        self.pods_free, self.swapped, self.posts_free, self.scalar_free, self.sent = times
        self.jobs.back_to(jobs)
        del self.words[words:]

    def _take(self, name: str, node: int, count: int) -> int:
        """The first of ``count`` words or sets that follow each other."""
        begin, used, depth = int(self.rings[name][node]), int(self.used[name][node]), self.depths[name]
        at = (begin + used) % depth
        if at + count > depth:
            used, at = used + depth - at, 0
        if used + count > self.limits[name]:
            what = "words of a W bank" if name == "w" else "parameter sets"
            raise EpochFullError(f"an epoch needs {used + count} {what}, more than its {self.limits[name]}")
        self.used[name][node] = used + count
        return at

    def cached(self, pod: int, tensor: str, numbers: Ints, place: CachePlace, *, late: bool = False) -> int:
        """A tile of a cache in the W bank of a pod, with those ``numbers`` of bytes of its tensor; returns the first word. It is
        there once, whoever asks for it."""
        key = pod, tensor, place
        if key not in self._cached:
            self._cached[key] = base = self._take("w", pod, len(numbers))
            self.words.append(Words(HostSelect.W, pod, base, np.zeros(numbers.shape, np.uint8), tensor, numbers, late, place))
        return self._cached[key]

    def weight_tiles(self, pod: int, content: NDArray[np.uint8], operation: str) -> list[int]:
        """The same of tiles (tiles, rows, bytes) of an operation, which stay together where they can; returns the first word of
        each."""
        count, rows, size = content.shape
        bases = [self._take("w", pod, rows) for _ in range(count)]
        edges = [0, *(i for i in range(1, count) if bases[i] != bases[i - 1] + rows), count]
        for begin, end in itertools.pairwise(edges):
            tiles = content[begin:end].reshape(-1, size)
            self.words.append(Words(HostSelect.W, pod, bases[begin], tiles, operation=operation))
        return bases

    def parameters(self, node: int, sets: Sequence[LaneSet]) -> int:
        """Sets side by side in the post-processor of a node; equal ones are there once."""
        key = node, b"".join(np.asarray(part, np.int64).tobytes() for one in sets for part in one)
        if key not in self._sets:
            base = self._take("set", node, len(sets))
            self._sets[key] = base
            # Results of rows have no zero point.
            content = np.stack([np.stack([*one, np.zeros_like(one[0])]) for one in sets]).astype(np.int64)
            self.words.append(Words(HostSelect.PARAMETERS, node, base, content))
        return self._sets[key]

    def tile(self, step: TileStep, *, ready: int, free: int = 0) -> int:
        """Place a step. ``ready``: its words are there. ``free``: its P words may be written. Returns the cycle from which its sums
        may be read."""
        count = step.words[2]
        begin = max(self.pods_free, self.swapped + self.config.array.rows, ready)
        if step.into is not None:
            begin = max(begin, free - self._to_bank)
            # A word that is added needs the read port as well.
            lines = [self.p_writes, self.p_reads] if step.adds else [self.p_writes]
            begin = earliest(lines, begin + self._to_bank, count) - self._to_bank
            for line in lines:
                line.add(begin + self._to_bank, count)
        self.jobs.step(step, begin)
        self.pods_free, self.swapped = begin + count, begin
        return begin + count + self._to_bank + 1

    def post(self, work: Pass, ready: int, registers: Ints | None = None, free: int = 0) -> Done:
        """Jobs of a pass. ``ready``: its words may be read. ``registers``: as of the pass whose rows it reads. ``free``: its
        results may be written."""
        config, (window, words, rows) = self.config, work.counts
        most = 2**config.pod.count_width - 1
        if max(words, rows) > most:
            what = f"{rows} rows" if rows > most else f"{words} words of a row"
            raise EpochFullError(f"a job goes over {what}, more than count_width allows ({most})")
        own = work.destination in (Destination.STORE, Destination.ADD)
        gap, latency = self._gap(work), config.post_latency + self._turning(work)
        period = window + config.post_beats - 1 + self._turning(work) + gap
        index = np.arange(rows)
        # A node with fewer words is at each row earlier.
        first_reads = index * min([words, *filter(None, work.counts_of.values())]) * period + window - 1
        last_reads = ((index + 1) * words - 1) * period + window - 1
        duration = rows * words * period
        start = max(self.posts_free, ready, free - window + 1 - latency)
        if registers is not None:
            start = max(start, int((registers - first_reads).max()))
        arrives = last_reads + 9 + config.post_beats + self._turning(work) + config.network_stages
        if work.scalar:
            start = max(start, self.scalar_free - int(arrives[0]))
        into_x = work.destination in (Destination.X, Destination.PLANES)
        if into_x:
            # The second of the last two planes is on its way one cycle longer.
            start = max(start, self.sent - window + 1 - latency)
        lead = window - 1 + latency if own else 0
        start = self._when_ports_are_free(start, duration, lead)
        self._jobs(work, start, gap)
        last = start + duration - period + window - 1 + latency + (work.destination is Destination.PLANES)
        self.posts_free = start + duration
        if into_x:
            self.sent = last + 1
        if work.destination is Destination.ADD:
            # The last of them needs the read port.
            self.posts_free = max(self.posts_free, last + 1)
        if work.scalar:
            self.scalar_free = start + int(arrives[-1]) + SCALAR_CYCLES
        later = SCALAR_CYCLES if work.scalar else 0
        written = last + 2 if own else last + 1
        return Done(start, start + duration, written, start + arrives + 1 + later - 2)

    def _when_ports_are_free(self, start: int, duration: int, lead: int) -> int:
        """The first cycle from which a pass may read for ``duration`` cycles, and, if ``lead``, write as long, so much later."""
        while True:
            found = self.p_reads.next_free(start, duration)
            if lead:
                found = max(found, self.p_writes.next_free(found + lead, duration) - lead)
            if found == start:
                break
            start = found
        self.p_reads.add(start, duration)
        if lead:
            self.p_writes.add(start + lead, duration)
        return start

    def _turning(self, work: Pass) -> int:
        """Cycles that words take longer, for they are rotated."""
        return self.config.post_beats if work.combine is Combine.ROTATE else 0

    def _gap(self, work: Pass) -> int:
        """The fewest cycles between words with which nothing meets."""
        config, (window, words, rows) = self.config, work.counts
        least = window + config.post_beats - 1 + self._turning(work)
        for gap in range(1 << GAP_WIDTH):
            period = least + gap
            if work.destination is Destination.PLANES and period < 2:
                continue
            if work.scalar and rows > 1 and words * period < SCALAR_CYCLES:
                continue
            # A word that is added reads where the window of no other word does.
            if work.destination is Destination.ADD and (window - 1 + config.post_latency + self._turning(work)) % period < window:
                continue
            return gap
        raise AssertionError(f"no gap lets {work} run")

    def _jobs(self, work: Pass, start: int, gap: int) -> None:
        window, words, rows = work.counts
        codes = {"reduce": work.reduce, "combine": work.combine, "saturate": work.saturate, "destination": work.destination}
        codes |= {"statistic": work.statistic, "scalar": work.scalar}
        flags = {"subtract": work.subtract, "row_scale": work.row_scale, "activate": work.table is not None}
        flags |= {"wide_table": work.table is not None, "masked": work.length is not None}
        for node, (p_base, x_base) in work.bases.items():
            count = work.counts_of.get(node, words)
            sets = work.sets[node][:count]
            p = increments((window, 1, count, rows), (work.strides[0], 0, *work.strides[1:]))
            x = increments((count, rows), work.written)
            self.jobs.post(
                node,
                work.operation,
                start=start,
                n0=window,
                n1=1,
                n2=count,
                n3=rows,
                p_base=p_base,
                **{f"p_step{i}": step for i, step in enumerate(p)},
                x_bank=node if work.bank is None else work.bank,
                x_base=x_base,
                x_step2=x[0],
                x_step3=x[1],
                parameters=self.parameters(node, sets),
                parameters_step=int(len(sets) > 1),
                table=work.table or 0,
                gap=gap,
                level=self.config.network_stages,
                row=work.row,
                length=work.length or 0,
                length_step=work.length_step,
                element=node * work.lanes,
                element_step=self.config.pods * work.lanes,
                **{name: int(value) for name, value in (codes | flags).items()},
            )
