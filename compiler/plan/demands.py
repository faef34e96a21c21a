"""Which words of tensors between segments are wanted where: a manager loads from its own channel of the memory only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.operations import AS_IT_IS, Shape, Upsampling
from podweave.spec.config import ChipConfig

from ..chip.epoch_program import EpochProgram, SpillRequest
from ..chip.regions import unpadded, valid_part
from ..lower.boxes import Rect
from .bands import enlarged

_PARTS = 4
"""A request takes at most a part of an X bank, so that several find room beside each other."""


class Demands:
    """By tensor, channel and block of channels, the positions that epochs load. ``shapes``: of the network's tensors as they lie in
    memory; ``views``: how those of some are seen there."""

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        config: ChipConfig,
        outputs: Sequence[str],
        views: Mapping[str, Upsampling] | None = None,
    ):
        self.shapes, self.config, self.outputs, self.views = shapes, config, frozenset(outputs), views or {}
        self._wanted: dict[str, NDArray[np.bool_]] = {}

    def copied(self) -> Demands:
        """The same, apart from what is added later."""
        made = Demands(self.shapes, self.config, (), self.views)
        made.outputs, made._wanted = self.outputs, dict(self._wanted)
        return made

    def add(self, *programs: EpochProgram) -> None:
        """What epochs load."""
        rows = self.config.array.rows
        # Those of others who have the same masks stay as they are.
        mine: set[str] = set()
        for program, item in ((each, item) for each in programs for item in each.external_units):
            unit = program.unit(item)
            if not unit.is_stored:
                continue
            operand = program.operation(item.operation).operands[item.operand]
            shape = self.shapes[unit.source]
            part = valid_part(operand, unit, unpadded(operand, unit, item.region))
            spans = [slice(begin + by, end + by) for (begin, end), by in zip(part, program.corners[unit.source], strict=True)]
            if unit.source not in mine:
                mine.add(unit.source)
                nothing = np.zeros((self.config.managers, -(-shape[3] // rows), *shape[:3]), bool)
                self._wanted[unit.source] = self._wanted.get(unit.source, nothing).copy()
            channel = item.place.bank // self.config.nodes_per_manager
            self._wanted[unit.source][channel, unit.block[1] // rows][tuple(spans)] = True

    def requests(self, name: str, share: Rect, corner: tuple[int, int, int]) -> tuple[SpillRequest, ...]:
        """What of a band's share of a tensor must be stored; boxes are in the band's tensor, which begins at ``corner``, as it lies
        in memory: share and corner are those of the tensor as it is computed."""
        seen = self.views.get(name, AS_IT_IS)
        share, corner = enlarged(share, seen), (corner[0], corner[1] * seen.rows, corner[2] * seen.columns)
        shape, rows = self.shapes[name], self.config.array.rows
        blocks = -(-shape[3] // rows)
        spans = tuple(slice(*span) for span in share)
        nodes, per_manager = self.config.pods, self.config.nodes_per_manager
        wanted = np.zeros((self.config.managers, blocks, *(end - begin for begin, end in share)), bool)
        if name in self._wanted:
            wanted |= self._wanted[name][:, :, *spans]
        found = []
        # Of outputs, what nobody loads may lie anywhere.
        rest = ~wanted.any(axis=0) if name in self.outputs else np.zeros(wanted.shape[1:], bool)
        places = [(wanted[m], range(m * per_manager, (m + 1) * per_manager)) for m in range(self.config.managers)]
        offset = [begin - by for (begin, _), by in zip(share, corner, strict=True)]
        for mask, where in (*places, (rest, range(nodes))):
            for block in range(blocks):
                for box in self._boxes(mask[block]):
                    moved = [(begin + by, end + by) for (begin, end), by in zip(box, offset, strict=True)]
                    found.append(SpillRequest(block, (moved[0], moved[1], moved[2]), where, seen))
        return tuple(found)

    def _boxes(self, mask: NDArray[np.bool_]) -> Iterator[Rect]:
        """Boxes that are all that is wanted; what is wanted of a row is taken from the first to the last column."""
        most = max(1, self.config.memory.x_words // _PARTS)
        for image, plane in enumerate(mask):
            rows = np.flatnonzero(plane.any(axis=1))
            if not len(rows):
                continue
            first, last = plane.argmax(axis=1), plane.shape[1] - plane[:, ::-1].argmax(axis=1)
            begin = rows[0]
            for row, after in zip(rows.tolist(), [*rows[1:].tolist(), -1], strict=True):
                wide = last[begin] - first[begin]
                alike = after == row + 1 and first[after] == first[begin] and last[after] == last[begin]
                if alike and (after + 1 - begin) * wide <= most:
                    continue
                for column in range(int(first[begin]), int(last[begin]), most):
                    edge = min(int(last[begin]), column + most)
                    yield (image, image + 1), (int(begin), row + 1), (column, edge)
                begin = after


def stored_inputs(graph_inputs: Mapping[str, Shape], network_inputs: Mapping[str, Shape]) -> tuple[str, ...]:
    """Inputs of a band that other segments have stored."""
    return tuple(name for name in graph_inputs if name not in network_inputs)
