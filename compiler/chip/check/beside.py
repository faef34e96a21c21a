"""Engines beside epochs: what they load and store while one is on is in parts of X banks that it does not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podweave.spec.config import ChipConfig

from ...jobs import ProgramError
from ..epoch_program import EpochProgram
from .jobs import Bools, Ints, ProgramView, chunks


@dataclass(frozen=True)
class Transfer:
    """A load (or else a store) of words of the X bank of ``node``: number ``index`` in ``ring`` (manager, which of its two), which
    is in order. It may be under way as soon as ``after`` epochs are done, and is over before epoch ``tag`` begins."""

    node: int
    words: Ints
    is_load: bool
    ring: tuple[int, int]
    index: int
    tag: int
    after: int

    @property
    def name(self) -> str:
        kind = "load" if self.is_load else "store"
        return f"{kind} {self.index} of ring {self.ring[1]} of manager {self.ring[0]}"


def check_beside(programs: Sequence[EpochProgram | None], transfers: Sequence[Transfer], config: ChipConfig) -> None:
    """Raises `ProgramError` for a transfer of a part of an X bank that may be under way in an epoch that uses it, or is none of
    layers; and for a load that may overwrite what a store has yet to read.

    ``programs``: of all epochs; None: none of layers. ``transfers``: of X banks, those in gaps among them.
    """
    depth, used = config.memory.x_part_words, [None if program is None else _used(program) for program in programs]
    for transfer in transfers:
        parts = np.unique(transfer.words // depth)
        for epoch in range(transfer.after, min(transfer.tag, len(programs))):
            taken = used[epoch]
            if taken is None:
                raise ProgramError(f"{transfer.name} may be under way in epoch {epoch}, which is none of layers")
            wrong = parts[taken[transfer.node, parts]]
            if len(wrong):
                raise ProgramError(
                    f"{transfer.name} may be under way in epoch {epoch}, which uses part {wrong[0]} of X bank {transfer.node}"
                )
    stores = [transfer for transfer in transfers if not transfer.is_load]
    node, tag, after, low, high = (
        (
            np.array(column, np.int64)
            for column in zip(*((s.node, s.tag, s.after, s.words.min(), s.words.max()) for s in stores), strict=True)
        )
        if stores
        else [np.zeros(0, np.int64)] * 5
    )
    for load in (transfer for transfer in transfers if transfer.is_load):
        # A store is over when the epoch of its tag begins, and a load when the one that a store reads of begins.
        close = (
            (node == load.node)
            & (after < load.tag + 1)
            & (tag >= load.after)
            & (low <= load.words.max())
            & (high >= load.words.min())
        )
        for store in (stores[i] for i in np.flatnonzero(close)):
            in_order = store.ring == load.ring and store.index < load.index
            if not in_order and np.isin(load.words, store.words).any():
                raise ProgramError(f"{load.name} may overwrite words of X bank {load.node} before {store.name} reads them")


@dataclass(frozen=True)
class Access:
    """A load beside epochs of words in memory, or a store: their first bytes, in order. For the rest see `Transfer`."""

    addresses: Ints
    ring: tuple[int, int]
    index: int
    tag: int
    after: int


def check_stored(loads: Sequence[Access], stores: Sequence[Access]) -> None:
    """Raises `ProgramError` for a load of words that a store of the same manager, before it in time, may not have written yet."""
    for load in loads:
        low, high = load.addresses[0], load.addresses[-1]
        for store in stores:
            # It is over when the epoch of its tag begins, and known to be when that epoch is done; a ring is in order.
            if not load.after <= store.tag <= load.tag or (store.ring == load.ring and store.index < load.index):
                continue
            near = store.addresses[-1] >= low and store.addresses[0] <= high
            if near and np.isin(load.addresses, store.addresses).any():
                manager, ring = load.ring
                raise ProgramError(
                    f"load {load.index} of ring {ring} of manager {manager} may read words of memory before they are stored for "
                    f"epoch {store.tag}"
                )


def _used(program: EpochProgram) -> Bools:
    """(banks, parts): where pods read or post-processors write a word."""
    view, memory = ProgramView.tile_by_tile(program), program.config.memory
    used = np.zeros((memory.banks, memory.x_parts), bool)
    streams, posts = view.streams, view.posts
    for job, word in chunks(np.arange(len(streams["start"])), view.streamed):
        used[streams["x_bank"][job], view.x_walk.at(job, word) // memory.x_part_words] = True
    for job, word in chunks(np.arange(len(posts["start"])), posts["n2"] * posts["n3"]):
        used[posts["x_bank"][job], view.sent_walk.at(job, word) // memory.x_part_words] = True
    return used
