"""The compiler for a chip: nodes of a graph become one epoch of jobs for all pods and post-processors.

Nodes are scheduled one after the other, patch by patch: a gang of pods starts as soon as it is free and *its* inputs are there,
not when the layer before is complete. Inputs are pulled: when a gang is placed, the post-processors that hold what it needs are
told to send it into the banks of its block, as early as the networks are free. Conflicts cannot arise: a gang uses X, W and P
banks of its own block (see `mapping`), and every word on the Y network has a reservation for all wires on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph, Node
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from ..lower.boxes import Box
from ..lower.node import Lowering, lower_node
from .bank_words import Storage, zero_word
from .copies import Copies
from .epoch_program import ChipProgram
from .gangs import Gangs, Plan
from .job_tables import Jobbook
from .mapping import Mapping, Work, choose
from .producers import Producer

Progress = Callable[[int, int], None]
_TRANSIT = 16
"""About the cycles from words that may be read from P banks to a gang that streams them."""
_USEFUL_DEPTH = 16
"""Fewer accumulator rows are not worth cutting patches to: sums go to the P banks in every step."""
_MOST_WORDS = 2048
"""Words of the largest patch: a single one would keep a pod busy for too long."""


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
    epoch = Epoch(graph, config, dict(tables or {}), partition, lower(graph, config), Storage(config))
    return epoch.run(tuple(range(len(graph.nodes))), progress)


def lower(graph: Graph, config: ChipConfig) -> tuple[Lowering, ...]:
    """All nodes as the arrays see them; raises `WorkloadError` for a reduction that would wrap."""
    lowerings = []
    for node in graph.nodes:
        reduction = sum(operand.layer.reduction for operand in node.operands)
        limit = config.array.max_reduction
        if reduction > limit:
            raise WorkloadError(
                f"{node.name}: the reduction K is {reduction}, {reduction - limit} more than psum_width "
                f"{config.array.psum_width} sums without wrapping ({limit})"
            )
        lowerings.append(lower_node(graph, node, config.array))
    return tuple(lowerings)


class Epoch:
    """Nodes scheduled one after the other, from time 0 on, on top of what earlier epochs left.

    ``storage``: words that are free, to be taken. ``carried``: nodes of earlier epochs, with what of them is still in P banks.
    ``share``: how much of each program store the epoch may take. ``whole``: all nodes must fit, so mappings spare the banks;
    else they are chosen as if the epoch had just begun, and what does not fit is for the next one. ``before``: the epoch whose
    inputs are still in the X banks.
    """

    def __init__(
        self,
        graph: Graph,
        config: ChipConfig,
        tables: dict[str, int],
        partition: int | None,
        lowerings: tuple[Lowering, ...],
        storage: Storage,
        carried: MappingType[str, Producer] | None = None,
        share: float = 1.0,
        whole: bool = True,
        before: Epoch | None = None,
    ):
        self.graph, self.config, self.partition, self.lowerings = graph, config, partition, lowerings
        self.storage, self.whole = storage, whole
        self.book = Jobbook(config, share, whole)
        self.copies = Copies(graph, config, self.storage, self.book, tables, dict(carried or {}))
        self.gangs: Gangs = Gangs(graph, config, self.storage, self.book, self.copies, before.gangs.resident if before else None)
        self.resident = tuple(item for items in self.gangs.resident.values() for item in items)
        self.mappings: dict[tuple, set[tuple[Mapping, tuple[str, ...]]]] = {}
        if before:
            self.mappings |= {key: set(known) for key, known in before.mappings.items() if key[0] in graph.inputs}
        self.read = {source for node in graph.nodes for operand in node.operands for source in operand.sources}
        self.carried = tuple(self.copies.accumulated([producer.index for producer in self.copies.producers.values()]))
        self.scheduled: list[int] = []

    def run(self, nodes: tuple[int, ...], progress: Progress | None = None) -> ChipProgram:
        """Schedule the nodes with these indices; raises `EpochFullError` if they are too many."""
        for index in self.order(nodes):
            self._schedule(Plan.of(index, self.graph.nodes[index], self.lowerings[index], self.graph))
            self.scheduled.append(index)
            if progress:
                progress(len(self.scheduled), len(nodes))
        self.copies.store_outputs({self.graph.nodes[index].name for index in nodes})
        return self.book.program(
            self.graph,
            self.lowerings,
            host_units=tuple(self.gangs.host_units),
            weights=tuple(self.gangs.weights),
            parameters=tuple(self.copies.parameters),
            accumulated=tuple(self.copies.accumulated(self.scheduled)),
            stored=tuple(self.copies.stored),
            used=self.storage.used(),
            nodes=tuple(self.scheduled),
            carried=self.carried,
            resident=self.resident,
        )

    def order(self, candidates: tuple[int, ...]) -> Iterator[int]:
        """Nodes in the order in which their inputs are complete: what waits for others must not stand before what need not."""
        nodes = self.graph.nodes
        needs = [
            {source for operand in node.operands for source in operand.sources if source not in self.graph.inputs}
            | {name for name in node.after if name not in self.graph.inputs}
            for node in nodes
        ]
        left = list(candidates)
        while left:
            complete = self.copies.producers
            ready = [i for i in left if needs[i] <= complete.keys()]
            index = min(ready, key=lambda i: max((complete[name].complete for name in needs[i]), default=0))
            left.remove(index)
            yield index

    def _schedule(self, plan: Plan) -> None:
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
        limit = min(zero_word(config), 2**config.pod.count_width - 1)
        depth = config.pod.accumulator_rows
        if steps > 1 and depth >= _USEFUL_DEPTH:
            limit = min(limit, depth)
        limit = min(limit, _MOST_WORDS)
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
            **self._memory_costs(plan),
        )
        try:
            mapping = choose(
                work,
                pods=config.pods,
                rows=config.array.rows,
                limit=limit,
                streamed=streamed,
                arriving=arriving,
                free=self.gangs.free,
                partition=self.partition,
                latency=_TRANSIT,
                room=self._room(node),
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
                free = self.gangs.free.reshape(-1, mapping.block).max(axis=1)
                # Where the inputs already are, if that is not much later than elsewhere.
                start = np.maximum(free, due)
                block = int(np.argmin(start + nearness * self._distance(plan, mapping, patch, blocks)))
                self.gangs.place(plan, mapping, producer, number, patch, tiles, int(blocks[block]))
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

    def _memory_costs(self, plan: Plan) -> dict[str, float]:
        config = self.config
        if self.whole or config.dma is None:
            return {}
        width = config.managers * config.host_bits // 8
        job = memory_stride(config, HostSelect.STREAM_STORE) + memory_stride(config, HostSelect.LOAD_STORE)
        tile = config.array.rows * memory_stride(config, HostSelect.W)
        word = memory_stride(config, HostSelect.X) if plan.host else 0
        return {"job_cost": job / width, "tile_cost": tile / width, "input_cost": word / width}

    def _room(self, node: Node) -> tuple[float, float]:
        """Words left in an X and a W bank, on average."""
        if self.whole:
            return self.storage.room("x") - self._output_words(node), self.storage.room("w")
        limits = self.storage.limits
        return limits["x"] - self._output_words(node), float(limits["w"])

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

    def _distance(self, plan: Plan, mapping: Mapping, patch: Box, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Words that would have to be sent to each block before it can work on a patch."""
        if not plan.shared:
            return np.zeros(len(blocks), np.int64)
        number, index = plan.shared[0]
        step, operand = plan.step(0, (number, index)), plan.node.operands[number]
        region = plan.region(number, step.unit, patch)
        unit = plan.lowering.operands[number].units[step.unit]
        if all(source in self.graph.inputs for source in operand.sources):
            banks = self.gangs.host_banks(plan, number, step.unit, region)
        else:
            banks = self.copies.banks_with(operand, unit, region)
        distance = np.full(len(blocks), region.words, np.int64)
        for bank in banks:
            distance[bank // mapping.block] = 0
        return distance

    def _ready(self, plan: Plan) -> NDArray[np.int64]:
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
