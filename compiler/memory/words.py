"""Words as they lie in memory: parameter sets, jobs, and runs of what follows each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import post_parameters_layout, store_layout
from podweave.spec.layout import Layout
from podweave.spec.links import receive_job_layout, send_job_layout
from podweave.spec.load_port import HostSelect

from ..collective.program import CollectiveProgram
from ..jobs import Jobs, pack_jobs
from ..rows.program import CacheWords


def strided(words: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Words (n, bytes) as far apart as in memory."""
    result = np.zeros((len(words), stride), np.uint8)
    result[:, : words.shape[1]] = words
    return result


def packed_sets(config: ChipConfig, sets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Words of parameter sets (n, fields, lanes)."""
    layout = post_parameters_layout(config)
    fields = {field.name: sets[:, i].reshape(-1) for i, field in enumerate(layout.fields)}
    lanes = np.unpackbits(pack_jobs(layout, fields), axis=1, bitorder="little")[:, : layout.width]
    return np.packbits(lanes.reshape(len(sets), -1), axis=1, bitorder="little")


def packed_store(layout: Layout, jobs: Jobs, nodes: NDArray[np.int64], stride: int) -> NDArray[np.uint8]:
    """Words (jobs, stride) of a program store; the last of each node ends its epoch. Without jobs, the word that only does that."""
    whole = store_layout(layout)
    if not len(nodes):
        fields = {f.name: np.zeros(1, np.int64) for f in whole.fields} | {"last": np.ones(1, np.int64)}
    else:
        last = np.append(nodes[1:] != nodes[:-1], True).astype(np.int64)
        fields = {f.name: jobs[f.name] for f in layout.fields} | {"valid": np.ones(len(nodes), np.int64), "last": last}
    return strided(pack_jobs(whole, fields), stride)


def with_pads(words: NDArray[np.uint8], nothing: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Words of an epoch in a program store, and ``count`` that are passed over behind them; ``nothing``: a word that only ends an
    epoch, as the last one does."""
    return np.concatenate([words[:-1], words[-1:] & ~nothing, np.zeros((count - 1, words.shape[1]), np.uint8), nothing])


def packed_collective(program: CollectiveProgram, epoch: int, later: int) -> tuple[tuple[HostSelect, NDArray[np.uint8]], ...]:
    """Jobs of a collective, whose id in a run is its epoch; the last that is sent names the epoch ``later`` of the next one."""
    config, found = program.config, []
    for select, layout, jobs in (
        (HostSelect.SEND_STORE, send_job_layout(config), program.sends | {"next": later * program.sends["last"]}),
        (HostSelect.RECEIVE_STORE, receive_job_layout(config), program.receives),
    ):
        found.append((select, pack_jobs(layout, jobs | {"id": np.full_like(jobs["last"], epoch)})))
    return tuple(found)


def runs(pieces: Iterator[tuple[int, int, NDArray]]) -> Iterator[tuple[int, int, NDArray]]:
    """(node, first word, words) of pieces that follow each other, joined; words are the last axis but one."""
    ordered = sorted(pieces, key=lambda piece: piece[:2])
    start = 0
    for i in range(1, len(ordered) + 1):
        if i < len(ordered):
            node, base, words = ordered[i - 1]
            if ordered[i][:2] == (node, base + words.shape[-2]):
                continue
        if start < i:
            node, base, _ = ordered[start]
            yield node, base, np.concatenate([words for *_, words in ordered[start:i]], axis=-2)
        start = i


Piece = tuple[int, int, NDArray[np.uint8]]
"""Node, first word, words."""


def in_all_nodes(pieces: Sequence[Piece], nodes: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces that some nodes of a manager have, and those that all of its ``nodes`` have at the same words, of its first node."""
    alike: dict[tuple[int, int, bytes], list[Piece]] = {}
    for piece in pieces:
        alike.setdefault((piece[0] // nodes, piece[1], piece[2].tobytes()), []).append(piece)
    alone: list[Piece] = []
    common: list[Piece] = []
    for (manager, base, _), found in alike.items():
        if len(found) == nodes > 1:
            common.append((manager * nodes, base, found[0][2]))
        else:
            alone += found
    return alone, common


@dataclass(frozen=True)
class Runs:
    """Words of a node, and where they lie in memory: ``runs`` of ``words`` words, ``step`` words and ``stride`` bytes apart, and
    ``groups`` of such runs, ``group_step`` and ``group_stride`` apart."""

    node: int
    base: int
    words: int
    address: int
    runs: int = 1
    step: int = 0
    stride: int = 0
    groups: int = 1
    group_step: int = 0
    group_stride: int = 0

    @property
    def count(self) -> int:
        """Of all words."""
        return self.words * self.runs * self.groups

    @property
    def places(self) -> NDArray[np.int64]:
        """All of them."""
        begins = np.arange(self.groups)[:, None] * self.group_step + np.arange(self.runs) * self.step
        return (self.base + begins.reshape(-1, 1) + np.arange(self.words)).reshape(-1)

    @property
    def loops(self) -> dict[str, int]:
        """Fields of a descriptor that goes over all of them."""
        span = (self.runs - 1) * self.step + self.words - 1
        return {
            "n1": self.runs,
            "step1": self.step - (self.words - 1) if self.runs > 1 else 0,
            "stride1": self.stride,
            "n2": self.groups,
            "step2": self.group_step - span if self.groups > 1 else 0,
            "stride2": self.group_stride - (self.runs - 1) * self.stride if self.groups > 1 else 0,
        }

    def alike(self, other: Runs) -> bool:
        """Whether they differ in where they begin only."""
        return replace(self, base=0, address=0) == replace(other, base=0, address=0)


@dataclass(frozen=True)
class CacheStore(Runs):
    """Words that go into a cache, as `CacheWords` do."""

    column: bool = False
    offset: str | None = None


R = TypeVar("R", bound=Runs)


def joined_boxes(pieces: Sequence[Runs], most: int) -> list[Runs]:
    """Runs, and runs of runs, in as few pieces of at most ``most`` words as there can be.

    >>> pieces = [Runs(0, base, 4, address, 2, 4, 64) for base, address in ((0, 0), (8, 512), (16, 1024))]
    >>> [(piece.runs, piece.groups, piece.group_step, piece.group_stride) for piece in joined_boxes(pieces, 100)]
    [(2, 3, 8, 512)]
    """
    single = [piece for piece in pieces if piece.runs == piece.groups == 1]
    flat = sorted((piece for piece in pieces if piece.runs > 1 == piece.groups), key=lambda piece: (piece.node, piece.base))
    boxes = [piece for piece in pieces if piece.groups > 1]
    return [*joined_runs(single, most), *_joined(flat, most, ("groups", "group_step", "group_stride")), *boxes]


def joined_runs(pieces: Sequence[R], most: int) -> list[R]:
    """Single runs, in as few pieces of at most ``most`` words as there can be: what is as far apart in bank and memory becomes
    one, and of those again.

    >>> pieces = [Runs(0, base, 4, address) for base, address in ((0, 64), (8, 128), (20, 512), (28, 576), (40, 0))]
    >>> [(piece.base, piece.runs, piece.step, piece.groups, piece.group_stride) for piece in joined_runs(pieces, 100)]
    [(0, 2, 8, 2, 448), (40, 1, 0, 1, 0)]
    """
    ordered = sorted(pieces, key=lambda piece: (piece.node, piece.base))
    return _joined(_joined(ordered, most, ("runs", "step", "stride")), most, ("groups", "group_step", "group_stride"))


def _joined(pieces: Sequence[R], most: int, names: tuple[str, str, str]) -> list[R]:
    """Pieces that follow each other as often as possible as the loop whose count, step and stride have those names."""
    found: list[R] = []
    i = 0
    while i < len(pieces):
        first, count, apart = pieces[i], 1, (0, 0)
        while i + count < len(pieces) and first.alike(pieces[i + count]) and (count + 1) * first.count <= most:
            last, one = pieces[i + count - 1], pieces[i + count]
            step = one.base - last.base, one.address - last.address
            if count > 1 and step != apart:
                break
            count, apart = count + 1, step
        found.append(replace(first, **dict(zip(names, (count, *apart), strict=True))))
        i += count
    return found


def joined_words(pieces: Sequence[Runs], stride: int) -> list[Runs]:
    """Runs of words, ``stride`` bytes each, of which those that follow each other in bank and memory are one.

    >>> joined_words([Runs(0, 0, 4, 64), Runs(0, 4, 4, 128), Runs(0, 8, 4, 512)], 16)[0].words
    8
    """
    found: list[Runs] = []
    for one in sorted(pieces, key=lambda piece: (piece.node, piece.base)):
        last = found[-1] if found else None
        if last and (last.node, last.base + last.words, last.address + last.words * stride) == (one.node, one.base, one.address):
            found[-1] = replace(last, words=last.words + one.words)
        else:
            found.append(one)
    return found


def joined_stores(appended: Sequence[CacheWords], addresses: Sequence[int]) -> list[CacheStore]:
    """What is appended, in as few stores as there can be.

    Three columns that follow each other in bank and memory, and one elsewhere:

    >>> from podweave.compiler.rows.program import CachePlace
    >>> place = CachePlace(0, 0, 1)
    >>> words = [CacheWords(0, base, 1, "keys", place, 0, True) for base in (5, 6, 7, 20)]
    >>> [(store.base, store.runs, store.step, store.stride) for store in joined_stores(words, [64, 80, 96, 32])]
    [(5, 3, 1, 16), (20, 1, 0, 0)]
    """
    kinds: dict[tuple[bool, int, str | None], list[CacheStore]] = {}
    for item, address in zip(appended, addresses, strict=True):
        store = CacheStore(item.node, item.base, item.words, address, column=item.column, offset=item.offset)
        kinds.setdefault((item.column, item.words, item.offset), []).append(store)
    return [store for kind in kinds.values() for store in joined_runs(kind, 1 << 20)]


def parameter_words(
    config: ChipConfig, items: Sequence[tuple[int, int, NDArray[np.signedinteger]]], stride: int
) -> list[tuple[int, int, NDArray[np.uint8]]]:
    """(node, number, the word as in memory) of sets of parameters, of which ``items`` have node, number and values."""
    if not items:
        return []
    count = len(post_parameters_layout(config).fields)
    sets = np.stack([lanes[:count] for _, _, lanes in items]).astype(np.int64)
    words = strided(packed_sets(config, sets), stride)
    return [(node, number, words[i : i + 1]) for i, (node, number, *_) in enumerate(items)]
