"""What epochs move between memory and chip, and the descriptors that do it, pass by pass over the epochs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import EPOCH_BANKS, DescriptorKind, loadable, memory_stride, words_of
from podweave.spec.load_port import HostSelect

from .ahead import Ahead
from .resident import ChipContents
from .rings import RingBuilder
from .x_banks import XBanks

Rings = tuple[RingBuilder, RingBuilder]
"""The demand and the prefetch ring of a manager."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A load that an epoch needs, or a store of what it leaves.

    Parameters
    ----------
    channel, unit : int
        Manager, and node of it.
    select, base, count : HostSelect, int, int
        Words of the node, side by side from ``base`` on.
    address : int
        First byte in the channel.
    kind : DescriptorKind
        A load or a store.
    broadcast : bool
        To all nodes of the manager.
    chunk : int
        Words of a descriptor, at most.
    content : array (count, bytes in memory), optional
        What is loaded, if that is the same in every run.
    late : bool
        The load is of words that the epoch before has stored.
    once : bool
        Nothing else writes these words: they are loaded once.
    of_pass : bool
        The memory is that of a pass: of another one it is elsewhere, and ``address`` counts from its beginning.
    limited : str, optional
        The tensor whose words they are, if not all of it may be ahead of its epoch.
    places : array, optional
        Words that a load with loops of its own writes.
    fields : mapping
        Of the descriptor, beside those that follow from all this.
    """

    channel: int
    unit: int
    select: HostSelect
    base: int
    count: int
    address: int
    kind: DescriptorKind = DescriptorKind.LOAD
    broadcast: bool = False
    chunk: int = 1 << 24
    content: NDArray[np.uint8] | None = None
    late: bool = False
    once: bool = False
    of_pass: bool = False
    limited: str | None = None
    places: NDArray[np.int64] | None = None
    fields: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_of_x_bank(self) -> bool:
        """Of words side by side in one X bank."""
        return self.select == HostSelect.X and self.places is None and not self.broadcast and not self.fields


@dataclass
class EpochMoves:
    """``loads``: that must be over when an epoch begins; ``stores``: of what it leaves."""

    loads: list[Move] = field(default_factory=list)
    stores: list[Move] = field(default_factory=list)


class RunWriter:
    """Writes the descriptors of one run after the other, on a chip of which nothing is known before the first.

    Words that lie in their place already are not loaded again: not in a later epoch, pass or run. A load may begin as
    soon as the last epoch that used its place is done.

    Parameters
    ----------
    config : ChipConfig
        The chip.
    epochs : sequence of EpochMoves
        Of a pass.
    frames : sequence of int, optional
        Of each channel, where the memory of the first pass begins, if there are several.
    frame_bytes : int
        From there to that of the next.
    ratios : mapping, optional
        Of tensors, as `Ahead` takes them.
    x_uses : array of bool, shape (epochs, banks, parts), optional
        Where X banks have parts, those that epochs use: what they do not use is loaded and stored beside them.
    """

    def __init__(
        self,
        config: ChipConfig,
        epochs: Sequence[EpochMoves],
        frames: Sequence[int] | None = None,
        frame_bytes: int = 0,
        ratios: Mapping[str, float] | None = None,
        x_uses: NDArray[np.bool_] | None = None,
    ):
        self._x_uses = x_uses
        self._ratios = ratios or {}
        self.config, self.epochs, self.frames, self.frame_bytes = config, epochs, frames, frame_bytes
        self._stride = {select: memory_stride(config, select) for select in loadable(config)}
        self._contents = ChipContents(config)
        # Per word of each node, how many epochs of the run must be done before it may be written.
        self._free = {select: np.zeros((config.pods, words_of(config, select)), np.int64) for select in self._stride}
        self._written = 0

    def run(self, *, passes: bool = False) -> list[Rings]:
        """The rings of each manager of a run; with ``passes``, of any number of them."""
        rings: list[Rings] = [(RingBuilder(), RingBuilder()) for _ in range(self.config.managers)]
        count = len(self.epochs)
        self._x_banks = None if self._x_uses is None else XBanks(self.config, self._x_uses, passes=passes)
        for free in self._free.values():
            free[:] = 0
        self._pass(rings, 0)
        if passes:
            # The second pass; what is between two passes is at its beginning. All others differ from it by turns alone.
            begins = [[len(ring) for ring in pair] for pair in rings]
            pending = self._x_banks.pending() if self._x_banks else {}
            self._end_pass(rings)
            self._pass(rings, 1)
            for pair, begin in zip(rings, begins, strict=True):
                for ring, at in zip(pair, begin, strict=True):
                    ring.end_body(at, count)
            if self._x_banks:
                self._x_banks.later = pending
        self._end_pass(rings)
        if self._x_banks:
            self._x_banks.end()
        end_tags(rings)
        return rings

    def _pass(self, rings: Sequence[Rings], number: int) -> None:
        """All of a pass but the stores behind its last epoch."""
        first = number * len(self.epochs)
        self._ahead = Ahead(self._ratios)
        for epoch, moves in enumerate(self.epochs, start=first):
            for move in moves.loads:
                self._load(rings[move.channel], epoch, move)
            end_tags(rings)
            if epoch + 1 < first + len(self.epochs):
                self._begin_tag(rings, epoch)
        self._written += 1

    def _end_pass(self, rings: Sequence[Rings]) -> None:
        """What the last epoch of a pass leaves."""
        self._begin_tag(rings, len(self.epochs) - 1)

    def _begin_tag(self, rings: Sequence[Rings], epoch: int) -> None:
        """Stores of what an epoch of the run leaves, before the next one begins; and those beside epochs before."""
        if self._x_banks:
            self._x_banks.begin_tag(epoch + 1)
        for move in self.epochs[epoch % len(self.epochs)].stores:
            demand, _ = rings[move.channel]
            address = self._address(move, epoch)
            if self._x_banks and move.is_of_x_bank:
                node = move.channel * self.config.nodes_per_manager + move.unit
                self._x_banks.store(epoch, rings[move.channel], node, move.base, move.count, address, self._fields(move))
                continue
            if self._x_banks and move.select == HostSelect.X:
                places = np.array([move.base, move.base + move.count - 1]) if move.places is None else move.places
                node = move.channel * self.config.nodes_per_manager + move.unit
                self._x_banks.stored_in_gap(epoch, node, int(places.min()), int(places.max()))
            demand.add(move.select, move.unit, move.base, move.count, address, after=epoch + 1, kind=move.kind)
            demand.descriptors[-1] |= self._fields(move)

    def _address(self, move: Move, epoch: int) -> int:
        """First byte in the channel, in an epoch of the run."""
        if not move.of_pass or self.frames is None:
            return move.address
        return self.frames[move.channel] + epoch // len(self.epochs) * self.frame_bytes + move.address

    def _fields(self, move: Move) -> Mapping[str, int]:
        return move.fields if not move.of_pass or self.frames is None else {**move.fields, "moves": 1}

    def _load(self, rings: Rings, epoch: int, move: Move) -> None:
        per = self.config.nodes_per_manager
        first = move.channel * per
        nodes = slice(first, first + per) if move.broadcast else slice(first + move.unit, first + move.unit + 1)
        places = np.arange(move.base, move.base + move.count) if move.places is None else move.places
        pieces = [(0, move.count)]
        if self._x_banks and move.is_of_x_bank and move.content is None:
            self._contents.forget(move.select, first + move.unit, places)
            address = self._address(move, epoch)
            self._x_banks.load(epoch, rings, first + move.unit, move.base, move.count, address, self._fields(move))
            return
        if move.content is None:
            self._contents.forget(move.select, first + move.unit, places)
        elif move.once:
            pieces = pieces if self._written == 0 else []
        else:
            pieces = self._contents.load(move.select, nodes, move.base, move.content)
        free = self._free[move.select][nodes]
        # X and P banks are the engines' between epochs; late words are in the ring of the stores.
        between = move.late or move.select in EPOCH_BANKS
        for begin, count in pieces:
            for at in range(begin, begin + count, move.chunk):
                some = min(move.chunk, begin + count - at)
                words = some if move.places is None else len(places)
                waits = between or not self._ahead.allows(move.channel, move.limited, words)
                used = free[:, places] if move.places is not None else free[:, move.base + at : move.base + at + some]
                address = self._address(move, epoch) + at * self._stride[move.select]
                ring = rings[0 if waits else 1]
                ring.add(
                    move.select,
                    move.unit,
                    move.base + at,
                    some,
                    address,
                    after=epoch if waits else int(used.max()),
                    broadcast=int(move.broadcast),
                )
                ring.descriptors[-1] |= self._fields(move)
        free[:, places] = epoch + 1


def end_tags(rings: Sequence[Rings]) -> None:
    for pair in rings:
        for ring in pair:
            ring.end_tag()
