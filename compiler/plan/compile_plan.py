"""A network that does not fit, as segments of operations and bands of positions: their epochs one after the other.

What is between segments lies in memory. A segment's bands are graphs of their own, which begin with empty X and P banks; where a
tensor is stored follows from where it will be loaded, so that segments are compiled from the last to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.rewrites import with_copies_to_upsample
from podweave.spec.config import ChipConfig

from ..chip.bank_words import EpochFullError
from ..chip.epoch_cutter import EpochCutter, KnownBand, compile_epochs
from ..chip.epoch_program import EpochProgram, SpillRequest
from ..chip.policy import BankPolicy
from .bands import Band, Segment, band
from .demands import Demands, stored_inputs
from .segments import Planner

Progress = Callable[[int, int, str], None]
"""Operations that are done, of how many, and what is done at the moment."""
_MOST_TRIES = 200
"""Plans that are tried."""
_UNEVEN = 1.75
"""Words of the fullest W bank for one on average."""


def compile_cut(
    graph: Graph,
    config: ChipConfig,
    policy: BankPolicy,
    *,
    cut: int = 0,
    tables: Mapping[str, int] | None = None,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[EpochProgram, ...]:
    """The programs of a graph on a chip, one per epoch: as `compile_epochs` has them if it fits, or cut so that each does.

    What is cut is `with_copies_to_upsample` of the graph. ``cut``: into segments of at most so many operations, or as many as must
    stand together, whether it fits or not; 0: only if it does not. For the rest see
    `compile_epochs`. Raises `WorkloadError` if no plan fits, with what did not fit of the last one.
    """
    show = progress or (lambda *_: None)
    if not cut:
        try:
            whole: dict[str, Any] = {
                "tables": tables,
                "partition": partition,
                "progress": lambda done, count: show(done, count, ""),
            }
            return compile_epochs(graph, config, policy, **whole)
        except EpochFullError:
            pass
    # What memory has is read as it is, by copies in the segments of their readers.
    planner = Planner(_with_copies(graph, config), config, cut)
    _require_tiles_fit(planner)
    return _Compilation(planner, policy, dict(tables or {}), partition, show).run()


def as_it_runs(graph: Graph, programs: Sequence[EpochProgram]) -> Graph:
    """The graph that programs of `compile_cut` compute."""
    return _with_copies(graph, programs[0].config) if any(program.corners for program in programs) else graph


def _with_copies(graph: Graph, config: ChipConfig) -> Graph:
    return with_copies_to_upsample(graph, min(config.array.rows, config.array.cols))


def _require_tiles_fit(planner: Planner) -> None:
    """Raises `WorkloadError` for a column tile whose weights no W banks hold: they are the least that an epoch needs."""
    room = planner.config.memory.w_words * planner.config.memory.banks
    for operation, steps in zip(planner.operations, planner.steps, strict=True):
        if (words := steps * planner.rows) > room:
            raise WorkloadError(
                f"{operation.name}: a column tile has {words:,} words of weights, {words - room:,} more than all W banks of "
                f"{planner.config.name} hold ({room:,})"
            )


class _RefusedError(Exception):
    """A band does not fit, for a ``reason``: the operation ``at`` does not, behind those before it."""

    def __init__(self, reason: EpochFullError, at: int):
        super().__init__(str(reason))
        self.reason, self.at = reason, at


class _Compilation:
    def __init__(
        self,
        planner: Planner,
        policy: BankPolicy,
        tables: dict[str, int],
        partition: int | None,
        progress: Progress,
    ):
        self.planner, self.policy, self.tables, self.partition = planner, policy, tables, partition
        self.graph, self.config, self.shapes = planner.graph, planner.config, planner.shapes
        self.progress = progress
        self.done, self.now = 0, ""
        """Operations of segments that are done, and what is compiled."""
        self.number = {operation.name: index for index, operation in enumerate(self.graph.operations)}
        self._behind: list[tuple[tuple[Segment, bool], tuple[EpochProgram, ...], Demands]] = []
        """From the last one on, segments and whether they are the first of the network, their programs, and what they load and all
        behind them."""
        self._made: dict[tuple, tuple[tuple[EpochProgram, ...], KnownBand]] = {}
        """Programs of bands that are alike."""
        self.known: KnownBand | None = None
        """The first band of the segment that was compiled: others find their weights where that one has them."""
        self.turns = False
        """Whether every second band goes over its operations in the opposite order."""

    def run(self) -> tuple[EpochProgram, ...]:
        refused: WorkloadError | None = None
        for tried in range(_MOST_TRIES):
            self.done, self.now = 0, f"plan {tried + 1}"
            self._show(0)
            plan = self.planner.plan()
            if plan is None:
                break
            for behind, segment in enumerate(reversed(plan)):
                number = len(plan) - 1 - behind
                self.now = f"plan {tried + 1}, segment {number + 1} of {len(plan)}"
                try:
                    self._compile(segment, behind, is_first=number == 0)
                except _RefusedError as error:
                    refused = error.reason
                    self.planner.refuse(segment, error.at)
                    break
                self.done += segment.end - segment.begin
            else:
                of_segments = [programs for _, programs, _ in self._behind[: len(plan)][::-1]]
                return tuple(replace(each, segment=number) for number, programs in enumerate(of_segments) for each in programs)
        if refused:
            raise refused
        raise WorkloadError(f"{self.graph.name}: no operation of it fits {self.config.name}, in whatever bands")

    def _share(self, segment: Segment) -> float:
        """Of W banks, what bands take before the next segment begins; half, if its words go around the banks."""
        share = _UNEVEN * self.planner.weights(segment) / self.planner.all_w_words
        return share if share <= 1 else 0.5

    def _show(self, done: int, _: int = 0) -> None:
        """So many operations of a band are compiled."""
        self.progress(self.done + done, len(self.graph.operations), self.now)

    def _compile(self, segment: Segment, behind: int, *, is_first: bool) -> None:
        """Compile a segment that has so many behind it, unless it has been, before the same ones; those were compiled the last."""
        if behind < len(self._behind) and self._behind[behind][0] == (segment, is_first):
            return
        del self._behind[behind:]
        demands = self._behind[-1][2].copied() if behind else self._demands()
        # From the last one on, in the middle: those that are there already stay as they are if others before them change.
        later = [each for (each, _), *_ in self._behind]
        begin = (0.5 - sum(map(self._share, [*later, segment][1:]))) % 1
        programs = self._segment(segment, begin, is_first, demands)
        self._behind.append(((segment, is_first), programs, demands))

    def _demands(self) -> Demands:
        return Demands(self.planner.stored_shapes, self.config, self.graph.outputs, self.planner.views)

    def _segment(self, segment: Segment, begin: float, is_first: bool, demands: Demands) -> tuple[EpochProgram, ...]:
        """The epochs of a segment, band after band; adds what they load to the demands.

        ``begin``: the share of W banks and parameter sets behind which bands begin, so that they find their weights where the one
        before had them, and those of the next segment can come beside.
        """
        operations = self.planner.reading(segment.begin, segment.end)
        shapes = self.planner.stored_shapes | {operation.name: operation.output for operation in operations}
        leaving = self.planner.leaving(segment.begin, segment.end)
        found: list[EpochProgram] = []
        self.known, self.turns = KnownBand() if len(segment.grid) > 1 else None, False
        segment_now = self.now
        for at, place in enumerate(segment.grid):
            self.now = f"{segment_now}, band {at + 1} of {len(segment.grid)}"
            shares = {name: share for name in leaving if (share := segment.grid.share(self.shapes[name], place))}
            if shares:
                part = band(self.graph.name, operations, shapes, shares)
                found += self._band(part, begin, demands, first=is_first and at == 0, turned=at % 2 == 1 and self.turns)
        demands.add(*found)
        return tuple(found)

    def _band(self, part: Band, begin: float, demands: Demands, *, first: bool, turned: bool) -> tuple[EpochProgram, ...]:
        spills = {name: demands.requests(name, share, part.corners[name]) for name, share in part.shares.items()}
        again = self.known is not None
        key = (part.graph.operations, tuple(part.graph.inputs.items()), tuple(sorted(spills.items())), begin, first, again, turned)
        self._show(0)
        if key not in self._made:
            self._made[key] = self._compiled(part.graph, spills, begin, first=first, turned=turned)
        programs, made = self._made[key]
        if self.known is not None and not self.known.ways:
            self.known, self.turns = made, _may_turn(part.graph, programs, made)
        return tuple(replace(program, corners=part.corners) for program in programs)

    def _compiled(
        self, graph: Graph, spills: Mapping[str, tuple[SpillRequest, ...]], begin: float, *, first: bool, turned: bool
    ) -> tuple[tuple[EpochProgram, ...], KnownBand]:
        stored = stored_inputs(graph.inputs, self.graph.inputs)
        for known in (None,) if self.known is None else (self.known, None):
            way: dict[str, Any] = {"spills": spills, "stored": stored, "known": known, "again": self.known is not None}
            cutter = EpochCutter(graph, self.config, self.tables, self.partition, self.policy, self._show, **way)
            cutter.first = first
            for kind, starts in cutter.storage.starts.items():
                starts[:] = [int(begin * cutter.storage.depths[kind])] * len(starts)
            try:
                programs = cutter.run(range(len(graph.operations))[:: -1 if turned else 1])
            except EpochFullError as error:
                name = graph.operations[cutter.frontier.first].name
                refused = _RefusedError(error, self.number[name])
                continue
            return programs, cutter.made
        raise refused from refused.reason


def _may_turn(graph: Graph, programs: Sequence[EpochProgram], made: KnownBand) -> bool:
    """Whether the next band should go over operations from the last one on: it finds the last weights, which are more than there is
    room for, if each is an epoch by itself whose weights have words of their own."""
    names = {operation.name for operation in graph.operations}
    depend = any(names & {*operation.sources, *operation.after, operation.adds_to} for operation in graph.operations)
    alone = all(len(program.operations) == 1 for program in programs)
    return not depend and alone and len(set(made.regions.values())) < len(made.regions) == len(names)
