"""What epochs move between memory and chip, and the descriptors that do it, pass by pass over the epochs of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import EPOCH_BANKS, DescriptorKind, loadable, memory_stride, words_of
from podweave.spec.load_port import HostSelect

from .ahead import Ahead
from .resident import ChipContents
from .rings import RingBuilder
from .x_banks import XBanks, XPiece

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
        The load is of words that an epoch before has stored.
    stored : int, optional
        The last epoch of the pass that has stored some of them, if it is known.
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
    stored: int | None = None
    once: bool = False
    of_pass: bool = False
    limited: str | None = None
    places: NDArray[np.int64] | None = None
    fields: Mapping[str, int] = field(default_factory=dict)


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
    x_banks : XBanks
        What epochs leave to engines of X banks.
    epochs : sequence of EpochMoves
        Of a pass.
    frames : sequence of int, optional
        Of each channel, where the memory of the first pass begins, if there are several.
    frame_bytes : int
        From there to that of the next.
    ratios : mapping, optional
        Of tensors, as `Ahead` takes them.
    """

    def __init__(
        self,
        x_banks: XBanks,
        epochs: Sequence[EpochMoves],
        frames: Sequence[int] | None = None,
        frame_bytes: int = 0,
        ratios: Mapping[str, float] | None = None,
    ):
        self._ratios = ratios or {}
        self.config = config = x_banks.config
        self.x_banks, self.epochs, self.frames, self.frame_bytes = x_banks, epochs, frames, frame_bytes
        self._stride = {select: memory_stride(config, select) for select in loadable(config)}
        self._contents = ChipContents(config)
        # Per word of each node, how many epochs of the run must be done before it may be written.
        self._free = {select: np.zeros((config.pods, words_of(config, select)), np.int64) for select in self._stride}
        self._written = 0
        # By tag, stores beside epochs: ring, and descriptor; all of them: node, words, tag. There are passes behind this one.
        self._later: dict[int, list[tuple[RingBuilder, dict[str, int]]]] = {}
        self._beside: list[tuple[int, int, int, int]] = []
        self._more = False

    def run(self, *, passes: bool = False) -> list[Rings]:
        """The rings of each manager of a run; with ``passes``, of any number of them."""
        rings: list[Rings] = [(RingBuilder(), RingBuilder()) for _ in range(self.config.managers)]
        count = len(self.epochs)
        for free in self._free.values():
            free[:] = 0
        self._later, self._beside, self._more = {}, [], passes
        self._pass(rings, 0)
        # What is stored beside epochs of the next pass, and behind the last one at once.
        later = [store for stores in self._later.values() for store in stores]
        if passes:
            # The second pass; what is between two passes is at its beginning. All others differ from it by turns alone.
            begins = [[len(ring) for ring in pair] for pair in rings]
            self._stores(rings, count - 1)
            self._pass(rings, 1)
            for pair, begin in zip(rings, begins, strict=True):
                for ring, at in zip(pair, begin, strict=True):
                    ring.end_body(at, count)
        self._later, self._more = {count: later}, False
        self._store_later(count)
        self._stores(rings, count - 1)
        end_tags(rings)
        return rings

    def _store_later(self, tag: int) -> None:
        """What is stored beside epochs, and over before that of the tag. All rings are at it, and have nothing of it yet."""
        for ring, descriptor in self._later.pop(tag, ()):
            ring.descriptors.append(descriptor | {"tag": ring.tag})

    def _pass(self, rings: Sequence[Rings], number: int) -> None:
        """All of a pass but the stores behind its last epoch."""
        first = number * len(self.epochs)
        self._ahead = Ahead(self._ratios)
        for epoch, moves in enumerate(self.epochs, start=first):
            self._store_later(epoch)
            for move in moves.loads:
                self._load(rings[move.channel], epoch, move)
            end_tags(rings)
            if epoch + 1 < first + len(self.epochs):
                self._stores(rings, epoch)
        self._written += 1

    def _stores(self, rings: Sequence[Rings], epoch: int) -> None:
        """Of what an epoch of the run leaves, before the next one begins."""
        for move in self.epochs[epoch % len(self.epochs)].stores:
            for begin, end, beside in self._stored_pieces(epoch, move):
                ring = rings[move.channel][1 if beside else 0]
                self._add(ring, epoch, move, begin, end, after=epoch + 1, beside=int(beside > 0))
                if beside:
                    self._later.setdefault(epoch + 1 + beside, []).append((ring, ring.descriptors.pop()))
                    self._beside.append((self._node(move), begin, end, epoch + 1 + beside))
                elif self._has_parts(move):
                    self.x_banks.hold(epoch + 1, self._node(move), begin, end)

    def _stored_pieces(self, epoch: int, move: Move) -> Iterator[tuple[int, int, int]]:
        """First word of a piece, the one behind it, and beside how many epochs it may be stored."""
        if not self._has_parts(move):
            yield move.base, move.base + move.count, 0
            return
        for piece in self.x_banks.pieces(self._node(move), move.base, move.count):
            yield piece.begin, piece.end, self.x_banks.stored_beside(piece, epoch, more=self._more)

    def _has_parts(self, move: Move) -> bool:
        """Whether engines may move it beside epochs, part by part."""
        return move.select == HostSelect.X and self.config.memory.x_parts > 1 and move.content is None and not move.fields

    def _is_stored_late(self, node: int, piece: XPiece, epoch: int) -> bool:
        """Whether words of a piece may still be stored in the gap before an epoch."""
        return any(
            node == where and begin < piece.end and piece.begin < end and tag >= epoch for where, begin, end, tag in self._beside
        )

    def _after_stores(self, epoch: int, move: Move) -> int:
        """How many epochs must be done before words may be loaded that ``epoch`` reads, and an earlier one has stored; if that is
        all before it, in the gap."""
        if move.stored is None or move.places is None:
            return epoch
        piece = self.x_banks.around(self._node(move), move.places)
        if self._is_stored_late(self._node(move), piece, epoch):
            return epoch
        # What is stored in the gap before an epoch is there when that is done.
        there = epoch - epoch % len(self.epochs) + move.stored + 2
        return max(there, self.x_banks.free_after(piece, epoch))

    def _node(self, move: Move) -> int:
        return move.channel * self.config.nodes_per_manager + move.unit

    def _add(self, ring: RingBuilder, epoch: int, move: Move, begin: int, end: int, **how: int) -> None:
        """A descriptor for the words from ``begin`` to before ``end``."""
        address = self._address(move, epoch) + (begin - move.base) * self._stride[move.select]
        ring.add(move.select, move.unit, begin, end - begin, address, kind=move.kind, broadcast=int(move.broadcast), **how)
        ring.descriptors[-1] |= self._fields(move)

    def _address(self, move: Move, epoch: int) -> int:
        """First byte in the channel, in an epoch of the run."""
        if not move.of_pass or self.frames is None:
            return move.address
        return self.frames[move.channel] + epoch // len(self.epochs) * self.frame_bytes + move.address

    def _fields(self, move: Move) -> Mapping[str, int]:
        return move.fields if not move.of_pass or self.frames is None else {**move.fields, "moves": 1}

    def _load(self, rings: Rings, epoch: int, move: Move) -> None:
        if self._has_parts(move):
            for piece in self.x_banks.pieces(self._node(move), move.base, move.count):
                after = self.x_banks.free_after(piece, epoch)
                # What is still to be stored from there is in the prefetch ring, and before it.
                late = self._is_stored_late(self._node(move), piece, epoch)
                if late:
                    _in_one_ring(rings, move.unit, piece)
                beside = after < epoch or late
                self._add(rings[1 if beside else 0], epoch, move, piece.begin, piece.end, after=after, beside=int(beside))
            return
        after = self._after_stores(epoch, move)
        if after < epoch:
            self._add(rings[1], epoch, move, move.base, move.base + move.count, after=after, beside=1)
            return
        per = self.config.nodes_per_manager
        first = move.channel * per
        nodes = slice(first, first + per) if move.broadcast else slice(first + move.unit, first + move.unit + 1)
        places = np.arange(move.base, move.base + move.count) if move.places is None else move.places
        pieces = [(0, move.count)]
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
                used = free[:, places] if move.places is not None else free[:, move.base + at : move.base + at + some]
                waits = between or not self._ahead.allows(move.channel, move.limited, some if move.places is None else len(places))
                first = move.base + at
                self._add(rings[0 if waits else 1], epoch, move, first, first + some, after=epoch if waits else int(used.max()))
        free[:, places] = epoch + 1


def _in_one_ring(rings: Rings, unit: int, piece: XPiece) -> None:
    """Stores of the tag that both rings are at, and of words of a piece, go into the prefetch ring, where they are in order."""
    demand, prefetch = rings
    tag = demand.descriptors[demand.tag_begin :]
    moved = [
        one
        for one in tag
        if (one["kind"], one["select"], one["unit"]) == (DescriptorKind.STORE, HostSelect.X, unit)
        and one["base"] < piece.end
        and piece.begin < one["base"] + one["n0"]
    ]
    demand.descriptors[demand.tag_begin :] = [one for one in tag if one not in moved]
    prefetch.descriptors += [one | {"beside": 1} for one in moved]


def end_tags(rings: Sequence[Rings]) -> None:
    for pair in rings:
        for ring in pair:
            ring.end_tag()
