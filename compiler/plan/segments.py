"""Segments and bands that fit, by an estimate, and what they cost: bytes that are moved, and cycles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.operations import AS_IT_IS, Linear
from podweave.spec.config import ChipConfig

from ..lower.boxes import Rect
from .bands import Grid, Segment, are_apart, band_counts, grids_of, needed, sights, size_of
from .estimates import Estimates

_COPIES = 1.4
"""Words of X banks for a word that is computed and sent there: several gangs may have it, and patches overlap."""
_ALIKE = 8
"""Segments that begin so few operations apart are refused alike."""
_MOST_OPERATIONS = 24
"""Of a segment in bands of rows or columns: what is computed twice grows with it."""
_MOST_BANDS = 4096
_MOST_MISSES = 6
"""Segments that are no gain, one operation longer than another each, after which no longer one is tried."""
_MORE = 1.1
"""From a number of bands that was refused to the next."""
_NEAR = 32
"""Operations: see `_ends`."""
_BOX_GAIN = 0.8
"""What boxes cost, of what rows do, for which they are taken: managers store and load all sides that they have more than once."""


class Planner(Estimates):
    """Plans of a graph on a chip, the cheapest first. What did not fit when it was compiled is told to it (`refuse`).

    ``most``: operations of a segment; 0: as many as fit.
    """

    def __init__(self, graph: Graph, config: ChipConfig, most: int = 0):
        super().__init__(graph, config)
        self.most = most or len(graph.operations)
        self.sights = sights(self.operations)
        self._least: dict[int, list[tuple[int, int]]] = {}
        """By first operation, up to which others have fewer bands than a number been refused."""
        self._known: dict[tuple[int, int], Segment | None] = {}
        self._needed: dict[tuple[int, bool], tuple[int, int]] = {}
        """By first operation, and whether bands are boxes, up to which other so many of them are needed."""
        self._reach: dict[int, int] = {}
        """By first operation, how far segments in one band go at most."""
        self._wholes: dict[int, _Whole] = {}
        last = {name: len(self.operations) for name in graph.outputs}
        for index, operation in enumerate(self.operations):
            for source in operation.sources:
                last[source] = max(last.get(source, 0), index)
        self._last = last
        self._together = self._joined()
        self.most = max(self.most, max((end - begin for begin, end in self._together), default=0))
        inside = {index for begin, end in self._together for index in range(begin + 1, end)}
        number = {operation.name: index for index, operation in enumerate(self.operations)}
        # Copies for the next part of a reduction may stand between parts.
        inside |= {
            at for index, each in enumerate(self.operations) if each.adds_to for at in range(number[each.adds_to] + 1, index + 1)
        }
        may_end = [at for at in range(1, len(self.operations)) if at not in inside]
        self.ends = [*may_end, len(self.operations)]
        """Where segments may end: sums to which others add stay where they are."""
        self._last_of = np.array([last.get(operation.name, -1) for operation in self.operations])
        self.stored = np.array([prod(operation.output[:3]) * self.blocks(operation.name) for operation in self.operations])
        """Words of each tensor."""

    def _joined(self) -> list[tuple[int, int]]:
        """Operations [begin, end) of which the last sees what the first gives enlarged, if it is not stored so."""
        index_of = {operation.name: index for index, operation in enumerate(self.operations)}
        return [
            (index_of[source], index + 1)
            for index, operation in enumerate(self.operations)
            for operand in operation.operands
            for source in operand.sources
            if operand.upsampling(source) != AS_IT_IS and source in index_of and source not in self.views
        ]

    @cached_property
    def _rest(self) -> list[float]:
        """By operation, the least that it and all behind it cost."""
        streamed = weights = 0.0
        found = []
        for index in reversed(range(len(self.operations))):
            streamed += self.sums(index, prod(self.operations[index].output[:3])) * self.steps[index]
            weights += self.steps[index] * self.tiles[index] * self.rows
            found.append(self.cycles(1, 0.0, streamed, weights))
        return found[::-1]

    def leaves(self, begin: int, end: int) -> NDArray[np.bool_]:
        """Of operations of a segment, whether others need their tensors."""
        last: NDArray[np.bool_] = self._last_of[begin:end] >= end
        return last

    def weights(self, segment: Segment) -> int:
        """Words of weights of a segment."""
        return sum(self.steps[index] * self.tiles[index] * self.rows for index in range(segment.begin, segment.end))

    def refuse(self, segment: Segment, at: int) -> None:
        """It did not fit: the operation ``at`` did not, behind those before it."""
        at = ([0, *self.ends])[bisect_right(self.ends, at)]
        if len(segment.grid) == 1 and at > segment.begin:
            # No longer one does either, and hardly one that begins a little later.
            for begin in range((segment.begin + at) // 2 + 1):
                self._reach[begin] = min(at, self._reach.get(begin, at))
            return
        # Nor do others up to there or beyond, in as many bands; a few more than fit cost less than to try them all.
        more = max(len(segment.grid) + 2, int(_MORE * len(segment.grid)))
        for begin in range(segment.begin - _ALIKE, min(segment.begin + _ALIKE + 1, at)) if at > segment.begin else (at,):
            self._least.setdefault(begin, []).append((at, more))
            for key in [key for key in self._known if key[0] == begin and key[1] > at]:
                del self._known[key]

    def _fewest(self, begin: int, end: int) -> int:
        """Bands of a segment that have not been refused."""
        return max((bands for at, bands in self._least.get(begin, ()) if at < end), default=1)

    def plan(self) -> list[Segment] | None:
        """The cheapest segments that are a whole network; None if there are none."""
        count = len(self.operations)
        best: list[tuple[float, Segment | None]] = [(0.0 if at == 0 else float("inf"), None) for at in range(count + 1)]
        for begin in (0, *self.ends[:-1]):
            if best[begin][0] + self._rest[begin] >= best[count][0]:
                continue
            if begin not in self._wholes:
                self._wholes[begin] = _Whole(self, begin)
            misses, bands = 0, 1
            most = self._end(begin, self.most)
            costs = self._wholes[begin].costs(min(most, self._reach.get(begin, count)))
            for end in self._ends(begin, max(costs, default=begin), most):
                segment = self._segment(begin, end, bands, costs.get(end))
                misses += segment is None or best[begin][0] + segment.cost >= best[end][0]
                if segment is None:
                    if misses > _MOST_MISSES:
                        break
                    continue
                # With more operations, no fewer bands fit.
                bands = len(segment.grid)
                total = best[begin][0] + segment.cost
                if total < best[end][0]:
                    misses, best[end] = 0, (total, segment)
                elif bands > 1 and misses > _MOST_MISSES:
                    break
        found: list[Segment] = []
        at = count
        while at:
            segment = best[at][1]
            if segment is None:
                return None
            found.append(self._with_fewer_bands(segment))
            at = segment.begin
        return found[::-1]

    def _end(self, begin: int, count: int) -> int:
        """The last end of a segment from ``begin`` on, with at most so many operations unless the first one alone is more."""
        first = bisect_right(self.ends, begin)
        return self.ends[max(first, bisect_right(self.ends, begin + count) - 1)]

    def _ends(self, begin: int, whole: int, most: int) -> list[int]:
        """Where segments may end, up to ``most``: near the beginning, or near ``whole``, where one band begins to be too few.

        With fewer cuts less is stored, so that those in between are worth nothing.
        """
        first, last = bisect_right(self.ends, begin), bisect_right(self.ends, most)
        middle = bisect_right(self.ends, whole) - 1
        near = {*range(first, first + _NEAR), *range(max(first, middle - _NEAR), middle + _NEAR + 1)}
        return [self.ends[number] for number in sorted(near) if number < last]

    def _with_fewer_bands(self, segment: Segment) -> Segment:
        """The same in the fewest bands that fit, but for one, along an axis: numbers between those that are tried for all."""
        begin, end, grid = segment.begin, segment.end, segment.grid
        leaving, least = self.leaving(begin, end), max(2, self._fewest(begin, end))
        while grid.images == 1 < len(grid) == max(grid.rows, grid.columns) > least:
            grid = Grid(1, max(1, grid.rows - 1), max(1, grid.columns - 1))
            cost = None if are_apart(grid, [self.shapes[name] for name in leaving]) else self._cost(begin, end, grid, leaving)
            if cost is None:
                break
            segment = Segment(begin, end, grid, cost)
        return segment

    def _segment(self, begin: int, end: int, bands: int, whole: float | None) -> Segment | None:
        """A segment in the fewest bands, but for fewer than ``bands``, that fit by the estimate. ``whole``: its cost in one, if it
        fits so."""
        key = begin, end
        if whole is not None and self._fewest(begin, end) == 1:
            return Segment(begin, end, Grid(), whole)
        if key not in self._known:
            self._known[key] = self._fitting(begin, end, bands)
        return self._known[key]

    def leaving(self, begin: int, end: int) -> list[str]:
        """Tensors of a segment that others need."""
        names = [operation.name for operation in self.operations[begin:end]]
        return [name for name in names if self._last.get(name, -1) >= end]

    def _fitting(self, begin: int, end: int, bands: int) -> Segment | None:
        """The cheaper of the fewest bands of rows, and the fewest boxes as wide as they are high, that fit by the estimate."""
        leaving = self.leaving(begin, end)
        shapes = [self.shapes[name] for name in leaving]
        batch, high, wide = (max(shape[axis] for shape in shapes) for axis in range(3))
        # Images have no halo: nothing is computed twice.
        several = bisect_right(self.ends, end) - bisect_right(self.ends, begin) > _MOST_OPERATIONS
        most = min(_MOST_BANDS, batch if several else batch * high * wide)
        found: list[Segment] = []
        for is_square in (False, True):
            gain = _BOX_GAIN if is_square and self.config.managers > 1 else 1.0
            # With fewer operations, no more bands were needed.
            least = self._needed.get((begin, is_square), (0, 0))
            counts = band_counts(max(self._fewest(begin, end), bands, 2, least[1] if least[0] < end else 0), most)
            grids = [g for g in grids_of(counts, batch, high, wide, is_square=is_square) if not are_apart(g, shapes)]
            costs: dict[Grid, float | None] = {}
            first, behind, step = 0, len(grids), 1
            while first < behind:
                # Few more, twice as many more as long as they do not fit, and then those in between.
                middle = min(first + step - 1, behind - 1) if behind == len(grids) else (first + behind) // 2
                costs[grids[middle]] = self._cost(begin, end, grids[middle], leaving)
                if costs[grids[middle]] is None:
                    first, step = middle + 1, 2 * step
                else:
                    behind = middle
            if first < len(grids):
                cost = costs[grids[first]]
                assert cost is not None
                found.append(Segment(begin, end, grids[first], cost / gain))
                self._needed[begin, is_square] = end, len(grids[first])
        return min(found, key=lambda segment: segment.cost, default=None)

    def _cost(self, begin: int, end: int, grid: Grid, leaving: Sequence[str]) -> float | None:
        """Cycles of all bands; None if one of them does not fit."""
        operations = self.reading(begin, end)
        # The band in the middle: it has the most halo.
        number = grid.images // 2, grid.rows // 2, grid.columns // 2
        shares = {name: share for name in leaving if (share := grid.share(self.shapes[name], number))}
        if not shares:
            return None
        rects = needed(operations, shares, self.sights)
        if not self._fits(operations, begin, rects, shares):
            return None
        inside = {operation.name for operation in operations}
        streamed = weights = 0.0
        loaded: dict[str, float] = {}
        for index, operation in enumerate(operations, start=begin):
            if operation.name not in rects:
                continue
            streamed += self.sums(index, size_of(rects[operation.name])) * self.steps[index]
            weights += self.steps[index] * self.tiles[index] * self.rows
            for source in set(operation.sources) - inside:
                self.load(loaded, begin, index, source, self.held(index, source, rects))
        stored = sum(size_of(share) * self.blocks(name) for name, share in shares.items())
        return self.cycles(len(grid), sum(loaded.values()) + stored, streamed, weights)

    def _fits(self, operations: Sequence[Linear], begin: int, rects: Mapping[str, Rect], shares: Mapping[str, Rect]) -> bool:
        inside = {operation.name for operation in operations}
        last = {source: index for index, operation in enumerate(operations) for source in operation.sources}
        live: list[tuple[int, float]] = []
        for index, operation in enumerate(operations):
            if operation.name not in rects:
                continue
            mine = self.sums(begin + index, size_of(rects[operation.name]))
            x = float(size_of(shares[operation.name]) * self.blocks(operation.name)) if operation.name in shares else 0.0
            for source in set(operation.sources):
                if source in inside:
                    x += _COPIES * size_of(rects[source]) * self.words(begin + index, source)
                else:
                    x += self.held(begin + index, source, rects)
            live = [(until, words) for until, words in live if until >= index]
            if sum(words for _, words in live) + mine > self.p_words or x > self.x_words:
                return False
            sets = self.sets_read(begin + index, inside)
            if sets and sets + self.tiles[begin + index] * (operation.name in shares) > self.sets:
                return False
            live.append((last.get(operation.name, index), mine))
        return True


class _Whole:
    """Segments from one operation on that are computed in one band, each an operation longer than the one before."""

    def __init__(self, planner: Planner, begin: int):
        self.planner, self.begin, self.end = planner, begin, begin
        self.live = np.zeros(len(planner.operations) - begin)
        """By operation, words of sums in P banks while it is computed."""
        self.last: dict[str, int] = {}
        """By tensor of the segment, its last reader so far."""
        self.read = np.zeros(len(planner.operations) - begin)
        """By operation, parameter sets of what it reads."""
        self.streamed = self.weights = 0.0
        self.loaded: dict[str, float] = {}
        """By tensor that others have, its words."""
        self.held = np.zeros(len(planner.operations) - begin)
        """By operation, words of X banks of what it reads."""
        self.made: dict[str, int] = {}
        self.fits = True
        """Whether all segments so far do, by the estimate."""
        self._costs: dict[int, float] = {}

    def _grow(self) -> None:
        planner, index = self.planner, self.end
        operation, at = planner.operations[index], index - self.begin
        positions = prod(operation.output[:3])
        self.live[at] += planner.sums(index, positions)
        x = 0.0
        for source in set(operation.sources):
            words = prod(planner.shapes[source][:3]) * planner.words(index, source)
            if source in self.made:
                x += _COPIES * words
                self.live[self.last[source] + 1 : at + 1] += self.made[source]
                self.last[source] = at
            else:
                x += words
                planner.load(self.loaded, self.begin, index, source, words)
        self.read[at] = planner.sets_read(index, self.made)
        self.made[operation.name], self.last[operation.name] = planner.sums(index, positions), at
        self.streamed += planner.sums(index, positions) * planner.steps[index]
        self.weights += planner.steps[index] * planner.tiles[index] * planner.rows
        self.held[at] = x
        self.end += 1

    def costs(self, most: int) -> dict[int, float]:
        """By end, up to ``most``, the costs of segments that fit by the estimate."""
        planner, begin = self.planner, self.begin
        while self.fits and self.end < most:
            self._grow()
            held, read = self.held[: self.end - begin], self.read[: self.end - begin]
            self.fits = bool(self.live[: self.end - begin].max() <= planner.p_words)
            self.fits &= bool(held.max() <= planner.x_words) and bool(read.max() <= planner.sets)
            # What one leaves takes more beside what it reads; with more operations it may stay.
            leaves = planner.leaves(begin, self.end)
            stored = np.where(leaves, planner.stored[begin : self.end], 0)
            sets = np.where(read > 0, read + np.where(leaves, planner.tile_counts[begin : self.end], 0), 0)
            if self.fits and (held + stored).max() <= planner.x_words and sets.max() <= planner.sets:
                moved = sum(self.loaded.values()) + float(stored.sum())
                self._costs[self.end] = planner.cycles(1, moved, self.streamed, self.weights)
        return {end: cost for end, cost in self._costs.items() if end <= most}
