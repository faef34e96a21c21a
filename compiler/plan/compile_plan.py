"""A network that does not fit, as segments of operations and bands of positions: their epochs one after the other.

What is between segments lies in memory. A segment's bands are graphs of their own, which begin with empty X and P banks; where a
tensor is stored follows from where it will be loaded, so that segments are compiled from the last to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.rewrites import with_copies_to_upsample
from podweave.spec.config import ChipConfig

from ..chip.bank_words import EpochFullError
from ..chip.epoch_cutter import EpochCutter, compile_epochs
from ..chip.epoch_program import EpochProgram, SpillRequest
from ..chip.policy import BankPolicy
from .bands import Band, band
from .demands import Demands, stored_inputs
from .segments import Planner, Segment

Progress = Callable[[int, int], None]
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
    if not cut:
        try:
            return compile_epochs(graph, config, policy, tables=tables, partition=partition, progress=progress)
        except EpochFullError:
            pass
    # What memory has is read as it is, by copies in the segments of their readers.
    planner = Planner(with_copies_to_upsample(graph), config, cut)
    _require_tiles_fit(planner)
    return _Compilation(planner, policy, dict(tables or {}), partition, progress).run()


def as_it_runs(graph: Graph, programs: Sequence[EpochProgram]) -> Graph:
    """The graph that programs of `compile_cut` compute."""
    return with_copies_to_upsample(graph) if any(program.corners for program in programs) else graph


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
        progress: Progress | None,
    ):
        self.planner, self.policy, self.tables, self.partition = planner, policy, tables, partition
        self.graph, self.config, self.shapes = planner.graph, planner.config, planner.shapes
        self.progress = progress or (lambda *_: None)
        self.number = {operation.name: index for index, operation in enumerate(self.graph.operations)}
        self._made: dict[tuple, tuple[EpochProgram, ...]] = {}
        """Programs of bands that are alike."""

    def run(self) -> tuple[EpochProgram, ...]:
        refused: WorkloadError | None = None
        for _ in range(_MOST_TRIES):
            plan = self.planner.plan()
            if plan is None:
                break
            done = 0
            demands = Demands(self.shapes, self.config, self.graph.outputs)
            programs: list[tuple[EpochProgram, ...]] = []
            begin = 0.5
            for number, segment in reversed(list(enumerate(plan))):
                # From the end: those that are there already stay as they are if others before them change.
                if segment is not plan[-1]:
                    begin = (begin - self._share(segment)) % 1
                try:
                    programs.append(self._segment(segment, number, begin, demands, done))
                except _RefusedError as error:
                    refused = error.reason
                    self.planner.refuse(segment, error.at)
                    break
                done += segment.end - segment.begin
            else:
                return tuple(program for of_segment in reversed(programs) for program in of_segment)
        if refused:
            raise refused
        raise WorkloadError(f"{self.graph.name}: no operation of it fits {self.config.name}, in whatever bands")

    def _share(self, segment: Segment) -> float:
        """Of W banks, what bands take before the next segment begins; half, if its words go around the banks."""
        share = _UNEVEN * self.planner.weights(segment) / self.planner.all_w_words
        return share if share <= 1 else 0.5

    def _segment(self, segment: Segment, number: int, begin: float, demands: Demands, done: int) -> tuple[EpochProgram, ...]:
        """The epochs of a segment, band after band; adds what they load to the demands.

        ``begin``: the share of W banks and parameter sets behind which bands begin, so that they find their weights where the one
        before had them, and those of the next segment can come beside.
        """
        operations = self.graph.operations[segment.begin : segment.end]
        leaving = self.planner.leaving(segment.begin, segment.end)
        found: list[EpochProgram] = []
        for at, place in enumerate(segment.grid):
            shares = {name: share for name in leaving if (share := segment.grid.share(self.shapes[name], place))}
            if shares:
                part = band(self.graph.name, operations, self.shapes, shares)
                found += self._band(part, begin, number == at == 0, len(segment.grid) > 1, demands)
            self.progress(done + len(operations) * (at + 1) // len(segment.grid), len(self.graph.operations))
        for program in found:
            demands.add(program)
        return tuple(replace(program, segment=number) for program in found)

    def _band(self, part: Band, begin: float, first: bool, again: bool, demands: Demands) -> tuple[EpochProgram, ...]:
        spills = {name: demands.requests(name, share, part.corners[name]) for name, share in part.shares.items()}
        key = (part.graph.operations, tuple(part.graph.inputs.items()), tuple(sorted(spills.items())), begin, first, again)
        if key not in self._made:
            self._made[key] = self._compiled(part.graph, spills, begin, first, again)
        return tuple(replace(program, corners=part.corners) for program in self._made[key])

    def _compiled(
        self, graph: Graph, spills: Mapping[str, tuple[SpillRequest, ...]], begin: float, first: bool, again: bool
    ) -> tuple[EpochProgram, ...]:
        stored = stored_inputs(graph.inputs, self.graph.inputs)
        own = (graph, self.config, self.tables, self.partition, self.policy, None)
        cutter = EpochCutter(*own, spills=spills, stored=stored, again=again)
        cutter.first = first
        for kind, starts in cutter.storage.starts.items():
            starts[:] = [int(begin * cutter.storage.depths[kind])] * len(starts)
        try:
            return cutter.run(range(len(graph.operations)))
        except EpochFullError as error:
            name = graph.operations[cutter.frontier.first].name
            raise _RefusedError(error, self.number[name]) from error
