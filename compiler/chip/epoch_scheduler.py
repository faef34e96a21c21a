"""The compiler for a chip: operations of a graph become one epoch of jobs for all pods and post-processors.

Operations are scheduled one after the other, patch by patch: a gang of pods starts as soon as it is free and *its* inputs are
there, not when the layer before is complete. Inputs are pulled: when a gang is placed, the post-processors that hold what it needs
are told to send it into the banks of its block, as early as the networks are free. Conflicts cannot arise: a gang uses X, W and P
banks of its own block (see `mapping`), and every word on the Y network has a reservation for all wires on its way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingType
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig

from ..lower.boxes import Box
from ..lower.operation import lower_graph
from .bank_words import BankWords, EpochFullError, zero_word
from .copies import Copies
from .epoch_program import EpochProgram
from .frontier import Frontier
from .gangs import Gangs
from .loaded_bytes import loaded_bytes
from .mapping import choose
from .memory_costs import byte_weight, memory_costs
from .operation_plan import OperationPlan
from .policy import WHOLE_CHIP
from .producers import Producer
from .sent_jobs import SentJobs
from .spills import Spills
from .state import SchedulerState
from .table_slots import count_tables
from .work import Mapping, Work

Progress = Callable[[int, int], None]
_TRANSIT = 12
"""About the cycles from words that may be read from P banks to a gang that streams them."""
_TIE = 1e-9
_BALANCE = 0.1
"""Cycles that a cycle counts by which a manager has more to load than others."""
_NEARNESS = 0.25, 0.5
"""Cycles that sending a word of a unit to a block costs a gang, and of a network that is cut, whose jobs cost more."""
_BEAT = 0.5
"""What a beat beyond the first costs, in reads of words: with it ResNet-50 and the digits take the fewest cycles."""
_USEFUL_DEPTH = 16
"""Fewer accumulator rows are not worth cutting patches to: sums go to the P banks in every step."""
_SETS = 0.9
"""Of the parameter sets of a post-processor, those that column tiles which are read together may take: some are for padding."""
_MOST_WORDS = 2048
"""Words of the largest patch: a single one would keep a pod busy for too long."""


def compile_graph(
    graph: Graph,
    config: ChipConfig,
    *,
    tables: MappingType[str, int] | None = None,
    partition: int | None = None,
    progress: Progress | None = None,
) -> EpochProgram:
    """The program of a whole graph on a chip, as one epoch.

    ``tables``: activation table of each operation that has one. ``partition``: words that a pod streams per weight tile (0: as
    many as fit); by default each operation's is chosen. Raises `WorkloadError` for what does not fit, with the limit and the
    excess.
    """
    banks = BankWords(config, count_tables(tables or {}))
    state = SchedulerState(graph, config, lower_graph(graph, config), dict(tables or {}), partition, WHOLE_CHIP, banks)
    return EpochScheduler(state).run(Frontier(state.lowered, graph), len(graph.operations), progress)


def most_sums(config: ChipConfig) -> int:
    """Words of sums of a patch at most, those of windows included."""
    return min(zero_word(config), 2**config.pod.count_width - 1, _MOST_WORDS)


def most_averaged(config: ChipConfig) -> tuple[int, int, int]:
    """Positions that a window of sums may have, those of one whose sums take several steps, and its height and width."""
    most, depth = most_sums(config), config.pod.accumulator_rows
    return most, min(most, depth) if depth >= _USEFUL_DEPTH else most, 2**config.post.window_width - 1


class EpochScheduler:
    """Schedules operations one after the other, from time 0 on, on top of what ``state`` has of earlier epochs."""

    def __init__(self, state: SchedulerState):
        self.state, self.graph, self.config = state, state.graph, state.config
        self.copies = Copies(state)
        self.gangs = Gangs(state, self.copies)
        self.spills = Spills(state, self.copies)

    def run(self, frontier: Frontier, most: int, progress: Progress | None = None) -> EpochProgram:
        """Schedule operations in the order of the frontier, up to ``most`` or all; raises `EpochFullError` if they are too many."""
        for index in itertools.islice(frontier.order(self.state.producers), most):
            self._add(index)
            if progress:
                progress(len(self.state.scheduled), most)
        return self._program()

    def run_longest(
        self, frontier: Frontier, progress: Progress | None = None, most_bytes: float | None = None
    ) -> EpochProgram | None:
        """Schedule as many operations as fit, in the order of the frontier; None if none does.

        ``most_bytes``: about what may be loaded for them, if they are more than one.
        """
        state, marks = self.state, []
        try:
            for index in frontier.order(state.producers):
                marks.append(state.mark())
                self._add(index)
                if most_bytes is not None and len(marks) > 1 and loaded_bytes(state) > most_bytes:
                    state.back_to(marks.pop())
                    break
                if progress:
                    progress(len(state.scheduled), frontier.left)
        except EpochFullError:
            state.back_to(marks.pop())
        while marks:
            try:
                return self._program()
            except EpochFullError:
                # All are scheduled, and the epoch is too long, or stores are too small.
                state.back_to(marks.pop())
        return None

    def _add(self, index: int) -> None:
        state = self.state
        self._schedule(self._plan(index))
        producer = state.producers[self.graph.operations[index].name]
        self.copies.promise_outputs(producer)
        self.spills.promise(producer)
        state.scheduled.append(index)

    def _program(self) -> EpochProgram:
        self.copies.store_outputs()
        self.spills.store()
        self.copies.export()
        return self.state.program()

    def _plan(self, index: int) -> OperationPlan:
        state = self.state
        # Jobs that are there from the beginning cost nothing.
        few_jobs = state.config.prefetch is not None and not state.policy.must_fit
        return OperationPlan.of(index, self.graph.operations[index], state.lowered[index], few_jobs=few_jobs)

    def _schedule(self, plan: OperationPlan) -> None:
        operation, config = plan.operation, self.config
        batch, height, width, _ = operation.output
        window = operation.window

        def streamed(images: int, rows: int, columns: int) -> int:
            if window:
                rows = (rows - 1) * window.stride[0] + window.kernel[0]
                columns = (columns - 1) * window.stride[1] + window.kernel[1]
            return images * rows * columns

        def arriving(images: int, rows: int, columns: int) -> int:
            lowered = plan.lowering.operands[0]
            if window:
                rows = (rows - 1) * window.stride[0] + window.kernel[0]
                columns = (columns - 1) * window.stride[1] + window.kernel[1]
            (sh, sw), (apart_high, apart_wide), extent = lowered.stride(0), lowered.units[0].grid, lowered.layer.kernel_extent
            high = (rows - 1) * sh + -(-extent[0] // apart_high)
            wide = (columns - 1) * sw + -(-extent[1] // apart_wide)
            return images * high * wide

        # Sums that are there already stay where they are.
        before = self.state.producers[operation.adds_to] if operation.adds_to else None
        parts = [plan] if before else self._parts(plan)
        steps = max(len(part.shared) + len(own) for part in parts for own in part.own)
        limit = most_sums(config)
        depth = config.pod.accumulator_rows
        if steps > 1 and depth >= _USEFUL_DEPTH:
            limit = min(limit, depth)
        ready = self._ready(plan)
        units = plan.shared_units
        bands = self.state.known_weights is not None
        strips = self.state.strips and any(not unit.is_computed for operand in plan.lowering.operands for unit in operand.units)
        work = Work(
            shape=(batch, height, width),
            tiles=len(plan.lowering.tiles),
            shared=max(len(part.shared) for part in parts),
            own=max(len(own) for part in parts for own in part.own),
            units=sum(unit.is_computed for unit in units) if units else int(not plan.lowering.is_external),
            held=max(len(part.shared_units) or 1 for part in parts),
            ready=ready,
            windowed=window is not None,
            reads=max((self._reads(source) for operand in operation.operands for source in operand.sources), default=1),
            fresh=self._fresh(operation),
            strips=strips,
            in_rows=any(not (unit.is_computed or unit.is_stored) for unit in units),
            # Patches whose inputs are loaded together have them in one block.
            abreast=config.prefetch is not None and (self.state.policy.traffic > 1 or bands) and not strips,
            sent=SentJobs(self.state, plan).of if self.state.strips else None,
            left=config.array.cols // config.post_lanes,
            **memory_costs(self.state, plan),
        )
        if streamed(1, 1, 1) > limit:
            raise WorkloadError(
                f"{operation.name}: one output position takes {streamed(1, 1, 1)} words of partial sums, "
                f"{streamed(1, 1, 1) - limit} more than fit ({limit})"
            )
        mapping = before.mapping if before else None
        if mapping is None:
            mapping = choose(
                work,
                pods=config.pods,
                rows=config.array.rows,
                limit=limit,
                streamed=streamed,
                arriving=arriving,
                free=self.state.free,
                partition=self.state.partition,
                latency=_TRANSIT,
                room=self._room(parts[-1].operation),
                least_side=self._least_side(parts[-1]),
                known=self.state.known.get(operation.name),
            )
        self.state.chosen[operation.name] = mapping
        for operand in operation.operands:
            for source in operand.sources:
                key = (source, operand.upsampling(source), operand.layer.kernel, operand.layer.stride)
                self.state.mappings.setdefault(key, set()).add((mapping, operand.sources))
        producer = Producer(plan.index, operation, plan.lowering, mapping.patches, mapping)
        rounds = range(0, work.tiles, mapping.side)
        if bands:
            self.gangs.kept.keep(plan.index, operation.name, mapping, work.tiles, work.shared, work.own)
        blocks = np.arange(0, config.pods, mapping.block)
        # The units of a part of K come one after the other.
        nearness = 1e6 if mapping.near or work.strips else _NEARNESS[self.state.strips] * max(1, -(-len(units) // mapping.split))
        patches = [(i, r, c) for i in mapping.patches.images for r in mapping.patches.rows for c in mapping.patches.columns]
        numbered = list(enumerate(patches))
        for start_of in range(0, len(patches), mapping.abreast):
            group = numbered[start_of : start_of + mapping.abreast]
            due = max(int(ready[r : r + rs, c : c + cs].max()) for _, (_, (r, rs), (c, cs)) in group) + _TRANSIT
            for first in rounds:
                tiles = range(first, min(first + mapping.side, work.tiles))
                if before:
                    self.gangs.place(plan, mapping, producer, group, tiles, before.blocks[start_of, first], before)
                    continue
                free = self.state.free.reshape(-1, mapping.block).max(axis=1)
                # Where the inputs already are, if that is not much later than elsewhere.
                start = np.maximum(free, due)
                if bands or self.state.policy.traffic > 1:
                    own = len(plan.shared) + len(plan.own[first])
                    start = start + byte_weight(self.state) * self.gangs.kept.cycles(plan.index, operation.name, blocks, tiles, own)
                block = int(np.argmin(start + nearness * self._distance(plan, mapping, group, blocks) + self._fill(mapping)))
                self.gangs.place(plan, mapping, producer, group, tiles, int(blocks[block]))
        self.state.producers[operation.name] = producer

    def _parts(self, plan: OperationPlan) -> list[OperationPlan]:
        """An operation and those that follow it and add to its sums: a mapping must suit all of them."""
        parts = [plan]
        for index in range(plan.index + 1, len(self.graph.operations)):
            operation = self.graph.operations[index]
            if operation.adds_to != parts[-1].operation.name:
                break
            parts.append(self._plan(index))
        return parts

    def _least_side(self, plan: OperationPlan) -> int:
        """Column tiles of a gang with which readers of the tensor, and what is stored of it, find parameter sets for all of it: a
        post-processor has one for each column tile of which it has sums."""
        assert self.config.post is not None
        most = max(1, int(_SETS * self.config.post.parameter_sets))
        stored = len(plan.lowering.tiles) if plan.operation.name in self.state.spills else 0
        side = -(-max(1, stored, plan.lowering.read_with) // most)
        # W banks come first: as many parts of K side by side as must be for a column tile.
        steps = len(plan.shared) + max(map(len, plan.own))
        parts = -(-steps * self.config.array.rows // self.config.memory.w_words)
        return min(1 << (side - 1).bit_length(), max(1, self.config.pods >> (parts - 1).bit_length()))

    def _fresh(self, operation: Linear) -> dict[Mapping, float]:
        """The share of an operation's inputs that no operation before it has had sent to where a mapping needs them, for mappings
        for which that is not all."""
        known: list[tuple[set[Mapping], int]] = []
        for operand in operation.operands:
            for source in operand.sources:
                key = (source, operand.upsampling(source), operand.layer.kernel, operand.layer.stride)
                seen = self.state.mappings.get(key, set())
                # Parts of K are cut elsewhere when there are other tensors beside.
                same = {mapping for mapping, sources in seen if mapping.split == 1 or sources == operand.sources}
                known.append((same, operand.upsampling(source).of(self.graph.shape(source))[3]))
        total = sum(channels for _, channels in known)
        mappings = {mapping for same, _ in known for mapping in same}
        return {mapping: sum(channels for same, channels in known if mapping not in same) / total for mapping in mappings}

    def _room(self, operation: Linear) -> tuple[float, float]:
        """Words left in an X and a W bank, on average."""
        if self.state.policy.must_fit:
            return self.state.storage.room("x") - self._output_words(operation), self.state.storage.room("w")
        limits = self.state.storage.limits
        return limits["x"] - self._output_words(operation), float(limits["w"])

    def _output_words(self, operation: Linear) -> float:
        """Words per X bank that an operation's outputs will take, if they are the graph's."""
        if operation.name in self.state.spills:
            boxes = (each.box for each in self.state.spills[operation.name])
            return sum(prod(end - begin for begin, end in box) for box in boxes) / self.config.pods
        if operation.name not in self.state.outputs:
            return 0.0
        batch, height, width, outputs = operation.output
        return batch * height * width * -(-outputs // self.config.post_lanes) / self.config.pods

    def _reads(self, source: str) -> float:
        """Words of a P bank that are read for one word of a tensor, with what the beats of that word take."""
        window = self.state.producers[source].operation.window if source in self.state.producers else None
        return (window.kernel[0] * window.kernel[1] if window else 1) + _BEAT * (self.config.post_beats - 1)

    def _fill(self, mapping: Mapping) -> Any:
        """Less than a cycle for each block: of equal ones, that with the fewest words of weights, as each manager loads its own; if
        the memory is what a run waits for, what its busiest manager has to load more than others."""
        if self.state.policy.must_fit or self.config.prefetch is None:
            return 0
        if self.state.policy.traffic > 1:
            brought = np.array(self.state.storage.brought).repeat(self.config.nodes_per_manager)
            most = brought.reshape(-1, mapping.block).max(axis=1) - brought.mean()
            return _BALANCE * most * self.state.policy.traffic / (self.config.host_bits // 8)
        return np.array(self.state.storage.filled["w"]).reshape(-1, mapping.block).sum(axis=1) * _TIE

    def _distance(
        self, plan: OperationPlan, mapping: Mapping, patches: Sequence[tuple[int, Box]], blocks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Words that would have to be sent to each block before it can work on (number, patch) of some patches abreast."""
        distance = np.zeros(len(blocks), np.int64)
        if not plan.shared:
            return distance
        number, index = plan.shared[0]
        step, operand = plan.step(0, (number, index)), plan.operation.operands[number]
        unit = plan.lowering.operands[number].units[step.unit]
        for place, (_, patch) in enumerate(patches):
            region = plan.region(number, step.unit, patch)
            if unit.is_computed:
                banks = self.copies.banks_with(operand, unit, region)
            else:
                region = self.gangs.loaded_region(plan, mapping, number, step.unit, patch)
                banks = self.gangs.external_banks(plan, number, step.unit, region)
            missing = np.full(len(blocks), region.words, np.int64)
            for bank in banks:
                if bank % mapping.block // mapping.pods_of_patch == place:
                    missing[bank // mapping.block] = 0
            distance += missing
        return distance

    def _ready(self, plan: OperationPlan) -> NDArray[np.int64]:
        """Per output row and column of the operation, the cycle at which its inputs may be read from P banks."""
        operation = plan.operation
        _, height, width, _ = operation.accumulated
        ready = np.zeros((height, width), np.int64)
        for operand in operation.operands:
            layer = operand.layer
            source = np.zeros((layer.height, layer.width), np.int64)
            for name in operand.sources:
                if name in plan.lowering.needs:
                    (row, column), seen = operand.corner(name), operand.upsampling(name)
                    rows, columns = np.arange(row, row + layer.height), np.arange(column, column + layer.width)
                    ready_there = self.state.producers[name].ready[np.ix_(rows // seen.rows, columns // seen.columns)]
                    source = np.maximum(source, ready_there)
            (top, bottom), (left, right) = layer.padding
            padded = np.pad(source, ((top, bottom), (left, right)))
            for kh in range(layer.kernel[0]):
                for kw in range(layer.kernel[1]):
                    rows = padded[kh * layer.dilation[0] :: layer.stride[0], kw * layer.dilation[1] :: layer.stride[1]]
                    ready = np.maximum(ready, rows[:height, :width])
        for name in operation.after:
            if name in plan.lowering.needs:
                ready = np.maximum(ready, int(self.state.producers[name].ready.max()))
        if operation.window:
            (kh, kw), (sh, sw) = operation.window.kernel, operation.window.stride
            _, high, wide, _ = operation.output
            parts = [ready[i::sh, j::sw][:high, :wide] for i in range(kh) for j in range(kw)]
            ready = np.max(parts, axis=0)
        return ready
