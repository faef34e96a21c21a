"""Jobs of gangs: what a gang is, in a few numbers, becomes loads and streams of all its pods, for a whole epoch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from podweave.spec.jobs import Accumulate, Emit

from ..jobs import Jobs, Place
from ..lower.address_walk import increments_of_each
from ..lower.boxes import Box, Walk, positions
from ..lower.layer import Region

Ints = NDArray[np.int64]
_WALK_COLUMNS = 8
_Number = TypeVar("_Number", int, Ints)


def turn_of(part: _Number, other: _Number, split: _Number) -> _Number:
    """In which turn of the last step one of ``split`` parts of K emits a segment, or which it emits in a turn, or which part emits
    its segment in a turn.

    The last part, whose last step often reads what arrives last, has them in the order in which they are sent.
    """
    return part ^ other ^ (split - 1)


class GangShape(NamedTuple):
    """What a gang is but for what its pods read and write.

    ``operation``: its index. ``base``: its first pod. ``split``: parts of K. ``side``: pods of a part, of which the first ``tiles``
    have a column tile. ``steps``: K steps of the longest sequence, one every ``length`` cycles from ``begin`` on. ``slot``: cycles
    of a turn. ``local``: sums stay in the pods until the last step. ``walks``: in how many walks a step goes over all segments.
    """

    operation: int
    base: int
    split: int
    side: int
    tiles: int
    steps: int
    begin: int
    length: int
    slot: int
    local: bool
    walks: int


class StepSequence(NamedTuple):
    """K steps of a pod, the last ones of its gang.

    ``length``: how many. ``home``: word of its P bank from which on it sums up the segment of its part, if there is one. ``store``:
    step and turn of the gang in which that segment is written for the first time. ``load_turn``: of steps that emit, that before
    which weights are loaded.
    """

    length: int
    home: int
    store_step: int
    store_turn: int
    load_turn: int


class GangJobs:
    """Sources of activations, sequences and gangs of an epoch, as tables that only grow.

    A *source* is what a step reads: X words, and how they lie. Every pod of a gang with a tile has a *sequence* of steps, and each
    of its steps a source and words of weights.
    """

    def __init__(self) -> None:
        self._sources: list[tuple[int, int, int, int, int]] = []
        self._segments: list[tuple[int, ...]] = []
        self._sequences: list[StepSequence] = []
        self._gangs: list[GangShape] = []
        self._source_of: list[Sequence[int]] = []
        self._weights_of: list[Ints] = []

    @property
    def mark(self) -> tuple[int, ...]:
        """How far the tables have grown."""
        return tuple(map(len, self._tables))

    def back_to(self, mark: tuple[int, ...]) -> None:
        """Forget all that came after."""
        for table, length in zip(self._tables, mark, strict=True):
            del table[length:]

    @property
    def _tables(self) -> tuple[list, ...]:
        return self._sources, self._segments, self._sequences, self._gangs, self._source_of, self._weights_of

    @property
    def pods(self) -> int:
        """With a tile, of all gangs."""
        return sum(shape.split * shape.tiles for shape in self._gangs)

    @property
    def joined_streams(self) -> int:
        """About how many streams there are if those of successive tiles that walk alike are one."""
        of_pod = ((shape.split + shape.walks * (1 if shape.walks == 1 else shape.steps - 1), shape) for shape in self._gangs)
        return sum(streams * shape.split * shape.tiles for streams, shape in of_pod)

    def source(self, place: Place, region: Region, stride: tuple[int, int], offset: tuple[int, int]) -> int:
        """The number of a source: ``region`` lies at ``place``, and is read at strides and from an offset, in rows and columns."""
        first = (offset[0] - region.image * region.height - region.top) * region.width + offset[1] - region.left
        row, image = stride[0] * region.width, region.height * region.width
        self._sources.append((place.bank, place.base + first, stride[1], row, image))
        return len(self._sources) - 1

    def add(
        self,
        shape: GangShape,
        segments: Sequence[Box | None],
        walks: Sequence[Walk],
        sequences: Sequence[StepSequence],
        sources: Sequence[int],
        weights: Ints,
    ) -> None:
        """The jobs of a gang.

        ``segments``: accumulators of each part. ``walks``: all of them. ``sequences``: of each part and tile, in that order.
        ``sources``, ``weights``: of all their steps, one sequence after the other; weights as (rows, W bank, first word).
        """
        for walked in ([Walk(segment) if segment else None for segment in segments], walks):
            row = 0
            for walk in walked:
                self._segments.append(_counted(walk, row))
                row += walk.boxes * positions(walk.box) if walk else 0
        self._sequences += sequences
        self._gangs.append(shape)
        self._source_of.append(sources)
        self._weights_of.append(weights)

    def tables(self) -> tuple[Jobs, Jobs]:
        """Loads and streams of a tile each, each sorted by pod and start."""
        gangs = dict(zip(GangShape._fields, _columns(self._gangs, len(GangShape._fields)), strict=True))
        sequences = dict(zip(StepSequence._fields, _columns(self._sequences, len(StepSequence._fields)), strict=True))
        pods = gangs["split"] * gangs["tiles"]
        first_sequence, first_segment = _before(pods), _before(gangs["split"] + gangs["walks"])
        first_step = _before(sequences["length"])
        of = _Rows(gangs, pods)
        gang, step, turn, emits = of.gang, of.step, of.turn, of.emits
        tiles = gangs["tiles"][gang]
        part, tile = np.divmod(of.pod, tiles)
        sequence = first_sequence[gang] + of.pod
        index = step - (gangs["steps"][gang] - sequences["length"][sequence])
        target = np.where(emits, turn_of(part, turn, gangs["split"][gang]), turn)
        segments = _columns(self._segments, _WALK_COLUMNS)
        segment = first_segment[gang] + np.where(emits, target, gangs["split"][gang] + turn)
        # Pods begin as late as they can, and parts of K may be more than there are segments.
        kept = np.flatnonzero((index >= 0) & (segments[0][segment] > 0))
        columns = (gang, step, turn, emits, tiles, part, tile, sequence, index, target, segment)
        gang, step, turn, emits, tiles, part, tile, sequence, index, target, segment = (values[kept] for values in columns)
        n0, n1, n2, image, top, left, row, aside = (column[segment] for column in segments)
        at = first_step[sequence] + index
        source = np.fromiter((number for run in self._source_of for number in run), np.int64)[at]
        bank, base, column_step, row_step, image_step = (column[source] for column in _columns(self._sources, 5))
        begin = gangs["begin"][gang] + step * gangs["length"][gang]
        before = np.where(emits, turn * gangs["slot"][gang], row)
        # The first of the jobs of a step takes its weights.
        first = sequence * (int(gangs["steps"].max(initial=0)) + 1) + step
        _, swaps = np.unique(first, return_index=True)
        swap = np.zeros(len(kept), np.int64)
        swap[swaps] = 1
        in_pods = gangs["local"][gang].astype(bool) & (gangs["steps"][gang] > 1)
        adds = np.where(index > 0, int(Accumulate.ADD), int(Accumulate.INIT))
        home = first_sequence[gang] + target * tiles + tile
        home = np.where(emits, home, 0)
        stores = (sequences["store_step"][home] == step) & (sequences["store_turn"][home] == turn)
        base_pod = gangs["base"][gang]
        x = increments_of_each((n0, n1, n2), (column_step, row_step, np.where(aside, n0 * column_step, image_step)))
        ones = np.ones(len(kept), np.int64)
        streams = {
            "operation": gangs["operation"][gang],
            "pod": base_pod + part * gangs["side"][gang] + tile,
            "start": begin + before,
            "swap": swap,
            "n0": n0,
            "n1": n1,
            "n2": n2,
            "x_bank": bank,
            "x_plane": 0 * ones,
            "x_base": base + image * image_step + top * row_step + left * column_step,
            "x_step0": x[0],
            "x_step1": x[1],
            "x_step2": x[2],
            "accumulate": np.where(in_pods & (sequences["length"][sequence] > 1), adds, int(Accumulate.BYPASS)),
            "accumulator_base": np.where(in_pods, row, 0),
            "emit": np.where(emits, np.where(stores, int(Emit.STORE), int(Emit.ACCUMULATE)), int(Emit.NONE)),
            "p_bank": np.where(emits, base_pod + target * gangs["side"][gang] + tile, 0),
            "p_plane": 0 * ones,
            "p_base": np.where(emits, sequences["home"][home], 0),
            # One run of words: the P address only ever advances by one.
            "p_step0": ones,
            "p_step1": ones,
            "p_step2": ones,
        }
        rows, w_bank, w_base = np.concatenate([np.zeros((0, 3), np.int64), *self._weights_of])[at[swaps]].T
        turns = np.where(emits, sequences["load_turn"][sequence], 0)[swaps]
        loads = {
            "pod": streams["pod"][swaps],
            "start": begin[swaps] + turns * gangs["slot"][gang[swaps]] - rows,
            "rows": rows,
            "w_bank": w_bank,
            "w_plane": np.zeros(len(swaps), np.int64),
            "w_base": w_base,
            "w_step": np.ones(len(swaps), np.int64),
        }
        return _sorted(loads), _sorted(streams)


class _Rows:
    """Of every gang, step and turn, and all pods with a tile, a row: what may be a stream.

    ``emits``: it is one of a step that writes sums; ``turn`` is that of a part then, else the number of a walk.
    """

    def __init__(self, gangs: Jobs, pods: Ints):
        steps = gangs["steps"]
        gang = np.repeat(np.arange(len(steps)), steps)
        step = np.arange(len(gang)) - _before(steps)[gang]
        emits = (step == steps[gang] - 1) | (gangs["local"][gang] == 0)
        turns = np.where(emits, gangs["split"][gang], gangs["walks"][gang])
        count = turns * pods[gang]
        of_step = np.repeat(np.arange(len(gang)), count)
        number = np.arange(len(of_step)) - _before(count)[of_step]
        self.gang, self.step, self.emits = (values[of_step] for values in (gang, step, emits))
        self.turn, self.pod = np.divmod(number, pods[self.gang])


def _counted(walk: Walk | None, row: int) -> tuple[int, ...]:
    """Counts of the three loops, the first image, row and column, the row of the accumulators, and whether the outermost loop is
    over boxes side by side, in place of images."""
    if walk is None:
        return (0, 0, 0, 0, 0, 0, row, 0)
    (image, images), (top, rows), (left, columns) = walk.box
    aside = walk.boxes > 1
    return (columns, rows, walk.boxes if aside else images, image, top, left, row, int(aside))


def _columns(rows: Sequence[tuple[int, ...]], count: int) -> list[Ints]:
    return list(np.array(rows, np.int64).reshape(len(rows), count).T)


def _before(counts: Ints) -> Ints:
    """How many there are of all that come before."""
    return np.cumsum(counts) - counts


def _sorted(jobs: Jobs) -> Jobs:
    order = np.lexsort((jobs["start"], jobs["pod"]))
    return {name: values[order] for name, values in jobs.items()}
