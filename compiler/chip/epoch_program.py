"""Programs of a chip: jobs of every pod and post-processor, what is loaded before, and where results lie after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.operations import AS_IT_IS, Linear, Upsampling
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import Field

from ..jobs import EpochJobs, Jobs, Place
from ..lower.boxes import Rect
from ..lower.layer import Region, Step, Unit
from ..lower.operation import LoweredOperation
from .tile_jobs import single_loads, single_streams


@dataclass(frozen=True)
class ExternalUnit:
    """Words of an input that are loaded into an X bank: a unit of an operand over a region of padded input."""

    operation: int
    operand: int
    unit: int
    region: Region
    place: Place


@dataclass(frozen=True)
class WeightTile:
    """A weight tile that is loaded into a W bank; ``step`` of ``tile`` of an operand."""

    operation: int
    operand: int
    tile: int
    step: Step
    place: Place


@dataclass(frozen=True)
class ParameterSet:
    """Bias, multiplier and shift of a column tile, in a set of the post-processor of ``bank``.

    ``positions``: of the windows that it scales, if they leave pads out and are at the border; else 0.
    """

    operation: int
    tile: int
    bank: int
    index: int
    positions: int = 0


@dataclass(frozen=True)
class ConstantSet:
    """A set with which a post-processor makes ``value`` of a partial sum of 0: padding is written from the zero word."""

    value: int
    bank: int
    index: int


@dataclass(frozen=True)
class Accumulated:
    """Where the accumulators of a column tile lie in a P bank, for a box of positions (before any reduction)."""

    operation: int
    tile: int
    box: Rect
    place: Place


@dataclass(frozen=True)
class Stored:
    """Where an int8 output lies in an X bank: one lane slot of a tile, for a box of output positions, row by row."""

    operation: int
    tile: int
    slice: int
    box: Rect
    place: Place
    slot: int


@dataclass(frozen=True)
class SpillRequest:
    """What must be stored of an operation's outputs: a block of channels of a tensor, as words of activations, over a box of
    positions, in an X bank of one of ``nodes``. ``seen``: how; block and box are those of the tensor as it is seen."""

    block: int
    box: Rect
    nodes: range
    seen: Upsampling = AS_IT_IS


@dataclass(frozen=True)
class Spilled:
    """Where words of a request lie in an X bank, position by position, for a box of them."""

    operation: int
    block: int
    box: Rect
    place: Place
    seen: Upsampling = AS_IT_IS


@dataclass(frozen=True)
class Export:
    """Where operations on rows read ``tensor``, or the channels of it that an operation gives: a place for each column tile."""

    tensor: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Exported:
    """A column tile of an int8 tensor in an X bank, for operations on rows: all its lanes, position by position."""

    operation: int
    tile: int
    place: Place
    words: int
    tensor: str


@dataclass(frozen=True)
class EpochProgram(EpochJobs):
    """One epoch of a graph compiled for a chip: all of it, or some of its operations.

    ``operations``: indices of those that it computes. ``carried``: accumulators of earlier epochs that are in the P banks when it
    begins; before the first one, the last word of every P bank is 0. ``resident``: inputs that an earlier epoch left in X banks.
    ``exported``: what it leaves in X banks for operations on rows. ``spilled``: what it leaves there to be stored, for epochs that
    load it again. ``corners``: of a graph that is a band of the network, by tensor, the image, row and column of the network's
    tensor at which it begins; ``segment``: which part of its operations it has. ``tables``: by slot of the post-processors, the
    number of the activation table that is there.

    ``loads``, ``streams``: one array per field of the job layouts and ``pod``; ``posts``: likewise, and ``bank``; each sorted by
    pod (bank) and start. ``operation_of_stream``, ``operation_of_post``: index into ``graph.operations``.
    """

    config: ChipConfig
    graph: Graph
    lowered: tuple[LoweredOperation, ...]
    loads: Jobs
    streams: Jobs
    posts: Jobs
    operation_of_stream: NDArray[np.int64]
    operation_of_post: NDArray[np.int64]
    external_units: tuple[ExternalUnit, ...]
    weights: tuple[WeightTile, ...]
    parameters: tuple[ParameterSet | ConstantSet, ...]
    accumulated: tuple[Accumulated, ...]
    stored: tuple[Stored, ...]
    used: dict[str, int]
    operations: tuple[int, ...] = ()
    carried: tuple[Accumulated, ...] = ()
    resident: tuple[ExternalUnit, ...] = ()
    exported: tuple[Exported, ...] = ()
    spilled: tuple[Spilled, ...] = ()
    corners: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    segment: int = 0
    tables: Mapping[int, int] = field(default_factory=dict)

    def operation(self, index: int) -> Linear:
        return self.graph.operations[index]

    def unit(self, item: ExternalUnit) -> Unit:
        return self.lowered[item.operation].operands[item.operand].units[item.unit]

    def tile_by_tile(self) -> EpochProgram:
        """The same with a job for each tile of loads and streams: what hardware does, if not what its stores hold."""
        loads, _ = single_loads(self.loads)
        streams, job = single_streams(self.streams)
        return replace(self, loads=loads, streams=streams, operation_of_stream=self.operation_of_stream[job])


def job_fields(config: ChipConfig) -> dict[str, tuple[Field, ...]]:
    return {
        "loads": load_job_layout(config).fields,
        "streams": stream_job_layout(config).fields,
        "posts": post_job_layout(config).fields,
    }
