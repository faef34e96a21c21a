"""Words as they lie in memory: parameter sets, jobs, and runs of what follows each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from podweave.spec.jobs import post_parameters_layout, store_layout
from podweave.spec.layout import Layout

from ..jobs import Jobs, pack_jobs
from ..rows.program import CacheWords


def packed_sets(sets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Words of parameter sets (n, fields, lanes)."""
    layout = post_parameters_layout()
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
    packed = pack_jobs(whole, fields)
    result = np.zeros((len(packed), stride), np.uint8)
    result[:, : packed.shape[1]] = packed
    return result


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


@dataclass(frozen=True)
class CacheStore:
    """Words of a node that go into a cache: ``runs`` of ``words`` words, ``step`` words and ``stride`` bytes apart."""

    node: int
    column: bool
    base: int
    words: int
    address: int
    runs: int = 1
    step: int = 0
    stride: int = 0
    offset: str | None = None


def joined_stores(appended: Sequence[CacheWords], addresses: Sequence[int]) -> list[CacheStore]:
    """What is appended, in as few stores as there can be: words that are as far apart as what they become are runs of one.

    Three columns that follow each other in bank and memory, and one elsewhere:

    >>> words = [CacheWords(0, base, 1, "keys", 0, True) for base in (5, 6, 7, 20)]
    >>> [(store.base, store.runs, store.step, store.stride) for store in joined_stores(words, [64, 80, 96, 32])]
    [(5, 3, 1, 16), (20, 1, 0, 0)]
    """
    stores: list[CacheStore] = []
    order = sorted(
        zip(appended, addresses, strict=True),
        key=lambda item: (item[0].node, item[0].column, item[0].words, item[0].offset or "", item[0].base),
    )
    for item, address in order:
        last = stores[-1] if stores else None
        alike = last and (last.node, last.column, last.words, last.offset) == (item.node, item.column, item.words, item.offset)
        if last and alike:
            step, stride = item.base - last.base, address - last.address
            if last.runs == 1 or (step, stride) == (last.step * last.runs, last.stride * last.runs):
                each = (step, stride) if last.runs == 1 else (last.step, last.stride)
                stores[-1] = replace(last, runs=last.runs + 1, step=each[0], stride=each[1])
                continue
        stores.append(CacheStore(item.node, item.column, item.base, item.words, address, offset=item.offset))
    return stores
