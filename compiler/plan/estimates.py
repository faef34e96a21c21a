"""What operations of a network take of a chip, by an estimate: words of banks, parameter sets, and cycles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Shape
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.bank_words import zero_word
from ..chip.spills import stored_views
from ..lower.boxes import Rect
from ..lower.layer import PackedLayer, pack_layer
from ..lower.operation import input_word_steps, words_of_operand
from .bands import as_stored, size_of

_P_FILL, _X_FILL, _W_FILL = 0.95, 0.9, 0.8
"""Of banks, what is used of them: words do not spread evenly."""
_SETS = 0.9
"""Of all parameter sets, those that column tiles which an operation reads or leaves may take."""

_AGAIN = 1 / 3
"""What a word costs that is loaded once more, of one that is loaded: it mostly comes beside an epoch."""


class Estimates:
    """Of each operation of a graph on a chip, and what there is of all.

    Members
    -------
    p_words, x_words, w_words, sets : float
        Words of all P, X and W banks, and parameter sets, that may be used.
    """

    def __init__(self, graph: Graph, config: ChipConfig):
        self.graph, self.config = graph, config
        self.operations: Sequence[Linear] = graph.operations
        self.shapes: Mapping[str, Shape] = graph.inputs | {each.name: each.output for each in graph.operations}
        self.views = stored_views(graph, config)
        self.stored_shapes = dict(self.shapes) | {name: seen.of(self.shapes[name]) for name, seen in self.views.items()}
        """Of tensors as they lie in memory."""
        array, memory = config.array, config.memory
        self.p_words = _P_FILL * zero_word(config) * memory.banks
        self.x_words = _X_FILL * memory.x_words * memory.banks
        self.all_w_words = memory.w_words * memory.banks
        self.w_words = _W_FILL * self.all_w_words
        assert config.post is not None
        self.sets = _SETS * config.post.parameter_sets * memory.banks
        self.beat = config.host_bits // 8 * config.managers
        self.x_stride, self.w_stride = (memory_stride(config, select) for select in (HostSelect.X, HostSelect.W))
        self.rows, self.cols = array.rows, array.cols

    def cycles(self, bands: int, moved: float, streamed: float, weights: float) -> float:
        """``moved``: words of activations of a band; ``streamed``: words times weight tiles; ``weights``: words of a band's."""
        times = 1 if weights <= self.w_words else bands
        loading = times * weights * self.w_stride / self.beat
        return bands * moved * self.x_stride / self.beat + bands * streamed / self.config.pods + loading

    def sums(self, index: int, positions: int) -> int:
        """Words of P banks for so many outputs of an operation, those among them that no whole window fits into."""
        window = self.operations[index].window
        if window is None:
            return positions * self.tiles[index]
        room, piece = zero_word(self.config), prod(window.kernel)
        return int(positions * self.tiles[index] * prod(window.stride) * room / max(piece, room - room % piece))

    def sets_read(self, index: int, inside: Collection[str]) -> int:
        """Column tiles that an operation reads of tensors of its segment: each takes a parameter set."""
        return sum(-(-self.shapes[source][3] // self.cols) for source in set(self.operations[index].sources) if source in inside)

    def blocks(self, name: str) -> int:
        """Words per position of a tensor, as it lies in memory: of all that it is seen as there."""
        return -(-self.stored_shapes[name][3] // self.rows) * (self.views[name].positions if name in self.views else 1)

    def reading(self, begin: int, end: int) -> tuple[Linear, ...]:
        """Operations of a segment, as they read what others have stored."""
        return as_stored(self.operations[begin:end], self.views) if self.views else tuple(self.operations[begin:end])

    def held(self, index: int, source: str, rects: Mapping[str, Rect]) -> float:
        """Words that an operation has of a tensor of another segment, of which a box is needed, as it lies in memory."""
        return size_of(rects[source]) * self.words(index, source) / (self.views[source].positions if source in self.views else 1)

    def load(self, loaded: dict[str, float], begin: int, index: int, source: str, words: float) -> None:
        """Add to ``loaded`` what an operation of a segment loads of a tensor of another one: so many words, or those that it does
        not find in X banks, if the operation before has just read the same. Parts of a reduction read other words of it."""
        known = loaded.get(source, 0.0)
        parts = any(self.operations[at].adds_to for at in (index - 1, index)) if index > begin else False
        if parts or not known:
            loaded[source] = known + words
        elif source in self.operations[index - 1].sources:
            loaded[source] = max(known, words)
        else:
            loaded[source] = known + _AGAIN * words

    def words(self, index: int, source: str) -> float:
        """Words per position of a tensor that an operation has in X banks."""
        operands = [operand for operand in self.operations[index].operands if source in operand.sources]
        if source in self.graph.inputs:
            words = self.packed[index]
        elif self.operations[index].adds_to or any(operand.channels and not operand.upsampled for operand in operands):
            blocks = {b for each in operands for *_, name, b in words_of_operand(self.shapes, each, self.rows) if name == source}
            words = len({first // self.rows for first in blocks})
        else:
            words = self.blocks(source)
            if self.enlarges[index] and operands[0].upsampling(source).interleaved:
                return words
        if self.enlarges[index]:
            words *= max(operand.upsampling(source).positions for operand in operands)
        return words

    @cached_property
    def enlarges(self) -> list[bool]:
        """Whether operations see tensors enlarged."""
        return [any(operand.upsampled for operand in operation.operands) for operation in self.operations]

    @cached_property
    def tiles(self) -> list[int]:
        return [-(-operation.output[3] // self.cols) for operation in self.operations]

    @cached_property
    def tile_counts(self) -> NDArray[np.int64]:
        """`tiles` as an array."""
        return np.array(self.tiles)

    @cached_property
    def steps(self) -> list[int]:
        """K steps of a column tile."""
        found = []
        for operation, packing in zip(self.operations, self._packings, strict=True):
            if packing:
                found.append(len(packing.tiles[0].steps))
                continue
            steps = 0
            for operand in operation.operands:
                layer = operand.layer
                blocks = 1 if operand.is_diagonal else -(-layer.channels // layer.groups // self.rows)
                steps += prod(layer.kernel) * blocks
            found.append(steps)
        return found

    @cached_property
    def packed(self) -> list[float]:
        """Words per position of what operations read of inputs of the network."""
        found: list[float] = []
        for operation, packing in zip(self.operations, self._packings, strict=True):
            if packing:
                found.append(sum(1 / prod(unit.grid) for unit in packing.units))
            else:
                found.append(sum(-(-operand.layer.channels // self.rows) for operand in operation.operands))
        return found

    @cached_property
    def _packings(self) -> list[PackedLayer | None]:
        """Of operations that put several taps of inputs of the network into one word."""
        found: list[PackedLayer | None] = []
        for operation in self.operations:
            layer = operation.operands[0].layer
            outside = all(source in self.graph.inputs for source in operation.sources)
            if outside and len(operation.operands) == 1 and layer.groups == 1:
                found.append(pack_layer(layer, self.config.array, word_steps=input_word_steps(operation, self.config)))
            else:
                found.append(None)
        return found
