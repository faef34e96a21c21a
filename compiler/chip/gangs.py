"""Gangs: pods that work on one patch of an operation at the same time, what they read, and the jobs that tell them so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podweave.ir.operations import Linear

from ..jobs import Place
from ..lower.boxes import Box, Walk, positions, segments_of
from ..lower.layer import Region, Step, Unit
from ..lower.operation import LoweredOperation
from .copies import Copies
from .epoch_program import ExternalUnit, WeightTile
from .gang_jobs import GangShape, StepSequence
from .kept_weights import KeptWeights
from .producers import Fragment, Producer
from .state import SchedulerState
from .strips import external_key, strip
from .work import Mapping

_STRIPS = 2
"""A strip takes at most a part of an X bank, so that several find room beside each other."""
Reference = tuple[int, int]
"""(operand, step) of an operation: a K step of any of its column tiles."""


@dataclass
class OperationPlan:
    """An operation on its way through the compiler.

    ``shared``: the K steps whose activations all column tiles share. ``own``: the other steps of each column tile. ``reach``: per
    operand and unit, how far beyond the first its steps read, in rows and columns.
    """

    index: int
    operation: Linear
    lowering: LoweredOperation
    shared: list[Reference]
    own: list[list[Reference]]
    reach: list[dict[int, tuple[int, int]]]

    @classmethod
    def of(cls, index: int, operation: Linear, lowering: LoweredOperation) -> OperationPlan:
        shared: list[Reference] = []
        own: list[list[Reference]] = [[] for _ in lowering.tiles]
        reach: list[dict[int, tuple[int, int]]] = []
        for number, lowered in enumerate(lowering.operands):
            walks = [[(s.unit, s.dh, s.dw) for s in tile.steps] for tile in lowered.tiles]
            if all(walk == walks[0] for walk in walks):
                shared += [(number, i) for i in range(len(walks[0]))]
            else:
                for steps, walk in zip(own, walks, strict=True):
                    steps += [(number, i) for i in range(len(walk))]
            reaches: dict[int, tuple[int, int]] = {}
            for unit, dh, dw in itertools.chain.from_iterable(walks):
                high, wide = reaches.get(unit, (0, 0))
                reaches[unit] = (max(high, dh), max(wide, dw))
            reach.append(reaches)
        return cls(index, operation, lowering, shared, own, reach)

    @property
    def shared_units(self) -> list[Unit]:
        """Units that the shared steps read, each once."""
        numbers = dict.fromkeys((operand, self.step(0, (operand, index)).unit) for operand, index in self.shared)
        return [self.lowering.operands[operand].units[unit] for operand, unit in numbers]

    def step(self, tile: int, reference: Reference) -> Step:
        operand, index = reference
        return self.lowering.operands[operand].tiles[tile].steps[index]

    def streamed(self, patch: Box) -> Box:
        """The box of accumulators that a patch of outputs needs."""
        if self.operation.window is None:
            return patch
        (kh, kw), (sh, sw) = self.operation.window.kernel, self.operation.window.stride
        images, (row, rows), (column, columns) = patch
        return images, (row * sh, (rows - 1) * sh + kh), (column * sw, (columns - 1) * sw + kw)

    def region(self, operand: int, unit: int, patch: Box) -> Region:
        """Padded input positions, of those that have words of a unit, that it must hold for a patch."""
        (image, images), (row, rows), (column, columns) = self.streamed(patch)
        (sh, sw), (high, wide) = self.lowering.operands[operand].stride(unit), self.reach[operand][unit]
        return Region(image, images, row * sh, (rows - 1) * sh + high + 1, column * sw, (columns - 1) * sw + wide + 1)


class _Held(NamedTuple):
    """Where a unit over a region lies, and the first cycle in which its bank may read all of it."""

    region: Region
    place: Place
    ready: int


class _Source(NamedTuple):
    """What a K step reads: the number of its source, and the first cycle in which its bank may read all of it."""

    reference: Reference
    number: int
    ready: int


@dataclass
class _Gang:
    """A block of pods, from ``base`` on, that computes ``tiles`` of one patch.

    ``segments``: the box in as many pieces as there are parts of K; each is summed up in the P bank of one part, and the parts
    take turns of ``slot`` cycles at them. ``walks``: they are all of these, one after the other. ``local``: sums stay in the pods
    until the last step; else every step emits. ``length``: cycles from step to step. ``sources``: by (part, tile).
    ``sums``: by (part, tile), where there are sums already to which it adds.
    """

    plan: OperationPlan
    mapping: Mapping
    tiles: range
    base: int
    box: Box
    segments: list[Box | None]
    walks: list[Walk]
    sums: dict[tuple[int, int], Place] = field(default_factory=dict)
    sources: dict[tuple[int, int], list[_Source]] = field(default_factory=dict)
    steps: int = 0
    local: bool = True
    length: int = 0
    begin: int = 0

    @property
    def slot(self) -> int:
        return max(positions(segment) for segment in self.segments if segment)

    @property
    def turns(self) -> int:
        """Cycles of a step that emits."""
        return self.slot * self.mapping.split

    @property
    def final(self) -> int:
        """When the last step begins."""
        return self.begin + (self.steps - 1) * self.length

    @property
    def emission(self) -> int:
        """When the first step that emits begins."""
        return self.final if self.local else self.begin

    def pod(self, part: int, j: int) -> int:
        return self.base + part * self.mapping.side + j

    def first_turn(self, part: int) -> int:
        """The first turn of a step that emits in which a part has something to emit."""
        return next(turn for turn in range(self.mapping.split) if self.segments[part ^ turn])

    def first_write(self, part: int, j: int) -> tuple[int, int]:
        """Step and turn in which the segment of a part is stored: who comes first, stores, if there are no sums yet."""
        if self.sums:
            return -1, -1
        counts = [len(self.sources[part ^ turn, j]) for turn in range(self.mapping.split)]
        if self.local:
            return self.steps - 1, next((turn for turn, count in enumerate(counts) if count), 0)
        most = max(counts)
        return self.steps - most, counts.index(most)

    def homes(self) -> Iterable[tuple[int, int, Box]]:
        """(part, tile, segment) of every P bank that sums up a segment."""
        for part, segment in enumerate(self.segments):
            if segment:
                for j in range(len(self.tiles)):
                    yield part, j, segment


class Gangs:
    """Gives gangs what they need: time of pods, words of W and X banks, jobs."""

    def __init__(self, state: SchedulerState, copies: Copies):
        self.state, self.config, self.copies = state, state.config, copies
        self.kept = KeptWeights(state)
        self._from_bank = self.config.network_latency
        self._to_bank = self.config.write_latency + self._from_bank

    def place(
        self,
        plan: OperationPlan,
        mapping: Mapping,
        producer: Producer,
        number: int,
        patch: Box,
        tiles: range,
        base: int,
        before: Producer | None = None,
    ) -> None:
        """Let the block from pod ``base`` on compute ``tiles`` of the patch with that number, as early as it can, and add to the
        sums of the operation ``before`` if there is one, which had the same block for them."""
        box = plan.streamed(patch)
        gang = _Gang(plan, mapping, tiles, base, box, *segments_of(box, mapping.split))
        if before:
            gang.sums.update({(part, j): before.place(number, tiles[j], segment) for part, j, segment in gang.homes()})
        self._plan_steps(gang, patch)
        gang.begin = self._earliest(gang)
        if mapping.split > 1 or not gang.local or before:
            gang.begin += self._delay_by_reads(gang)
        homes = self._emit(gang)
        end = gang.final + gang.turns
        for part, j, segment in gang.homes():
            # What is added needs the read port; what is stored does not.
            if mapping.split > 1 or (not gang.local and gang.steps > 1) or before:
                self.state.reserve([self.state.p_ports[gang.pod(part, j)]], gang.emission + self._to_bank, end - gang.emission)
            arrival = gang.final + (mapping.split - 1) * gang.slot + self._to_bank
            fragment = Fragment(segment, homes[part, j], arrival)
            producer.add(number, patch, tiles[j], fragment, arrival + positions(segment) + 1)
        self.state.free[base : base + mapping.block] = end
        producer.blocks[number, tiles.start] = base

    def external_banks(self, plan: OperationPlan, operand: int, unit: int, region: Region) -> list[int]:
        """Banks into which a unit of an input over a region is loaded."""
        key = external_key(plan.operation.operands[operand], plan.lowering.operands[operand].units[unit], region)
        return [item.place.bank for item in self.state.resident.get(key, ())]

    def loaded_region(self, plan: OperationPlan, mapping: Mapping, operand: int, unit: int, patch: Box) -> Region:
        """What is loaded of a unit for a patch."""
        if not self.state.strips:
            return plan.region(operand, unit, patch)
        blocks, most = self.config.pods // mapping.block, self.config.memory.x_words // _STRIPS
        box = strip(mapping, patch, blocks, lambda box: plan.region(operand, unit, box).words, most)
        return plan.region(operand, unit, box)

    def _plan_steps(self, gang: _Gang, patch: Box) -> None:
        plan, mapping, tiles = gang.plan, gang.mapping, gang.tiles
        side, split, shared = mapping.side, mapping.split, plan.shared
        parts = [shared[len(shared) * k // split : len(shared) * (k + 1) // split] for k in range(split)]
        own_part = min(range(split), key=lambda k: len(parts[k]))
        for part in range(split):
            lane = range(gang.pod(part, 0), gang.pod(part, 0) + side)
            common = self._sources(gang, parts[part], tiles[0], patch, lane)
            for j, tile in enumerate(tiles):
                own: list[_Source] = []
                if part == own_part and plan.own[tile]:
                    own = self._sources(gang, plan.own[tile], tile, patch, lane[j : j + 1])
                # Its own steps first: what all share ends in the same step, and pods read the same words at the same time.
                gang.sources[part, j] = own + common if own else common
        gang.steps = max(len(sources) for sources in gang.sources.values())
        words, rows = positions(gang.box), self.config.array.rows
        gang.local = gang.steps == 1 or self.config.pod.accumulator_rows >= words
        gang.length = max(words if gang.local else gang.turns, rows)

    def _earliest(self, gang: _Gang) -> int:
        """The first cycle in which the first step may begin: pods are free, weights can be loaded, activations are there."""
        rows, mapping, free, swapped = self.config.array.rows, gang.mapping, self.state.free, self.state.swapped
        # Banks of pods without a tile are in use as well.
        begin = 0
        if len(gang.tiles) < mapping.side:
            block = free[gang.base : gang.base + mapping.block].reshape(mapping.split, mapping.side)
            begin = max(begin, int(block[:, len(gang.tiles) :].max()))
        read: list[_Source] | None = None
        for (part, j), sources in gang.sources.items():
            pod, missing = gang.pod(part, j), gang.steps - len(sources)
            if sources is not read:
                # Tiles that share all their steps wait for the same.
                time = missing * gang.length + self._from_bank
                for source in sources:
                    if source.ready - time > begin:
                        begin = source.ready - time
                    time += gang.length
                read = sources
            waits = missing * gang.length if sources else 0
            if sources:
                begin = max(begin, int(swapped[pod]) + rows - waits)
            # Where every step emits, other parts write into its P bank while it still waits for its first step.
            begin = max(begin, int(free[pod]) - (waits if gang.local or mapping.split == 1 else 0))
        for name in gang.plan.operation.after:
            if name in gang.plan.lowering.needs:
                begin = max(begin, self.state.producers[name].complete)
        return begin

    def _delay_by_reads(self, gang: _Gang) -> int:
        """Cycles by which it must be later, because words that accumulate need the read port of a P bank while it is taken."""
        first = gang.emission + self._to_bank
        span = gang.final + gang.turns - gang.emission
        lines = [self.state.p_ports[gang.pod(part, j)] for part, j, _ in gang.homes()]
        time = first
        while True:
            moved = max(line.next_free(time, span) for line in lines)
            if moved == time:
                return time - first
            time = moved

    def _emit(self, gang: _Gang) -> dict[tuple[int, int], Place]:
        """Write the jobs down; returns where each segment of each tile lies in the P banks."""
        plan, mapping, split, steps = gang.plan, gang.mapping, gang.mapping.split, gang.steps
        homes = gang.sums or {
            (part, j): self.state.storage.place("p", (gang.pod(part, j),), positions(segment), plan.operation)
            for part, j, segment in gang.homes()
        }
        weights = self._weights(gang)
        counts = {key: len(sources) for key, sources in gang.sources.items()}
        segments = sum(segment is not None for segment in gang.segments)
        for (part, j), count in counts.items():
            if count:
                emitting = 1 if gang.local else count
                streams = emitting * segments + (count - emitting) * len(gang.walks)
                pod = gang.pod(part, j)
                self.state.book.gang(pod, count, streams)
                self.state.swapped[pod] = gang.final + gang.first_turn(part) * gang.slot
        sequences = []
        for (part, j), count in counts.items():
            home = homes.get((part, j))
            sequences.append(StepSequence(count, home.base if home else 0, *gang.first_write(part, j)))
        shape = GangShape(
            plan.index,
            gang.base,
            split,
            mapping.side,
            len(gang.tiles),
            steps,
            gang.begin,
            gang.length,
            gang.slot,
            gang.local,
            len(gang.walks),
        )
        numbers = [source.number for sources in gang.sources.values() for source in sources]
        self.state.book.gangs.add(shape, gang.segments, gang.walks, sequences, numbers, weights)
        return homes

    def _sources(self, gang: _Gang, references: list[Reference], tile: int, patch: Box, banks: range) -> list[_Source]:
        """The activations that steps stream, each in one of ``banks``; has them sent there if they are not."""
        plan, found, held = gang.plan, [], dict[Reference, _Held]()
        source = self.state.book.gangs.source
        for reference in references:
            number = reference[0]
            step = plan.step(tile, reference)
            at = held.get((number, step.unit))
            if at is None:
                at = held[number, step.unit] = self._held(gang, number, step.unit, patch, banks)
            stride = plan.lowering.operands[number].stride(step.unit)
            found.append(_Source(reference, source(at.place, at.region, stride, (step.dh, step.dw)), at.ready))
        return found

    def _held(self, gang: _Gang, number: int, unit_number: int, patch: Box, banks: range) -> _Held:
        plan, region = gang.plan, gang.plan.region(number, unit_number, patch)
        operand, unit = plan.operation.operands[number], plan.lowering.operands[number].units[unit_number]
        if unit.is_computed:
            return _Held(region, *self.copies.fetch(plan.operation, operand, unit, region, banks))
        region = self.loaded_region(plan, gang.mapping, number, unit_number, patch)
        key = external_key(operand, unit, region)
        known = self.state.resident.get(key, ())
        for item in known:
            if item.place.bank in banks:
                return _Held(region, item.place, 0)
        place = self.state.storage.place("input", banks, region.words, plan.operation)
        self.state.external_units.append(ExternalUnit(plan.index, number, unit_number, region, place))
        self.state.resident[key] = (*known, self.state.external_units[-1])
        return _Held(region, place, 0)

    def _weights(self, gang: _Gang) -> NDArray[np.int64]:
        """(rows, first word in the W bank of its pod) of the weight tile of each step of each pod.

        Room is made for them once: other patches of the same tiles on the same pods have the same steps.
        """
        plan = gang.plan
        key = (plan.index, gang.base, gang.tiles.start)
        known = self.state.weight_words.get(key)
        if known is not None:
            return known
        found: dict[tuple[int, int], list[tuple[int, int]]] = {where: [] for where in gang.sources}
        turns = [gang.first_turn(part) for part in range(gang.mapping.split)]
        region = self.kept.first_word(plan.index, gang.tiles.start // gang.mapping.side)
        for q in range(gang.steps):
            emits = q == gang.steps - 1 or not gang.local
            # In the order of time.
            order = sorted(gang.sources, key=lambda where: turns[where[0]]) if emits else list(gang.sources)
            for part, j in order:
                sources = gang.sources[part, j]
                index = q - (gang.steps - len(sources))
                if index < 0:
                    continue
                number, of_tile = sources[index].reference
                step = plan.step(gang.tiles[j], (number, of_tile))
                lanes = plan.lowering.operands[number].units[step.unit].weight_rows
                if region is None:
                    place = self.state.storage.place("w", (gang.pod(part, j),), lanes, plan.operation)
                else:
                    place = Place(gang.pod(part, j), region + sum(words for words, _ in found[part, j]))
                self.state.weights.append(WeightTile(plan.index, number, gang.tiles[j], step, place))
                found[part, j].append((lanes, place.base))
        words = np.array([each for of_pod in found.values() for each in of_pod], np.int64).reshape(-1, 2)
        self.state.weight_words[key] = words
        return words
