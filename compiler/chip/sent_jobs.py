"""How many jobs send an operation what it reads: one for each piece of what computed it, of which a patch needs some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .operation_plan import OperationPlan
from .patches import Patches
from .producers import Producer
from .state import SchedulerState

_Edges = NDArray[np.int64]


@dataclass(frozen=True)
class _Axis:
    """Rows or columns of a tensor as an operation reads it.

    ``edges``: where its pieces begin. ``window``: kernel and stride. ``stride``, ``reach``: from sum to sum, and how far beyond the
    first step of a sum the last one reads. ``first``, ``size``: of the tensor's, those that are read, from which on padding counts
    down to ``before``. ``seen``: as how many each is seen.
    """

    edges: _Edges
    window: tuple[int, int]
    stride: int
    reach: int
    before: int
    first: int
    size: int
    seen: int

    def pieces(self, parts: Sequence[tuple[int, int]]) -> int:
        """Pieces of which some is read, of all (origin, length) of outputs together."""
        origin, length = np.array(parts).T
        (kernel, apart), by = self.window, self.first - self.before
        begin = origin * apart * self.stride + by
        end = ((origin + length - 1) * apart + kernel - 1) * self.stride + self.reach + 1 + by
        begin, end = np.maximum(begin, self.first), np.minimum(end, self.first + self.size)
        first, last = (np.searchsorted(self.edges, position // self.seen, "right") for position in (begin, end - 1))
        return int((last - first + 1)[end > begin].sum())


@dataclass(frozen=True)
class _Reading:
    """What an operation reads of a computed tensor. ``jobs``: for a piece of an image that a patch needs."""

    rows: _Axis
    columns: _Axis
    jobs: int


class SentJobs:
    """Of an operation that is to be scheduled, jobs that send what it reads."""

    def __init__(self, state: SchedulerState, plan: OperationPlan):
        self._lanes = state.config.post_lanes
        self._readings = list(self._read(state, plan))

    def of(self, patches: Patches) -> int:
        """Jobs for all patches, each sent to once."""
        images = sum(length for _, length in patches.images)
        return images * sum(
            each.jobs * each.rows.pieces(patches.rows) * each.columns.pieces(patches.columns) for each in self._readings
        )

    def _read(self, state: SchedulerState, plan: OperationPlan) -> Iterator[_Reading]:
        window = plan.operation.window
        kernel, apart = (window.kernel, window.stride) if window else ((1, 1), (1, 1))
        for number, (operand, lowered) in enumerate(zip(plan.operation.operands, plan.lowering.operands, strict=True)):
            for source in operand.sources:
                units = [at for at, unit in enumerate(lowered.units) if unit.is_computed and unit.source == source]
                reached = [plan.reach[number][at] for at in units if at in plan.reach[number]]
                if not reached:
                    continue
                seen, stride, corner, layer = (
                    operand.upsampling(source),
                    lowered.stride(units[0]),
                    operand.corner(source),
                    operand.layer,
                )
                edges = _edges(state.producers[source])
                rows, columns = (
                    _Axis(
                        edges[axis],
                        (kernel[axis], apart[axis]),
                        stride[axis],
                        max(each[axis] for each in reached),
                        layer.padding[axis][0],
                        corner[axis],
                        (layer.height, layer.width)[axis],
                        (seen.rows, seen.columns)[axis],
                    )
                    for axis in range(2)
                )
                jobs = -(-seen.of(state.producers[source].operation.output)[3] // self._lanes)
                yield _Reading(rows, columns, jobs * seen.positions)


def _edges(producer: Producer) -> tuple[_Edges, _Edges]:
    """Rows and columns at which pieces of an operation's sums begin, from which windows are reduced as whole patches."""
    patches = producer.patches
    found = [{origin for origin, _ in axis} for axis in (patches.rows, patches.columns)]
    if producer.operation.window is None:
        for fragments in producer.fragments.values():
            for fragment in fragments:
                for axis, (origin, _) in zip(found, fragment.box[1:], strict=True):
                    axis.add(origin)
    rows, columns = (np.array(sorted(axis), np.int64) for axis in found)
    return rows, columns
