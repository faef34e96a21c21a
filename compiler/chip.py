"""The compiler for a chip: a graph of layers becomes one epoch of jobs for all pods and post-processors.

Nodes are scheduled one after the other, patch by patch: a gang of pods starts as soon as it is free and *its* inputs are there,
not when the layer before is complete. Inputs are pulled: when a gang is placed, the post-processors that hold what it needs are
told to send it into the banks of its block, as early as the networks are free. Conflicts cannot arise: a gang uses X, W and P
banks of its own block (see `mapping`), and every word on the Y network has a reservation for all wires on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rtl.config import ChipConfig

from .blocks import lower_node, unit_source
from .chip_program import ChipProgram, HostUnit, Lowering, WeightTile
from .graph import Graph, Node
from .jobbook import Jobbook
from .layers import WorkloadError
from .lowering import Region
from .mapping import Mapping, Work, choose
from .movement import Copies, Fragment, Producer
from .program import Place
from .storage import Storage

Progress = Callable[[int, int], None]
_TRANSIT = 16


@dataclass
class _Plan:
    """A node on its way through the compiler."""

    index: int
    node: Node
    lowering: Lowering
    host: bool
    shared: list[tuple[int, int]]
    """(operand, step) of the K steps whose activations all column tiles share."""
    own: list[list[tuple[int, int]]]
    """The other steps of each column tile."""
    reach: list[dict[int, tuple[int, int]]] = field(default_factory=list)

    def step(self, tile: int, reference: tuple[int, int]):  # noqa: ANN201
        operand, index = reference
        return self.lowering.operands[operand].tiles[tile].steps[index]


def compile_graph(
    graph: Graph,
    config: ChipConfig,
    *,
    tables: MappingType[str, int] | None = None,
    partition: int | None = None,
    progress: Progress | None = None,
) -> ChipProgram:
    """The program of a whole graph on a chip.

    ``tables``: activation table of each node that has one. ``partition``: words that a pod streams per weight tile (0: as many as
    fit); by default each node's is chosen. Raises `WorkloadError` for what does not fit, with the limit and the excess.
    """
    return _Compiler(graph, config, dict(tables or {}), partition).run(progress)


class _Compiler:
    def __init__(self, graph: Graph, config: ChipConfig, tables: dict[str, int], partition: int | None):
        self.graph, self.config, self.partition = graph, config, partition
        self.storage = Storage(config)
        self.book = Jobbook(config)
        self.copies = Copies(graph, config, self.storage, self.book, tables)
        self.free = np.zeros(config.pods, np.int64)
        """Per pod, the first cycle in which it may stream."""
        self.swapped = np.zeros(config.pods, np.int64)
        """Per pod, from when on weights for the next step may be requested."""
        self.weights: dict[tuple[int, int, int, int, int], Place] = {}
        self.weight_tiles: list[WeightTile] = []
        self.host_units: list[HostUnit] = []
        self.host_places: dict[tuple, list[Place]] = {}
        self.mappings: dict[tuple, set[tuple[Mapping, tuple[str, ...]]]] = {}
        self.read = {source for node in graph.nodes for operand in node.operands for source in operand.sources}
        self.depth = config.pod.accumulator_rows
        self.to_bank = config.write_latency + config.network_latency

    def run(self, progress: Progress | None) -> ChipProgram:
        lowerings = [self._lower(node) for node in self.graph.nodes]
        for done, index in enumerate(self._order(), start=1):
            self._schedule(self._plan(index, self.graph.nodes[index], lowerings[index]))
            if progress:
                progress(done, len(self.graph.nodes))
        self.copies.store_outputs()
        return self.book.program(
            self.graph,
            tuple(lowerings),
            host_units=tuple(self.host_units),
            weights=tuple(self.weight_tiles),
            copies=self.copies,
            used=self.storage.used(),
        )

    def _order(self) -> Iterator[int]:
        """Nodes in the order in which their inputs are complete: what waits for others must not stand before what need not."""
        nodes = self.graph.nodes
        needs = [
            {source for operand in node.operands for source in operand.sources if source not in self.graph.inputs}
            | {name for name in node.after if name not in self.graph.inputs}
            for node in nodes
        ]
        left = list(range(len(nodes)))
        while left:
            complete = self.copies.producers
            ready = [i for i in left if needs[i] <= complete.keys()]
            index = min(ready, key=lambda i: max((complete[name].complete for name in needs[i]), default=0))
            left.remove(index)
            yield index

    def _lower(self, node: Node) -> Lowering:
        reduction = sum(operand.layer.reduction for operand in node.operands)
        limit = self.config.array.max_reduction
        if reduction > limit:
            raise WorkloadError(
                f"{node.name}: the reduction K is {reduction}, {reduction - limit} more than psum_width "
                f"{self.config.array.psum_width} sums without wrapping ({limit})"
            )
        return lower_node(self.graph, node, self.config.array)

    def _plan(self, index: int, node: Node, lowering: Lowering) -> _Plan:
        shared: list[tuple[int, int]] = []
        own: list[list[tuple[int, int]]] = [[] for _ in lowering.tiles]
        reach: list[dict[int, tuple[int, int]]] = []
        for number, lowered in enumerate(lowering.operands):
            walks = [[(s.unit, s.dh, s.dw) for s in tile.steps] for tile in lowered.tiles]
            if all(walk == walks[0] for walk in walks):
                shared += [(number, i) for i in range(len(walks[0]))]
            else:
                for tile, walk in enumerate(walks):
                    own[tile] += [(number, i) for i in range(len(walk))]
            reaches: dict[int, tuple[int, int]] = {}
            for tile in lowered.tiles:
                for step in tile.steps:
                    high, wide = reaches.get(step.unit, (0, 0))
                    reaches[step.unit] = (max(high, step.dh), max(wide, step.dw))
            reach.append(reaches)
        host = all(source in self.graph.inputs for operand in node.operands for source in operand.sources)
        return _Plan(index, node, lowering, host, shared, own, reach)

    # One node.

    def _schedule(self, plan: _Plan) -> None:
        node, config = plan.node, self.config
        batch, height, width, _ = node.output
        window = node.window

        def streamed(images: int, rows: int, columns: int) -> int:
            if window:
                rows = (rows - 1) * window.stride[0] + window.kernel[0]
                columns = (columns - 1) * window.stride[1] + window.kernel[1]
            return images * rows * columns

        def arriving(images: int, rows: int, columns: int) -> int:
            layer = node.operands[0].layer
            if window:
                rows = (rows - 1) * window.stride[0] + window.kernel[0]
                columns = (columns - 1) * window.stride[1] + window.kernel[1]
            high = (rows - 1) * layer.stride[0] + layer.kernel_extent[0]
            wide = (columns - 1) * layer.stride[1] + layer.kernel_extent[1]
            return images * high * wide

        steps = len(plan.shared) + max(len(steps) for steps in plan.own)
        limit = min(config.memory.p_words, 2**config.pod.count_width - 1)
        if steps > 1 and self.depth >= 16:
            limit = min(limit, self.depth)
        limit = min(limit, 2048)
        ready = self._ready(plan)
        units = len({(o, plan.step(0, (o, s)).unit) for o, s in plan.shared}) if plan.shared else 1
        work = Work(
            shape=(batch, height, width),
            tiles=len(plan.lowering.tiles),
            shared=len(plan.shared),
            own=max(len(own) for own in plan.own),
            units=0 if plan.host else units,
            held=units,
            ready=ready,
            windowed=window is not None,
            reads=max((self._reads(source) for operand in node.operands for source in operand.sources), default=1),
fresh=self._fresh(node),
        )
        try:
            mapping = choose(
                work,
                pods=config.pods,
                rows=config.array.rows,
                limit=limit,
                streamed=streamed,
                arriving=arriving,
                free=self.free,
                partition=self.partition,
                latency=_TRANSIT,
                room=(self.storage.room("x") - self._output_words(node), self.storage.room("w")),
            )
        except ValueError as error:
            raise WorkloadError(
                f"{node.name}: one output position takes {streamed(1, 1, 1)} words of partial sums, "
                f"{streamed(1, 1, 1) - limit} more than fit ({limit})"
            ) from error
        for operand in node.operands:
            for source in operand.sources:
                key = (source, operand.layer.kernel, operand.layer.stride)
                self.mappings.setdefault(key, set()).add((mapping, operand.sources))
        producer = Producer(plan.index, node, plan.lowering, mapping.patches)
        rounds = range(0, work.tiles, mapping.side)
        blocks = np.arange(0, config.pods, mapping.block)
        nearness = 1e6 if mapping.near else 0.25
        patches = [(i, r, c) for i in mapping.patches.images for r in mapping.patches.rows for c in mapping.patches.columns]
        for number, patch in enumerate(patches):
            (_, _), (row, rows), (column, columns) = patch
            due = int(ready[row : row + rows, column : column + columns].max()) + _TRANSIT
            for first in rounds:
                tiles = range(first, min(first + mapping.side, work.tiles))
                free = self.free.reshape(-1, mapping.block).max(axis=1)
                # Where the inputs already are, if that is not much later than elsewhere.
                start = np.maximum(free, due)
                block = int(np.argmin(start + nearness * self._distance(plan, mapping, patch, blocks)))
                self._gang(plan, mapping, producer, number, patch, tiles, int(blocks[block]))
        self.copies.producers[node.name] = producer

    def _fresh(self, node: Node) -> Callable[[Mapping], float]:
        """The share of a node's inputs that no node before it has had sent to where a mapping needs them."""
        known = []
        for operand in node.operands:
            for source in operand.sources:
                seen = self.mappings.get((source, operand.layer.kernel, operand.layer.stride), set())
                # Parts of K are cut elsewhere when there are other tensors beside.
                same = {mapping for mapping, sources in seen if mapping.split == 1 or sources == operand.sources}
                known.append((same, self.graph.shape(source)[3]))
        total = sum(channels for _, channels in known)
        return lambda mapping: sum(channels for same, channels in known if mapping not in same) / total

    def _output_words(self, node: Node) -> float:
        """Words per X bank that a node's outputs will take, if they are the graph's."""
        if node.name in self.read:
            return 0.0
        batch, height, width, outputs = node.output
        return batch * height * width * -(-outputs // self.config.post_lanes) / self.config.pods

    def _reads(self, source: str) -> int:
        """Words of a P bank that are read for one word of a tensor."""
        window = None if source in self.graph.inputs else self.copies.producers[source].node.window
        return window.kernel[0] * window.kernel[1] if window else 1

    def _distance(self, plan: _Plan, mapping: Mapping, patch, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Words that would have to be sent to each block before it can work on a patch."""
        if not plan.shared:
            return np.zeros(len(blocks), np.int64)
        number, index = plan.shared[0]
        step, operand = plan.step(0, (number, index)), plan.node.operands[number]
        region = self._region(plan, number, step.unit, patch)
        unit = plan.lowering.operands[number].units[step.unit]
        if all(source in self.graph.inputs for source in operand.sources):
            key = (operand.sources, operand.channels, id(unit), region)
            banks = [place.bank for place in self.host_places.get(key, ())]
        else:
            banks = self.copies.banks_with(operand, unit, region)
        distance = np.full(len(blocks), region.words, np.int64)
        for bank in banks:
            distance[bank // mapping.block] = 0
        return distance

    def _ready(self, plan: _Plan) -> NDArray[np.int64]:
        """Per output row and column of the node, the cycle at which its inputs may be read from P banks."""
        node = plan.node
        _, height, width, _ = node.accumulated
        ready = np.zeros((height, width), np.int64)
        for operand in node.operands:
            layer = operand.layer
            source = np.zeros((layer.height, layer.width), np.int64)
            for name in operand.sources:
                if name not in self.graph.inputs:
                    source = np.maximum(source, self.copies.producers[name].ready)
            (top, bottom), (left, right) = layer.padding
            padded = np.pad(source, ((top, bottom), (left, right)))
            for kh in range(layer.kernel[0]):
                for kw in range(layer.kernel[1]):
                    rows = padded[kh * layer.dilation[0] :: layer.stride[0], kw * layer.dilation[1] :: layer.stride[1]]
                    ready = np.maximum(ready, rows[:height, :width])
        for name in node.after:
            if name not in self.graph.inputs:
                ready = np.maximum(ready, int(self.copies.producers[name].ready.max()))
        if node.window:
            (kh, kw), (sh, sw) = node.window.kernel, node.window.stride
            _, high, wide, _ = node.output
            parts = [ready[i::sh, j::sw][:high, :wide] for i in range(kh) for j in range(kw)]
            ready = np.max(parts, axis=0)
        return ready

    # One gang.

    def _gang(self, plan: _Plan, mapping: Mapping, producer: Producer, number: int, patch, tiles: range, base: int) -> None:
        config, side, split = self.config, mapping.side, mapping.split
        box = self._streamed_box(plan.node, patch)
        segments, in_order = _segments(box, split)
        slot = max(_size(s) for s in segments if s)
        words = _size(box)
        parts = [plan.shared[len(plan.shared) * k // split : len(plan.shared) * (k + 1) // split] for k in range(split)]
        own_part = min(range(split), key=lambda k: len(parts[k]))
        counts = [len(parts[k]) + (max(len(plan.own[t]) for t in tiles) if k == own_part else 0) for k in range(split)]
        steps = max(counts)
        local = steps == 1 or self.depth >= (sum(_size(s) for s in segments if s))
        rows = config.array.rows
        length = max(words, rows) if local else max(slot * split, rows)

        # Where each step of each pod finds its activations, and from when on.
        places: dict[tuple[int, int], list[tuple[tuple[int, int], Region, Place, int]]] = {}
        # Banks of idle pods of the block are in use as well.
        idle = [pod for pod in range(base, base + mapping.block) if (pod - base) % side >= len(tiles)]
        earliest_start = max((int(self.free[pod]) for pod in idle), default=0)
        for part in range(split):
            lane = range(base + part * side, base + part * side + side)
            common = [(ref, *self._activations(plan, ref, tiles[0], patch, lane)) for ref in parts[part]]
            for j, tile in enumerate(tiles):
                pod = lane[j]
                refs = list(common)
                if part == own_part:
                    # Its own steps first: what all share ends in the same step, and pods read the same words at the same time.
                    own = [(ref, *self._activations(plan, ref, tile, patch, range(pod, pod + 1))) for ref in plan.own[tile]]
                    refs = own + refs
                places[part, j] = refs
                missing = steps - len(refs)
                for q, (_, _, _, ready) in enumerate(refs):
                    earliest_start = max(earliest_start, ready - config.network_latency - (q + missing) * length)
                if not refs:
                    earliest_start = max(earliest_start, int(self.free[pod]))
                else:
                    offset = missing * length
                    earliest_start = max(earliest_start, int(self.swapped[pod]) + rows - offset)
                    # Where every step emits, other parts write into its P bank while it still waits for its first step.
                    earliest_start = max(earliest_start, int(self.free[pod]) - (offset if local or split == 1 else 0))
        for name in plan.node.after:
            if name not in self.graph.inputs:
                earliest_start = max(earliest_start, self.copies.producers[name].complete)
        final = earliest_start + (steps - 1) * length
        if split > 1 or not local:
            final = self._clear_of_reads(base, side, split, tiles, segments, slot, steps, length, local, final)
        begin = final - (steps - 1) * length
        self._emit(plan, mapping, producer, number, patch, box, tiles, base, places, segments, in_order, slot, begin, length, local)

    def _clear_of_reads(self, base, side, split, tiles, segments, slot, steps, length, local, final) -> int:  # noqa: ANN001
        """A later start of the final step, if words that accumulate would need the read port of a P bank while it is taken."""
        while True:
            moved = final
            for part in range(split):
                if segments[part] is None:
                    continue
                for j in range(len(tiles)):
                    line = self.copies.p_ports[base + part * side + j]
                    first = final if local else final - (steps - 1) * length
                    span = (final - first) + slot * split
                    found = line.next_free(first + self.to_bank, span)
                    moved = max(moved, final + found - first - self.to_bank)
            if moved == final:
                return final
            final = moved

    def _emit(  # noqa: ANN001, ANN202
        self, plan, mapping, producer, number, patch, box, tiles, base, places, segments, in_order, slot, begin, length, local
    ):
        book, side, split = self.book, mapping.side, mapping.split
        steps = max(len(refs) for refs in places.values())
        final = begin + (steps - 1) * length
        # Accumulators and P bank rows, segment by segment.
        row_of = np.concatenate([[0], np.cumsum([_size(s) if s else 0 for s in segments])]).tolist()
        p_places = {
            (part, j): self.storage.place("p", range(base + part * side + j, base + part * side + j + 1), _size(segments[part]), plan.node)
            for part in range(split)
            if segments[part]
            for j in range(len(tiles))
        }
        touched: set[tuple[int, int]] = set()
        swapped: set[tuple[int, int, int]] = set()
        for q in range(steps):
            start = begin + q * length
            emits = q == steps - 1 or not local
            for turn in range(split if emits or not in_order else 1):
                # Turns of a step that emits are as long in all parts; else one segment follows the other.
                time = start + (turn * slot if emits else row_of[turn])
                for part in range(split):
                    for j, tile in enumerate(tiles):
                        refs = places[part, j]
                        index = len(refs) - steps + q
                        if index < 0:
                            continue
                        pod = base + part * side + j
                        reference, region, place, _ = refs[index]
                        step = plan.step(tile, reference)
                        whole = in_order and not emits
                        target = part ^ turn if emits else turn
                        segment = box if whole else segments[target]
                        if segment is None:
                            continue
                        swap = (part, j, q) not in swapped
                        if swap:
                            swapped.add((part, j, q))
                            lanes, weights = self._weights(plan, reference, tile, pod)
                            book.load(pod, time - lanes, lanes, weights)
                            self.swapped[pod] = time
                        accumulate, emit = 0, 0
                        if local and steps > 1 and len(refs) > 1:
                            accumulate = 1 if index == 0 else 2
                        if emits:
                            # One pod at a time writes a segment: who comes first, stores.
                            emit = 2 if (target, j) in touched else 1
                            touched.add((target, j))
                            where = p_places[target, j]
                        else:
                            where = Place(0, 0)
                        book.stream(
                            pod,
                            time,
                            int(swap),
                            segment,
                            region,
                            plan.node.operands[reference[0]].layer,
                            step,
                            place,
                            accumulate,
                            row_of[0 if whole else target] if local and steps > 1 else 0,
                            emit,
                            where,
                            plan.index,
                        )
        end = final + slot * split
        # The first turn stores; the others need the read port.
        for part in range(split):
            if segments[part] is None:
                continue
            for j in range(len(tiles)):
                line = self.copies.p_ports[base + part * side + j]
                first = final if local else begin
                if split > 1 or (not local and steps > 1):
                    line.add(first + self.to_bank, end - first)
                arrival = final + (split - 1) * slot + self.to_bank
                fragment = Fragment(segments[part], p_places[part, j], arrival)
                producer.add(number, patch, tiles[j], fragment, arrival + _size(segments[part]) + 1)
        self.free[base : base + mapping.block] = end

    def _activations(self, plan: _Plan, reference: tuple[int, int], tile: int, patch, banks: range):  # noqa: ANN202, ANN001
        """(region, place, ready) of the words that a step streams, in one of ``banks``; has them sent there if they are not."""
        operand_number = reference[0]
        operand = plan.node.operands[operand_number]
        step = plan.step(tile, reference)
        unit = plan.lowering.operands[operand_number].units[step.unit]
        region = self._region(plan, operand_number, step.unit, patch)
        if all(source in self.graph.inputs for source in operand.sources):
            known = self.host_places.setdefault((operand.sources, operand.channels, id(unit), region), [])
            for place in known:
                if place.bank in banks:
                    return region, place, 0
            place = self.storage.place("x", banks, region.words, plan.node)
            known.append(place)
            self.host_units.append(HostUnit(plan.index, operand_number, step.unit, region, place))
            return region, place, 0
        place, ready = self.copies.fetch(plan.node, operand, unit, region, banks)
        return region, place, ready

    def _weights(self, plan: _Plan, reference: tuple[int, int], tile: int, pod: int) -> tuple[int, Place]:
        operand_number, index = reference
        operand = plan.node.operands[operand_number]
        step = plan.step(tile, reference)
        from_host = all(source in self.graph.inputs for source in operand.sources)
        lanes = plan.lowering.operands[operand_number].units[step.unit].lanes if from_host else self.config.array.rows
        key = (plan.index, operand_number, tile, index, pod)
        place = self.weights.get(key)
        if place is None:
            place = self.storage.place("w", range(pod, pod + 1), lanes, plan.node)
            self.weights[key] = place
            self.weight_tiles.append(WeightTile(plan.index, operand_number, tile, step, place))
        return lanes, place

    def _region(self, plan: _Plan, operand: int, unit: int, patch) -> Region:  # noqa: ANN001
        """Padded input positions that a unit must hold for a patch."""
        layer = plan.node.operands[operand].layer
        (image, images), (row, rows), (column, columns) = self._streamed_box(plan.node, patch)
        (sh, sw), (reach_h, reach_w) = layer.stride, plan.reach[operand][unit]
        return Region(image, images, row * sh, (rows - 1) * sh + reach_h + 1, column * sw, (columns - 1) * sw + reach_w + 1)

    @staticmethod
    def _streamed_box(node: Node, patch):  # noqa: ANN001, ANN205
        """The box of accumulator positions that a patch of outputs needs."""
        if node.window is None:
            return patch
        (kh, kw), (sh, sw) = node.window.kernel, node.window.stride
        images, (row, rows), (column, columns) = patch
        return images, (row * sh, (rows - 1) * sh + kh), (column * sw, (columns - 1) * sw + kw)


def _size(box) -> int:  # noqa: ANN001
    return box[0][1] * box[1][1] * box[2][1]


def _segments(box, split: int):  # noqa: ANN001, ANN202
    """A box cut into up to ``split`` boxes, and whether one after the other they are the box in its own order."""
    counts = [1, 1, 1]
    left = split
    for axis in range(3):
        most = 1 << (box[axis][1].bit_length() - 1)
        counts[axis] = min(left, most)
        left //= counts[axis]
    axes = []
    for (origin, length), count in zip(box, counts, strict=True):
        edges = [length * i // count for i in range(count + 1)]
        axes.append([(origin + a, b - a) for a, b in zip(edges, edges[1:], strict=False)])
    boxes: list = [(i, r, c) for i in axes[0] for r in axes[1] for c in axes[2]]
    boxes += [None] * (split - len(boxes))
    first_long = next((axis for axis in range(3) if box[axis][1] > 1), 2)
    in_order = all(count == 1 for axis, count in enumerate(counts) if axis != first_long)
    return boxes, in_order
