"""What an epoch leaves in X banks to be stored: whole words of activations, for epochs that load them again."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from podweave.ir.graph import Graph
from podweave.ir.operations import Upsampling
from podweave.ir.rewrites import seen_interleaved
from podweave.spec.config import ChipConfig

from ..lower.boxes import Rect
from .copies import Copies
from .epoch_program import Spilled, SpillRequest
from .producers import Fragment, Producer
from .state import SchedulerState


def stored_views(graph: Graph, config: ChipConfig) -> dict[str, Upsampling]:
    """Tensors of a graph that lie in memory as their readers see them, interleaved, and how that is."""
    return seen_interleaved(graph, min(config.array.rows, config.array.cols))


class Spills:
    """Words of X banks, and the jobs that fill them, for all that must be stored of what an epoch computes.

    Their words and jobs are promised when an operation has been scheduled, and taken at the end of the epoch.
    """

    def __init__(self, state: SchedulerState, copies: Copies):
        self.state, self.copies = state, copies
        self._banks: dict[tuple[str, int], int] = {}
        """By operation and number of a request, the bank of its words."""

    def promise(self, producer: Producer) -> None:
        """Keep what it will take; raises `EpochFullError` at once, and not when all is scheduled."""
        storage = self.state.storage
        for number, request in self._requests(producer):
            bank = storage.keep(request.nodes, _words(request), producer.operation)
            self._banks[producer.operation.name, number] = bank
            for *_, tile, (images, rows, columns), fragment in self._pieces(producer, request):
                for _ in range(*images):
                    self.copies.promise_jobs(producer, tile, fragment.place.bank, rows, columns)

    def store(self) -> None:
        """Send all that must be stored to where there is room for it."""
        storage = self.state.storage
        for producer in self.copies.scheduled(self.state.spills):
            for number, request in self._requests(producer):
                bank = self._banks[producer.operation.name, number]
                for *_, (images, rows, columns), fragment in self._pieces(producer, request):
                    for _ in range(*images):
                        self.copies.redeem_jobs(producer, fragment.place.bank, rows, columns)
                place = storage.place_kept(bank, _words(request), producer.operation)
                self.copies.send(producer, request.block, request.box, request.box, place, request.seen)
                self.state.spilled.append(Spilled(producer.index, request.block, request.box, place, request.seen))

    def _pieces(self, producer: Producer, request: SpillRequest) -> Iterator[tuple[tuple[int, int], int, int, int, Rect, Fragment]]:
        return self.copies.sent_pieces(producer, request.block, request.box, request.seen)

    def _requests(self, producer: Producer) -> list[tuple[int, SpillRequest]]:
        return list(enumerate(self.state.spills.get(producer.operation.name, ())))


def _words(request: SpillRequest) -> int:
    return prod(end - begin for begin, end in request.box)
