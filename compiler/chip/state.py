"""All that is decided while an epoch is scheduled: the one state that mapping, gangs and copies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import bits

from ..lower.operation import LoweredOperation
from .arrivals import Arrivals
from .bank_words import BankWords
from .epoch_program import (
    ConstantSet,
    EpochProgram,
    Export,
    Exported,
    ExternalUnit,
    ParameterSet,
    Spilled,
    SpillRequest,
    Stored,
    WeightTile,
)
from .job_tables import JobTables
from .loaded_words import Words
from .policy import BankPolicy
from .producers import Producer
from .reservations import Timeline
from .work import Mapping as Way

_LISTS = ("weights", "external_units", "parameters", "stored", "exported", "spilled", "scheduled", "reserved", "sent")
_TABLES = ("producers", "weight_words", "sets", "chosen", "regions")
"""Nothing in these is changed once it is there."""


@dataclass(frozen=True)
class Mark:
    """A moment to which a `SchedulerState` can go back: copies of what changes, and lengths of what only grows."""

    kept: dict[str, Any]
    lengths: dict[str, int]
    book: tuple[tuple[int, ...], int, dict[str, list[int]]]


@dataclass
class SchedulerState:
    """What epochs have in common, what an epoch found, and what it has decided so far.

    Parameters
    ----------
    graph, config, lowered, tables, partition
        The same in every epoch. ``tables``: which activation table each operation uses. ``partition``: words that a pod streams per
        weight tile (0: as many as fit); None: chosen per operation.
    policy : BankPolicy
        What the epoch may take.
    storage : BankWords
        Words that are free, to be taken.
    producers : dict
        Operations that have been scheduled, those of earlier epochs among them, with what of them is in P banks.
    resident : dict
        External inputs that are in X banks, by what they are.
    exports : dict
        By operation whose tensor operations on rows read, where it goes.
    spills : dict
        By operation, what of its tensor must be stored for other epochs.
    strips : bool
        Inputs are loaded for several patches at a time (`compiler.chip.strips`).
    known, chosen : dict
        By operation, the mapping of the same one over other positions, to be taken again; and the one that was taken.
    known_weights : set, optional
        Operation, first pod and first column tile of gangs that had weights there over other positions; None: there are no others.
    known_regions : dict
        By operation whose weights had words of their own over other positions, the first of those.
    regions : dict
        By operation whose weights have words of their own, the same in all W banks: the first, and how many there are for each
        round of column tiles.

    Members
    -------
    book
        Jobs. ``weights``, ``external_units``, ``parameters``, ``stored``: what else a program says.
    free, swapped : ndarray of int64, shape (pods,)
        The first cycle in which each pod may stream, and from when on weights for its next step may be requested.
    places : dict
        Where activations were sent to, and from when on their words may be read.
    p_ports, wires
        Reservations of the read port of each P bank, and of the wires of each plane of the Y network: of each wire, one for the
        cycles of each phase of `ChipConfig.post_beats`.
    reserved, sent : list
        Reservations since the first `mark`, and all lists of ``places`` that have grown, in order.
    mappings : dict
        Mappings with which a tensor has been read under a kernel and stride.
    """

    graph: Graph
    config: ChipConfig
    lowered: tuple[LoweredOperation, ...]
    tables: Mapping[str, int]
    partition: int | None
    policy: BankPolicy
    storage: BankWords
    producers: dict[str, Producer] = field(default_factory=dict)
    resident: dict[Words, tuple[ExternalUnit, ...]] = field(default_factory=dict)
    mappings: dict[tuple, set[tuple[Any, tuple[str, ...]]]] = field(default_factory=dict)
    exports: Mapping[str, Export] = field(default_factory=dict)
    spills: Mapping[str, tuple[SpillRequest, ...]] = field(default_factory=dict)
    strips: bool = False
    known: Mapping[str, Way] = field(default_factory=dict)
    chosen: dict[str, Way] = field(default_factory=dict)
    known_weights: Set[tuple[str, int, int]] | None = None
    known_regions: Mapping[str, int] = field(default_factory=dict)
    regions: dict[int, tuple[int, int]] = field(default_factory=dict)
    places: dict[tuple, list[Arrivals]] = field(default_factory=dict)
    weight_words: dict[tuple[int, int, int], NDArray[np.int64]] = field(default_factory=dict)
    sets: dict[tuple[str, int, int, int], int] = field(default_factory=dict)
    promised_sets: set[tuple[str, int, int, int]] = field(default_factory=set)
    weights: list[WeightTile] = field(default_factory=list)
    external_units: list[ExternalUnit] = field(default_factory=list)
    parameters: list[ParameterSet | ConstantSet] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    exported: list[Exported] = field(default_factory=list)
    spilled: list[Spilled] = field(default_factory=list)
    scheduled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        pods, planes = self.config.pods, self.config.memory.y_planes
        self.book = JobTables(self.config, self.policy)
        self.outputs = frozenset(self.graph.outputs) - self.spills.keys()
        self.free: NDArray[np.int64] = np.zeros(pods, np.int64)
        self.swapped: NDArray[np.int64] = np.zeros(pods, np.int64)
        self.p_ports = [Timeline() for _ in range(pods)]
        stages = bits(pods)
        phases = range(self.config.post_beats)
        self.wires = [[[Timeline() for _ in phases] for _ in range((stages + 1) * pods)] for _ in range(planes)]
        # The write port of a bank is one for all planes.
        for plane in self.wires[1:]:
            plane[stages * pods :] = self.wires[0][stages * pods :]
        self.marked = False
        self.reserved: list[tuple[Sequence[Timeline], int, int]] = []
        self.sent: list[list[Arrivals]] = []
        self._found = tuple(self.producers.values())
        self._resident = tuple(item for items in self.resident.values() for item in items)

    def reserve(self, lines: Sequence[Timeline], time: int, length: int) -> None:
        """Take ``length`` cycles from ``time`` on, which must be free, of all ``lines``."""
        for line in lines:
            line.add(time, length)
        if self.marked:
            self.reserved.append((lines, time, length))

    def table(self, operation: Linear) -> int | None:
        """The slot of the post-processors that has the activation table of an operation in this epoch; None: it has none. Raises
        `EpochFullError` if all slots have others."""
        number = self.tables.get(operation.name)
        return None if number is None else self.storage.take_table(number, operation)

    def mark(self) -> Mark:
        """Now: what is decided later can be forgotten."""
        self.marked = True
        kept = {
            "storage": self.storage.copied(),
            "resident": dict(self.resident),
            "mappings": {key: set(known) for key, known in self.mappings.items()},
            "promised_sets": set(self.promised_sets),
            "free": self.free.copy(),
            "swapped": self.swapped.copy(),
        }
        return Mark(kept, {name: len(getattr(self, name)) for name in (*_LISTS, *_TABLES)}, self.book.mark())

    def back_to(self, mark: Mark) -> None:
        """Forget all that was decided since; a mark can be gone back to once."""
        for lines, time, length in reversed(self.reserved[mark.lengths["reserved"] :]):
            for line in lines:
                line.remove(time, length)
        for known in self.sent[mark.lengths["sent"] :]:
            known.pop()
        for name in _LISTS:
            del getattr(self, name)[mark.lengths[name] :]
        for name in _TABLES:
            table = getattr(self, name)
            while len(table) > mark.lengths[name]:
                table.popitem()
        for name, value in mark.kept.items():
            setattr(self, name, value)
        self.book.back_to(mark.book)

    def program(self) -> EpochProgram:
        """What has been scheduled; raises `EpochFullError` if there are more jobs than the stores hold."""
        loads, streams, posts = self.book.tables()
        scheduled = [self.producers[self.graph.operations[index].name] for index in self.scheduled]
        return EpochProgram(
            config=self.config,
            graph=self.graph,
            lowered=self.lowered,
            loads=loads,
            streams=streams,
            posts=posts,
            operation_of_stream=streams.pop("operation"),
            operation_of_post=posts.pop("operation"),
            external_units=tuple(self.external_units),
            weights=tuple(self.weights),
            parameters=tuple(self.parameters),
            accumulated=tuple(item for producer in scheduled for item in producer.accumulated()),
            stored=tuple(self.stored),
            used=self.storage.used(),
            operations=tuple(self.scheduled),
            carried=tuple(item for producer in self._found for item in producer.accumulated()),
            resident=self._resident,
            exported=tuple(self.exported),
            spilled=tuple(self.spilled),
            tables=self.storage.tables.in_use,
        )
