"""A graph cut into epochs: what one computes, the next one finds in the P banks; weights stream through the W banks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from podweave.ir.graph import Graph
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig

from ..jobs import Place
from ..lower.boxes import positions
from ..lower.operation import lower_graph
from .bank_words import BankWords, EpochFullError
from .epoch_program import EpochProgram, Export, SpillRequest
from .epoch_scheduler import EpochScheduler, Progress
from .frontier import Frontier
from .loaded_bytes import loaded_bytes
from .loaded_words import Tensors
from .patches import Patches
from .policy import EASY, WHOLE_CHIP, BankPolicy
from .producers import Fragment, Producer
from .state import SchedulerState
from .table_slots import count_tables
from .work import Mapping as Way

_LATE = 500
"""Cycles that an epoch may wait for what more of operations takes to load: about what beginning another epoch costs."""
_LONGER, _LONG = 1.0, 10000
"""What an epoch that has to wait may take to load: a share of what all before it took, and cycles at most."""


def compile_epochs(
    graph: Graph,
    config: ChipConfig,
    policy: BankPolicy,
    *,
    tables: Mapping[str, int] | None = None,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[EpochProgram, ...]:
    """The programs of a graph on a chip, one per epoch, each with as many operations as fit.

    ``policy``: what an epoch may take. One operation that needs more by itself gets all there is, and its words can only be loaded
    when the epoch before is done with the space. For the rest see `compile_graph`.
    Raises `WorkloadError` for an operation that does not fit even so, with the limit and the excess.
    """
    return EpochCutter(graph, config, dict(tables or {}), partition, policy, progress).run(range(len(graph.operations)))


@dataclass
class KnownBand:
    """What others of the same segment do alike, so that they find what the first one had loaded: ``ways``, mappings by operation;
    ``weights``: operation, first pod and first column tile of gangs that have weights; ``regions``: first of the words of W banks
    that an operation has to itself."""

    ways: dict[str, Way] = field(default_factory=dict)
    weights: set[tuple[str, int, int]] = field(default_factory=set)
    regions: dict[str, int] = field(default_factory=dict)


class EpochCutter:
    """Cuts a graph into epochs, all of it or some operations at a time.

    ``exports``: by operation whose tensor operations on rows read, where it goes. ``spills``: by operation, what of its tensor must
    be stored; if there are any, inputs are loaded in strips. ``stored``: inputs that were stored. ``again``: behind the last epoch
    comes the first one again, with other inputs. ``known``: of another band of the same operations; empty for the first of several.
    ``fixed_tables``: as `TableSlots` takes them.

    Members
    -------
    storage : BankWords
        What the next epoch finds.
    first : bool
        Whether nothing hides what the next epoch loads.
    made : KnownBand
        Of operations that have been compiled.
    """

    def __init__(
        self,
        graph: Graph,
        config: ChipConfig,
        tables: dict[str, int],
        partition: int | None,
        policy: BankPolicy,
        progress: Progress | None,
        exports: Mapping[str, Export] | None = None,
        spills: Mapping[str, tuple[SpillRequest, ...]] | None = None,
        stored: Collection[str] = (),
        again: bool = False,
        known: KnownBand | None = None,
        fixed_tables: int = 0,
    ):
        self.again = again
        self.exports, self.spills, self.strips = {} if exports is None else exports, spills or {}, spills is not None
        self.known, self.made = known, KnownBand()
        self.graph, self.config, self.tables, self.partition, self.policy = graph, config, tables, partition, policy
        self.progress = progress
        self.lowered = lower_graph(graph, config, stored, spare_words=self.strips or policy.traffic > 1)
        self.storage = BankWords(config, count_tables(tables), fixed_tables)
        self.carried: dict[str, Producer] = {}
        self.first, self.done = True, 0
        self.loaded = self.ended = 0.0
        """About the cycles in which the last epoch is loaded, and over."""
        self.imported: set[str] = set()
        self.readers = Counter(source for operation in graph.operations for source in _read(operation))
        """How often operations that are left read each tensor, or add to its sums."""
        self.loaders = Counter(key for index in range(len(graph.operations)) for key in self._loaded(index))
        """How many operations that are left load words of tensors, as what is resident has them."""
        self.waiting = Counter(name for lowering in self.lowered for name in lowering.needs)
        """How many operations that are left need each tensor, or come after it."""
        self.previous: SchedulerState | None = None
        """The last epoch, if inputs that it left in X banks are read again."""

    def add(self, index: int, places: Sequence[Place]) -> None:
        """The sums of an operation on a single image are in P banks: each column tile from a place on, position by position.

        Those words are not the cutter's, and are not released.
        """
        operation, lowering = self.graph.operations[index], self.lowered[index]
        _, height, width, _ = operation.output
        box = ((0, 1), (0, height), (0, width))
        producer = Producer(index, operation, lowering, Patches((box[0],), (box[1],), (box[2],)))
        for tile, place in enumerate(places):
            producer.add(0, box, tile, Fragment(box, place, 0), 0)
        self.carried[operation.name] = producer.carried()
        self.imported.add(operation.name)

    def run(self, chosen: Sequence[int]) -> tuple[EpochProgram, ...]:
        """The programs of these operations, of all of which the others have been computed, and no inputs left in X banks."""
        programs: list[EpochProgram] = []
        graph = self.graph
        self.frontier = Frontier(self.lowered, self.graph, chosen)
        while self.frontier.left:
            state, program = self._longest()
            last = self.frontier.left == len(program.operations)
            if self.storage.turns and programs and last and not (program.external_units or program.resident):
                state, program = self._last(programs[0])
            programs.append(program)
            self.made.ways.update(state.chosen)
            self.made.regions.update((graph.operations[index].name, base) for index, (base, _) in state.regions.items())
            self.made.weights.update((graph.operations[index].name, base, tile) for index, base, tile in state.weight_words)
            self.first = False
            self.done += len(program.operations)
            self._pass_time(state)
            self.frontier.remove(program.operations)
            for index in program.operations:
                self.readers.subtract(_read(self.graph.operations[index]))
                self.loaders.subtract(self._loaded(index))
                self.waiting.subtract(self.lowered[index].needs)
            self.previous = state if self._inputs_again(state) else None
            self.storage = state.storage.next_epoch(inputs=self.previous is not None)
            self.carried = self._kept(state)
        self.previous, self.storage = None, self.storage.next_epoch()
        return tuple(programs)

    def _longest(self) -> tuple[SchedulerState, EpochProgram]:
        """The epoch with the most operations that fit."""
        for policy in (self.policy.first, self.policy) if self.first else (self.policy,):
            state = self._begin(policy)
            program = EpochScheduler(state).run_longest(self.frontier, self._show, self._most_bytes())
            if program is not None:
                return state, program
        return self._alone()

    def _most_bytes(self) -> float | None:
        """What can be loaded until the epoch before is over, and a little later, if the memory is what a run waits for; while it
        is behind all the same, epochs become longer and longer."""
        if self.config.prefetch is None or self.policy.traffic <= 1:
            return None
        cycles = max(self.ended - self.loaded + _LATE, min(_LONGER * self.loaded, _LONG))
        return cycles * self._bytes_per_cycle

    @property
    def _bytes_per_cycle(self) -> float:
        return self.config.managers * (self.config.host_bits // 8) / self.policy.traffic

    def _pass_time(self, state: SchedulerState) -> None:
        """An epoch is loaded, and computed."""
        if self.config.prefetch is not None:
            self.loaded += loaded_bytes(state) / self._bytes_per_cycle
            self.ended = max(self.loaded, self.ended) + float(state.free.max())

    def _last(self, first: EpochProgram) -> tuple[SchedulerState, EpochProgram]:
        """The last epoch, or the first half of it.

        What comes behind it begins with inputs around word 0, downwards: they come beside an epoch that is above. If the same
        operations follow, the last epoch has no more of them than leave the parts of those inputs alone.
        """
        left, starts = self.frontier.left, self.storage.x_starts
        self.storage.x_starts = [0] * len(starts)
        whole, part = self.storage, self.storage.x_part
        room = min((unit.place.base for unit in first.external_units), default=0) // part * part
        if not self.again or not room:
            return self._longest()
        self.storage = whole.copied()
        self.storage.limits["x"] = room
        state = self._begin(self.policy)
        program = EpochScheduler(state).run_longest(self.frontier, self._show)
        if program is not None and len(program.operations) == left:
            return state, program
        self.storage = whole
        if left == 1:
            return self._longest()
        whole.x_starts = starts
        state = self._begin(self.policy)
        return state, EpochScheduler(state).run(self.frontier, -(-left // 2), self._show)

    def _alone(self) -> tuple[SchedulerState, EpochProgram]:
        """An epoch of one operation, which may take all; if that is not enough, with mappings that spare the banks."""
        for policy in (EASY, WHOLE_CHIP):
            state = self._begin(policy)
            try:
                return state, EpochScheduler(state).run(self.frontier, 1, self._show)
            except EpochFullError:
                continue
        self.previous = None
        self.storage = self.storage.restarted()
        state = self._begin(WHOLE_CHIP)
        return state, EpochScheduler(state).run(self.frontier, 1, self._show)

    def _begin(self, policy: BankPolicy) -> SchedulerState:
        inputs = {}
        if self.previous:
            inputs = {key: set(known) for key, known in self.previous.mappings.items() if key[0] in self.graph.inputs}
        return SchedulerState(
            self.graph,
            self.config,
            self.lowered,
            self.tables,
            self.partition,
            policy,
            self.storage.limited(policy.bank_share),
            producers=dict(self.carried),
            resident=dict(self.previous.resident) if self.previous else {},
            mappings=inputs,
            exports=self.exports,
            spills=self.spills,
            strips=self.strips,
            known=self.known.ways if self.known else {},
            known_weights=self.known.weights if self.known else None,
            known_regions=self.known.regions if self.known else {},
        )

    def _show(self, done: int, _: int) -> None:
        if self.progress:
            self.progress(self.done + done, len(self.graph.operations))

    def _inputs_again(self, state: SchedulerState) -> bool:
        """Whether operations that are left read what is in the X banks."""
        return any(self.loaders[words.tensors] > 0 for words in state.resident)

    def _loaded(self, index: int) -> set[Tensors]:
        """Of inputs that an operation reads, tensors and channels, as what is resident has them."""
        found: set[Tensors] = set()
        for operand, lowered in zip(self.graph.operations[index].operands, self.lowered[index].operands, strict=True):
            for unit in lowered.units:
                if unit.is_stored:
                    found.add(((unit.source,), unit.block[1]))
                elif not unit.is_computed:
                    found.add((operand.sources, operand.channels))
        return found

    def _kept(self, state: SchedulerState) -> dict[str, Producer]:
        """Producers for the next epoch; what no operation that is left reads gives its words back."""
        kept = {}
        # Words of sums to which others have added are theirs.
        passed = {self.graph.operations[index].adds_to for index in state.scheduled}
        for name, producer in state.producers.items():
            after = producer.carried()
            if name in passed:
                # Others may come after it.
                after.fragments.clear()
            elif self.readers[name] <= 0 and name not in self.imported:
                for fragments in after.fragments.values():
                    for fragment in fragments:
                        self.storage.release(fragment.place, positions(fragment.box))
                after.fragments.clear()
            if self.waiting[name] > 0:
                kept[name] = after
        return kept


def _read(operation: Linear) -> tuple[str, ...]:
    """What an operation reads, in X banks or as sums to which it adds."""
    return (*operation.sources, operation.adds_to) if operation.adds_to else operation.sources
