"""Gangs: pods that work on one patch of an operation at the same time, what they read, and the jobs that tell them so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from podweave.spec.load_port import HostSelect

from ..jobs import Place
from ..lower.boxes import Box, Walk, positions, segments_of
from ..lower.layer import Region
from .arrivals import Held, Source, stream_order
from .copies import Copies
from .epoch_program import ExternalUnit, WeightTile
from .gang_jobs import GangShape, StepSequence, turn_of
from .kept_weights import KeptWeights
from .loaded_words import loaded_with, words_of_unit
from .operation_plan import OperationPlan, Reference
from .producers import Fragment, Producer
from .state import SchedulerState
from .strips import strip
from .work import Mapping

_STRIPS = 2
"""A strip takes at most a part of an X bank, so that several find room beside each other."""


@dataclass
class _Gang:
    """Pods, from ``base`` on, that compute ``tiles`` of one patch: a gang, or one of the patches of a gang, whose block is from
    ``block`` on.

    ``segments``: the box in as many pieces as there are parts of K; each is summed up in the P bank of one part, and the parts
    take turns of ``slot`` cycles at them. ``walks``: they are all of these, one after the other. ``local``: sums stay in the pods
    until the last step; else every step emits. ``length``: cycles from step to step. ``load_turns``: by part, the turn of a step
    that emits before which weights are loaded, the same for all patches of a gang. ``sources``: by (part, tile).
    ``sums``: by (part, tile), where there are sums already to which it adds.
    """

    plan: OperationPlan
    mapping: Mapping
    tiles: range
    block: int
    base: int
    box: Box
    segments: list[Box | None]
    walks: list[Walk]
    sums: dict[tuple[int, int], Place] = field(default_factory=dict)
    sources: dict[tuple[int, int], list[Source]] = field(default_factory=dict)
    steps: int = 0
    local: bool = True
    length: int = 0
    begin: int = 0
    slot: int = 0
    load_turns: list[int] = field(default_factory=list)

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
        return next(turn for turn in range(self.mapping.split) if self.segments[turn_of(part, turn, self.mapping.split)])

    def first_write(self, part: int, j: int) -> tuple[int, int]:
        """Step and turn in which the segment of a part is stored: who comes first, stores, if there are no sums yet."""
        if self.sums:
            return -1, -1
        split = self.mapping.split
        counts = [len(self.sources[turn_of(part, turn, split), j]) for turn in range(split)]
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
        patches: Sequence[tuple[int, Box]],
        tiles: range,
        base: int,
        before: Producer | None = None,
    ) -> None:
        """Let the block from pod ``base`` on compute ``tiles`` of (number, patch) of up to as many patches as are abreast, as early
        as it can, and add to the sums of the operation ``before`` if there is one, which had the same block for them."""
        gangs = []
        for place, (number, patch) in enumerate(patches):
            box = plan.streamed(patch)
            first = base + place * mapping.pods_of_patch
            gang = _Gang(plan, mapping, tiles, base, first, box, *segments_of(box, mapping.split, self.config.array.rows))
            if before:
                gang.sums.update({(part, j): before.place(number, tiles[j], segment) for part, j, segment in gang.homes()})
            self._plan_steps(gang, patch)
            gangs.append(gang)
        self._plan_times(gangs)
        begin = max(map(self._earliest, gangs))
        adds = mapping.split > 1 or not gangs[0].local or before is not None
        while True:
            for gang in gangs:
                gang.begin = begin
            delay = max(map(self._delay_by_reads, gangs)) if adds else 0
            if not delay:
                break
            begin += delay
        for gang, (number, patch) in zip(gangs, patches, strict=True):
            homes = self._emit(gang)
            end = gang.final + gang.turns
            for part, j, segment in gang.homes():
                # What is added needs the read port; what is stored does not.
                if mapping.split > 1 or (not gang.local and gang.steps > 1) or before:
                    self.state.reserve([self.state.p_ports[gang.pod(part, j)]], gang.emission + self._to_bank, end - gang.emission)
                arrival = gang.final + (mapping.split - 1) * gang.slot + self._to_bank
                fragment = Fragment(segment, homes[part, j], arrival)
                producer.add(number, patch, tiles[j], fragment, arrival + positions(segment) + 1)
            self.state.free[gang.base : gang.base + mapping.pods_of_patch] = end
            producer.blocks[number, tiles.start] = base
        if len(gangs) < mapping.abreast:
            # Banks of pods without a patch may have weights of the others.
            swapped = self.state.swapped[base : base + mapping.block].reshape(mapping.abreast, -1)
            swapped[len(gangs) :] = np.maximum(swapped[len(gangs) :], swapped[: len(gangs)].max(axis=0))

    def external_banks(self, plan: OperationPlan, operand: int, unit: int, region: Region) -> list[int]:
        """Banks into which a unit of an input over a region is loaded."""
        what = plan.operation.operands[operand], plan.lowering.operands[operand].units[unit], region
        return [item.place.bank for item, _ in loaded_with(self.state.resident, *what)]

    def loaded_region(self, plan: OperationPlan, mapping: Mapping, operand: int, unit: int, patch: Box) -> Region:
        """What is loaded of a unit for a patch."""
        if not self.state.strips:
            return plan.region(operand, unit, patch)
        blocks, most = self.config.pods // mapping.block, self.config.memory.x_words // _STRIPS
        # With inputs of the network in rows, ResNet-50 of 512 pixels takes the fewest cycles.
        in_rows = not plan.lowering.operands[operand].units[unit].is_stored
        box = strip(mapping, patch, blocks, lambda box: plan.region(operand, unit, box).words, most, in_rows=in_rows)
        return plan.region(operand, unit, box)

    def _plan_steps(self, gang: _Gang, patch: Box) -> None:
        plan, mapping, tiles = gang.plan, gang.mapping, gang.tiles
        side, split = mapping.side, mapping.split
        parts = plan.parts(split)
        own_part = min(range(split), key=lambda k: len(parts[k]))
        for part in range(split):
            lane = range(gang.pod(part, 0), gang.pod(part, 0) + side)
            common = self._sources(gang, parts[part], tiles[0], patch, lane)
            for j, tile in enumerate(tiles):
                own: list[Source] = []
                if part == own_part and plan.own[tile]:
                    own = self._sources(gang, plan.own[tile], tile, patch, lane[j : j + 1])
                # Its own steps first: what all share ends in the same step, and pods read the same words at the same time.
                gang.sources[part, j] = own + common if own else common
        gang.steps = max(len(sources) for sources in gang.sources.values())

    def _plan_times(self, gangs: Sequence[_Gang]) -> None:
        """Patches of a gang take each step in the same cycle, and as long as the largest of them."""
        words, rows = max(positions(gang.box) for gang in gangs), self.config.array.rows
        slot = max(positions(segment) for gang in gangs for segment in gang.segments if segment)
        turns = [[gang.first_turn(part) for gang in gangs] for part in range(gangs[0].mapping.split)]
        for gang in gangs:
            gang.slot, gang.load_turns = slot, [min(of_part) for of_part in turns]
            gang.local = gang.steps == 1 or self.config.pod.accumulator_rows >= words
            # Weights of a step that emits are loaded when those of the step before have been taken by all.
            later = 0 if gang.local else slot * max(max(of_part) - min(of_part) for of_part in turns)
            gang.length = max(words if gang.local else gang.turns, rows) + later

    def _earliest(self, gang: _Gang) -> int:
        """The first cycle in which the first step may begin: pods are free, weights can be loaded, activations are there."""
        rows, mapping, free, swapped = self.config.array.rows, gang.mapping, self.state.free, self.state.swapped
        # Banks of pods without a tile are in use as well.
        begin = 0
        if len(gang.tiles) < mapping.side:
            block = free[gang.base : gang.base + mapping.pods_of_patch].reshape(mapping.split, mapping.side)
            begin = max(begin, int(block[:, len(gang.tiles) :].max()))
        if mapping.abreast > 1:
            # Weights come from banks of other pods, and over wires of theirs.
            begin = max(begin, int(swapped[gang.block : gang.block + mapping.block].max()) + rows)
        read: list[Source] | None = None
        late: list[tuple[int, int, int, Source]] = []
        for (part, j), sources in gang.sources.items():
            pod, missing = gang.pod(part, j), gang.steps - len(sources)
            if sources is not read:
                # Tiles that share all their steps wait for the same.
                time = missing * gang.length + self._from_bank
                for number, source in enumerate(sources, missing):
                    arrivals = source.held.arrivals
                    if arrivals and arrivals.last - time > begin:
                        late.append((arrivals.last - time, part, number, source))
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
        # Streams read behind words as they arrive; those of which the last arrives latest are asked first.
        (_, images), (_, high), (_, wide) = gang.box
        for time, part, number, source in sorted(late, key=itemgetter(0), reverse=True):
            if time <= begin:
                break
            emits = number == gang.steps - 1 or not gang.local
            first = source.begin(gang.box, stream_order((images, high, wide), gang.mapping.split, part, emits, gang.slot, rows))
            begin = max(begin, first - self._from_bank - number * gang.length)
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
                self.state.storage.bring(pod, HostSelect.STREAM_STORE, split + len(gang.walks))
                self.state.storage.bring(pod, HostSelect.LOAD_STORE)
                self.state.swapped[pod] = gang.final + gang.first_turn(part) * gang.slot
        sequences = []
        for (part, j), count in counts.items():
            home = homes.get((part, j))
            sequences.append(StepSequence(count, home.base if home else 0, *gang.first_write(part, j), gang.load_turns[part]))
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

    def _sources(self, gang: _Gang, references: list[Reference], tile: int, patch: Box, banks: range) -> list[Source]:
        """The activations that steps stream, each in one of ``banks``; has them sent there if they are not."""
        plan, found, held = gang.plan, [], dict[Reference, Held]()
        source = self.state.book.gangs.source
        for reference in references:
            number = reference[0]
            step = plan.step(tile, reference)
            at = held.get((number, step.unit))
            if at is None:
                at = held[number, step.unit] = self._held(gang, number, step.unit, patch, banks)
            where = plan.lowering.operands[number].stride(step.unit), (step.dh, step.dw)
            found.append(Source(reference, source(at.place, at.region, *where), at, *where))
        return found

    def _held(self, gang: _Gang, number: int, unit_number: int, patch: Box, banks: range) -> Held:
        plan, region = gang.plan, gang.plan.region(number, unit_number, patch)
        operand, unit = plan.operation.operands[number], plan.lowering.operands[number].units[unit_number]
        if unit.is_computed:
            arrivals = self.copies.fetch(plan.operation, operand, unit, region, banks)
            return Held(region, arrivals.place, arrivals)
        region = self.loaded_region(plan, gang.mapping, number, unit_number, patch)
        for item, around in loaded_with(self.state.resident, operand, unit, region):
            if item.place.bank in banks:
                return Held(around, item.place)
        place = self.state.storage.place("input", banks, region.words, plan.operation)
        self.state.external_units.append(ExternalUnit(plan.index, number, unit_number, region, place))
        key = words_of_unit(operand, unit, region)
        self.state.resident[key] = (*self.state.resident.get(key, ()), self.state.external_units[-1])
        return Held(region, place)

    def _weights(self, gang: _Gang) -> NDArray[np.int64]:
        """(rows, W bank, first word in it) of the weight tile of each step of each pod.

        Room is made for them once: other patches of the same tiles in the same block have the same steps.
        """
        plan, mapping = gang.plan, gang.mapping
        key = (plan.index, gang.block, gang.tiles.start)
        known = self.state.weight_words.get(key)
        if known is not None:
            return known
        found: dict[tuple[int, int], list[tuple[int, int, int]]] = {where: [] for where in gang.sources}
        turns, filled = gang.load_turns, self.state.storage.filled["w"]
        region = self.kept.first_word(plan.index, gang.tiles.start // mapping.side)
        # Of the banks of the pods that take them, one whose manager has least to bring; in bands, the same in all of them.
        banks, storage = {}, self.state.storage
        for part, j in gang.sources:
            pod = gang.block + part * mapping.side + j
            of_patches = range(pod, pod + mapping.block, mapping.pods_of_patch)
            if self.state.known_weights is not None:
                banks[part, j] = of_patches[(gang.tiles.start + part * mapping.side + j) % mapping.abreast]
            else:
                banks[part, j] = min(of_patches, key=lambda bank: (storage.brought_to(bank), filled[bank]))
            storage.bring(banks[part, j], HostSelect.W, self.config.array.rows * len(gang.sources[part, j]))
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
                    place = self.state.storage.place("w", (banks[part, j],), lanes, plan.operation)
                else:
                    place = Place(banks[part, j], region + sum(words for words, *_ in found[part, j]))
                self.state.weights.append(WeightTile(plan.index, number, gang.tiles[j], step, place))
                found[part, j].append((lanes, place.bank, place.base))
        words = np.array([each for of_pod in found.values() for each in of_pod], np.int64).reshape(-1, 3)
        self.state.weight_words[key] = words
        return words
