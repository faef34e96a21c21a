"""Jobs of bands that are alike, in the same words of program stores: those of the first bands are there for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.load_port import HostSelect

from ..chip.epoch_program import EpochProgram
from ..jobs import Jobs, words_of_tile

_MARGIN = 16
"""Cycles before its end in which an epoch has passed over all words of its stores: a few are from a word's read to the next."""
_MOST_PADS = 2
"""Of a band's jobs, one in so many words may be passed over: they are loaded too, and keep jobs of later epochs waiting."""
STORES = (
    ("loads", "pod", HostSelect.LOAD_STORE, load_job_layout),
    ("streams", "pod", HostSelect.STREAM_STORE, stream_job_layout),
    ("posts", "bank", HostSelect.POST_STORE, post_job_layout),
)
"""Tables of a program, the units of their jobs, and how they lie in which store."""


def store_pads(
    programs: Sequence[EpochProgram], config: ChipConfig, depth: Mapping[HostSelect, int]
) -> dict[tuple[HostSelect, int], NDArray[np.int64]]:
    """By store and epoch, words of each node that are passed over behind the jobs of the epoch.

    Jobs lie in a store one epoch behind the other, and around its end. With so many words more, bands take equal shares of it, so
    that a band finds all jobs in their places of one that is alike and as many bands before as there are shares. An epoch passes
    over no more words than it has cycles for behind the last job of the store.

    ``programs``: of a network that was cut; ``depth``: of the stores.
    """
    found: dict[tuple[HostSelect, int], NDArray[np.int64]] = {}
    for _, segment in groupby(enumerate(programs), key=lambda item: item[1].segment):
        bands = [[*band] for _, band in groupby(segment, key=lambda item: sorted(item[1].corners.items()))]
        # Programs of bands that are alike are the same but for corners.
        numbers: dict[tuple[int, ...], int] = {}
        kinds = np.array([numbers.setdefault(tuple(id(each.posts["start"]) for _, each in band), len(numbers)) for band in bands])
        if len(numbers) == len(bands):
            continue
        epochs = [epoch for band in bands for epoch, _ in band]
        ends = np.array([_end(program) for band in bands for _, program in band])
        firsts = np.cumsum([0, *map(len, bands[:-1])])
        for name, column, select, _ in STORES:
            jobs = [getattr(program, name) for band in bands for _, program in band]
            words = np.array([np.maximum(1, np.bincount(each[column], minlength=config.pods)) for each in jobs])
            room = np.maximum(0, ends[:, None] - _MARGIN - np.array([_last_start(each, column, config.pods) for each in jobs]))
            pads = np.zeros_like(words)
            for node in range(config.pods):
                left = _of_bands(
                    np.add.reduceat(words[:, node], firsts), np.add.reduceat(room[:, node], firsts), kinds, depth[select]
                )
                for number, (first, count) in enumerate(zip(firsts.tolist(), map(len, bands), strict=True)):
                    of_band = slice(first, first + count)
                    taken = np.minimum(np.cumsum(room[of_band, node]), left[number])
                    pads[of_band, node] = np.diff(taken, prepend=0)
            found |= {(select, epoch): each for epoch, each in zip(epochs, pads, strict=True)}
    return found


def _end(program: EpochProgram) -> int:
    """A cycle in which an epoch is still on."""
    streams, posts = program.streams, program.posts
    last = streams["start"] + (streams["tiles"] - 1) * streams["period"] + words_of_tile(streams)
    sent = posts["start"] + posts["n0"] * posts["n1"] * posts["n2"] * posts["n3"]
    return int(max(last.max(initial=0), sent.max(initial=0)))


def _last_start(jobs: Jobs, column: str, pods: int) -> NDArray[np.int64]:
    """Of each node, when its last job starts, before which it is out of the store; 0 of those without jobs."""
    found = np.zeros(pods, np.int64)
    np.maximum.at(found, jobs[column], jobs["start"])
    return found


def _of_bands(words: NDArray[np.int64], room: NDArray[np.int64], kinds: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Of each band, words to pass over, for which there is ``room``; so many shares that most is found, and none if that is less
    than what is passed over."""
    best, gain = np.zeros_like(words), 0
    for shares in range(1, min(depth // int(words.max()), len(words) - 1) + 1 if words.max() <= depth else 1):
        edges = np.arange(shares + 1) * depth // shares
        pads = np.diff(edges)[np.arange(len(words)) % shares] - words
        if (pads < 0).any() or (pads > np.minimum(room, words // _MOST_PADS)).any():
            continue
        saved = int(words[shares:][kinds[shares:] == kinds[:-shares]].sum()) - int(pads[:shares].sum())
        if saved > gain:
            best, gain = pads, saved
    return best
