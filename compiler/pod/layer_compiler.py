"""The compiler for one pod: a layer becomes a program of epochs, each with its placement and its jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from podweave.ir.layers import Layer, WorkloadError
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit

from ..jobs import Place, with_single_tiles, words_of_tile
from ..lower.address_walk import increments
from ..lower.boxes import Box, Partition, cut, largest, positions
from ..lower.job_count import require_jobs_fit
from ..lower.layer import ColumnTile, PackedLayer, Region, Step, pack_layer
from .program import Epoch, Program, Readout
from .schedule import start_times


@dataclass
class _Bank:
    """Bump allocation over the banks of one kind: a block of words lies in one bank."""

    banks: int
    words: int
    used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.used = [0] * self.banks

    def place(self, words: int) -> Place | None:
        for bank, used in enumerate(self.used):
            if used + words <= self.words:
                self.used[bank] += words
                return Place(bank, used)
        return None


class _EpochPlan:
    """An epoch being filled: column tiles (or some of their K steps) over one box of output positions."""

    def __init__(self, compiler: LayerCompiler, box: Box, resume: Place | None = None):
        self.compiler, self.box, self.resume = compiler, box, resume
        memory = compiler.config.memory
        self.x, self.w, self.p = (_Bank(memory.banks, n) for n in (memory.x_words, memory.w_words, memory.p_words))
        self.units: dict[int, Place] = {}
        self.p_places: dict[int, Place] = {}
        self.work: list[tuple[ColumnTile, int, list[tuple[Step, Place]], bool, bool]] = []
        self.cycles = 0
        if resume:
            # A tile cut between epochs goes on accumulating where it was.
            self.p.used[resume.bank] = resume.base + positions(box)

    def add(self, tile: ColumnTile, begin: int) -> int:
        """Take as many of the tile's steps from ``begin`` on as fit; returns how many."""
        compiler = self.compiler
        p_place = self.resume if begin else self.p.place(positions(self.box))
        if p_place is None:
            return 0
        taken: list[tuple[Step, Place]] = []
        for step in tile.steps[begin:]:
            lanes = compiler.lowered.units[step.unit].lanes
            cycles = compiler.step_cycles(self.box, lanes)
            if self.cycles + cycles > compiler.epoch_limit:
                break
            if step.unit not in self.units:
                unit_place = self.x.place(compiler.region(self.box, step.unit).words)
                if unit_place is None:
                    break
                self.units[step.unit] = unit_place
            w_place = self.w.place(lanes)
            if w_place is None:
                break
            taken.append((step, w_place))
            self.cycles += cycles
        if taken:
            end = begin + len(taken) == len(tile.steps)
            self.work.append((tile, len(self.work), taken, begin == 0, end))
            self.p_places[len(self.work) - 1] = p_place
        return len(taken)


class LayerCompiler:
    def __init__(self, lowered: PackedLayer, config: ChipConfig, *, local: bool):
        self.lowered, self.config, self.local = lowered, config, local
        self.layer = lowered.layer
        self.reach: dict[int, tuple[int, int]] = {}
        for tile in lowered.tiles:
            for step in tile.steps:
                high, wide = self.reach.get(step.unit, (0, 0))
                self.reach[step.unit] = (max(high, step.dh), max(wide, step.dw))
        # Headroom for the pipeline behind the last job.
        self.epoch_limit = 2**config.pod.time_width - 2 - config.write_latency - 2 * config.array.rows
        most = 2**config.pod.count_width - 1
        depth = config.pod.accumulator_rows if local else None
        output = (self.layer.batch, *self.layer.output_size)

        def chunk_fits(images: int, rows: int, columns: int) -> bool:
            return max(images, rows, columns) <= most and (depth is None or images * rows * columns <= depth)

        def epoch_fits(images: int, rows: int, columns: int) -> bool:
            box = ((0, images), (0, rows), (0, columns))
            x_words = max(self.region(box, unit).words for unit in self.reach)
            return (
                x_words <= config.memory.x_words
                and positions(box) <= config.memory.p_words
                and max(positions(box), config.array.rows) + config.array.rows <= self.epoch_limit
            )

        epochs, chunk = largest(output, epoch_fits), largest(output, chunk_fits)
        if epochs is None:
            worst = max(self.region(((0, 1), (0, 1), (0, 1)), unit).words for unit in self.reach)
            raise WorkloadError(
                f"{self.layer.name}: one output position needs {worst} words of activations in a bank, "
                f"{worst - config.memory.x_words} more than x_words ({config.memory.x_words})"
            )
        assert chunk is not None
        self.epoch_partition: Partition = epochs
        self.chunk: Partition = chunk

    def region(self, box: Box, unit: int) -> Region:
        """Padded input positions that a unit must hold for a box of outputs."""
        (image, images), (top, height), (left, width) = box
        (sh, sw), (reach_h, reach_w) = self.layer.stride, self.reach[unit]
        return Region(image, images, top * sh, (height - 1) * sh + reach_h + 1, left * sw, (width - 1) * sw + reach_w + 1)

    def step_cycles(self, box: Box, lanes: int) -> int:
        if not self.local:
            return max(positions(box), lanes)
        return sum(max(positions(chunk), lanes) for chunk in cut(box, self.chunk))

    def run(self, progress: Callable[[int, int], None] | None) -> Program:
        layer = self.layer
        whole = ((0, layer.batch), (0, layer.output_size[0]), (0, layer.output_size[1]))
        boxes = cut(whole, self.epoch_partition)
        epochs: list[Epoch] = []
        for number, box in enumerate(boxes):
            plan = _EpochPlan(self, box)
            for tile in self.lowered.tiles:
                begin = 0
                while begin < len(tile.steps):
                    taken = plan.add(tile, begin)
                    begin += taken
                    if begin < len(tile.steps):
                        # An empty epoch takes at least one step: banks hold a unit, a tile and a box of outputs.
                        assert taken or plan.work
                        epochs.append(self._jobs(plan))
                        resume = plan.p_places[len(plan.work) - 1] if begin else None
                        plan = _EpochPlan(self, box, resume)
            epochs.append(self._jobs(plan))
            if progress:
                progress(number + 1, len(boxes))
        return Program(self.config, self.lowered, tuple(epochs))

    def _jobs(self, plan: _EpochPlan) -> Epoch:
        chunks = cut(plan.box, self.chunk)
        units, box = self.lowered.units, plan.box
        height, width = box[1][1], box[2][1]
        loads: list[tuple[int, ...]] = []
        streams: list[tuple[int, ...]] = []
        for _tile, index, steps, first_part, _last_part in plan.work:
            p_place = plan.p_places[index]
            order = (
                [(s, [c]) for c in chunks for s in range(len(steps))] if self.local else [(s, chunks) for s in range(len(steps))]
            )
            for s, step_chunks in order:
                step, w_place = steps[s]
                loads.append((units[step.unit].lanes, w_place.bank, w_place.base))
                for position, chunk in enumerate(step_chunks):
                    first = s == 0 and first_part
                    emit = Emit.STORE if first else Emit.ACCUMULATE
                    accumulate = Accumulate.BYPASS
                    if self.local:
                        accumulate = Accumulate.ADD if s else Accumulate.INIT
                        emit = Emit.STORE if first_part else Emit.ACCUMULATE
                        if s + 1 < len(steps):
                            emit = Emit.NONE
                    streams.append(
                        (
                            len(loads) - 1,
                            int(position == 0),
                            *self._walk(plan, step, chunk),
                            accumulate,
                            emit,
                            p_place.bank,
                            *self._p_walk(p_place, box, chunk),
                        )
                    )
        load = np.array(loads, np.int64).T
        stream = np.array(streams, np.int64).T
        counts, x_walk = ("n0", "n1", "n2"), ("x_bank", "x_base", "x_step0", "x_step1", "x_step2")
        p_walk = ("p_bank", "p_base", "p_step0", "p_step1", "p_step2")
        names = ("swap", *counts, *x_walk, "accumulate", "emit", *p_walk)
        stream_jobs = dict(zip(names, stream[1:], strict=True))
        words = words_of_tile(stream_jobs)
        load_start, stream_start = start_times(load[0], words, stream[0])
        zero = np.zeros_like
        stream_jobs |= {"start": stream_start, "x_plane": zero(words), "p_plane": zero(words)}
        stream_jobs["accumulator_base"] = zero(words)
        load_jobs = {
            "start": load_start,
            "rows": load[0],
            "w_bank": load[1],
            "w_plane": zero(load[0]),
            "w_base": load[2],
            "w_step": np.ones_like(load[0]),
        }
        shape = (box[0][1], height, width)
        origin = (box[0][0], box[1][0], box[2][0])
        return Epoch(
            with_single_tiles(load_jobs),
            with_single_tiles(stream_jobs),
            tuple((unit, self.region(box, unit), place) for unit, place in plan.units.items()),
            tuple((tile, step, place) for tile, _, steps, _, _ in plan.work for step, place in steps),
            tuple(Readout(plan.p_places[i], tile, origin, shape) for tile, i, _, _, last in plan.work if last),
        )

    def _walk(self, plan: _EpochPlan, step: Step, chunk: Box) -> tuple[int, ...]:
        """Loop counts, X bank, base and steps of a stream job: implicit im2col."""
        region, place = self.region(plan.box, step.unit), plan.units[step.unit]
        (image, n2), (top, n1), (left, n0) = chunk
        sh, sw = self.layer.stride
        base = (
            ((image - region.image) * region.height + top * sh - region.top + step.dh) * region.width
            + left * sw
            - region.left
            + step.dw
        )
        strides = (sw, sh * region.width, region.height * region.width)
        return (n0, n1, n2, place.bank, place.base + base, *increments((n0, n1, n2), strides))

    def _p_walk(self, place: Place, box: Box, chunk: Box) -> tuple[int, ...]:
        (image, n2), (top, n1), (left, n0) = chunk
        (image0, _), (top0, height), (left0, width) = box
        base = ((image - image0) * height + top - top0) * width + left - left0
        return (place.base + base, *increments((n0, n1, n2), (1, width, height * width)))


def compile_layer(layer: Layer, config: ChipConfig, *, progress: Callable[[int, int], None] | None = None) -> Program:
    """The program for a layer: partial sums of a tile accumulate in the pod, or in the P banks where that takes fewer cycles.

    Raises `WorkloadError` for what the chip cannot run, with the limit and the excess.
    """
    if layer.reduction > config.array.max_reduction:
        raise WorkloadError(
            f"{layer.name}: the reduction K is {layer.reduction}, {layer.reduction - config.array.max_reduction} more than "
            f"psum_width {config.array.psum_width} sums without wrapping ({config.array.max_reduction})"
        )
    require_jobs_fit(layer, config)
    lowered = pack_layer(layer, config.array)
    candidates = [LayerCompiler(lowered, config, local=False)]
    if config.pod.accumulator_rows:
        candidates.insert(0, LayerCompiler(lowered, config, local=True))
    # Ties go to the accumulators in the pod: they save a write per K step.
    best = min(candidates, key=lambda c: sum(_tile_cycles(c, tile) for tile in lowered.tiles))
    return best.run(progress)


def _tile_cycles(compiler: LayerCompiler, tile: ColumnTile) -> int:
    layer = compiler.layer
    whole = ((0, layer.batch), (0, layer.output_size[0]), (0, layer.output_size[1]))
    boxes = cut(whole, compiler.epoch_partition)
    lanes = [compiler.lowered.units[step.unit].lanes for step in tile.steps]
    sizes = {n: lanes.count(n) for n in set(lanes)}
    return sum(count * compiler.step_cycles(box, n) for box in boxes for n, count in sizes.items())
