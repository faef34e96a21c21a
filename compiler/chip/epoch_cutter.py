"""A graph cut into epochs: what one computes, the next one finds in the P banks; weights stream through the W banks."""

from __future__ import annotations

from collections.abc import Mapping

from podweave.ir.graph import Graph
from podweave.spec.config import ChipConfig

from ..lower.boxes import positions
from .bank_words import EpochFullError, Storage
from .epoch_program import ChipProgram
from .epoch_scheduler import Epoch, Progress, lower
from .producers import Producer

SHARE = 0.5
"""Of the W banks, parameter sets and program stores: the next epoch's words are loaded into the other half."""


def compile_epochs(
    graph: Graph,
    config: ChipConfig,
    *,
    tables: Mapping[str, int] | None = None,
    partition: int | None = None,
    share: float = SHARE,
    first: float = 1.0,
    progress: Progress | None = None,
) -> tuple[ChipProgram, ...]:
    """The programs of a graph on a chip, one per epoch, each with as many nodes as fit.

    ``share``: how much of W banks, parameter sets and program stores an epoch may take. One node that needs more by itself gets
    all of them, and its words can only be loaded when the epoch before is done with the space. For the rest see `compile_graph`.
    ``first``: of that share, what the first epoch may take, whose loads nothing hides.
    Raises `WorkloadError` for a node that does not fit even so, with the limit and the excess.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be more than 0 and at most 1, got {share}")
    return _Cutter(graph, config, dict(tables or {}), partition, share, first, progress).run()


class _Cutter:
    def __init__(
        self,
        graph: Graph,
        config: ChipConfig,
        tables: dict[str, int],
        partition: int | None,
        share: float,
        first: float,
        progress: Progress | None,
    ):
        self.first = first
        self.graph, self.config, self.tables, self.partition, self.share = graph, config, tables, partition, share
        self.progress = progress
        self.lowerings = lower(graph, config)
        self.storage = Storage(config)
        self.carried: dict[str, Producer] = {}
        self.left = tuple(range(len(graph.nodes)))
        self.before: Epoch | None = None
        """The last epoch, if inputs that it left in X banks are read again."""

    def run(self) -> tuple[ChipProgram, ...]:
        programs = []
        while self.left:
            epoch, program = self._longest()
            programs.append(program)
            self.left = tuple(index for index in self.left if index not in program.nodes)
            self.before = epoch if self._inputs_again(epoch) else None
            self.storage = epoch.storage.next_epoch(inputs=self.before is not None)
            self.carried = self._kept(epoch)
        return tuple(programs)

    def _longest(self) -> tuple[Epoch, ChipProgram]:
        """The epoch with the most nodes that fit."""
        begins = len(self.left) == len(self.graph.nodes)
        for share in (self.share * self.first, self.share) if begins else (self.share,):
            nodes = self.left
            while nodes:
                epoch = self._begin(share)
                try:
                    return epoch, epoch.run(nodes, self._show)
                except EpochFullError:
                    # All may have been scheduled, and only the outputs of the graph not fit.
                    nodes = tuple(epoch.scheduled[: len(nodes) - 1])
        return self._alone()

    def _alone(self) -> tuple[Epoch, ChipProgram]:
        """An epoch of one node, which may take all; if that is not enough, with mappings that spare the banks."""
        for whole in (False, True):
            epoch = self._begin(1.0, whole)
            alone = (next(epoch.order(self.left)),)
            try:
                return epoch, epoch.run(alone, self._show)
            except EpochFullError:
                continue
        self.before = None
        self.storage = self.storage.restarted()
        epoch = self._begin(1.0, whole=True)
        return epoch, epoch.run(alone, self._show)

    def _begin(self, share: float, whole: bool = False) -> Epoch:
        storage = self.storage.limited(share)
        return Epoch(
            self.graph, self.config, self.tables, self.partition, self.lowerings, storage, self.carried, share, whole, self.before
        )

    def _show(self, done: int, _: int) -> None:
        if self.progress:
            total = len(self.graph.nodes)
            self.progress(total - len(self.left) + done, total)

    def _inputs_again(self, epoch: Epoch) -> bool:
        """Whether nodes that are left read what is in the X banks."""
        there = {source for sources, *_ in epoch.gangs.resident for source in sources}
        nodes = (self.graph.nodes[index] for index in self.left)
        return any(source in there for node in nodes for operand in node.operands for source in operand.sources)

    def _kept(self, epoch: Epoch) -> dict[str, Producer]:
        """Producers for the next epoch; what no node that is left reads gives its words back."""
        nodes = (self.graph.nodes[index] for index in self.left)
        read = {source for node in nodes for operand in node.operands for source in operand.sources}
        kept = {}
        for name, producer in epoch.copies.producers.items():
            after = kept[name] = producer.carried()
            if name not in read:
                for fragments in after.fragments.values():
                    for fragment in fragments:
                        self.storage.release(fragment.place, positions(fragment.box))
                after.fragments.clear()
        return kept
