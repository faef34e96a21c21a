"""Sums in P banks and accumulators: stored or initialised once, complete before they are read, and not written after."""

from __future__ import annotations

import numpy as np

from podweave.spec.jobs import Accumulate, Emit

from ...jobs import ProgramError
from ..bank_words import zero_word
from .jobs import NEVER, Bools, Ints, JobView, ProgramView, chunks, expand
from .parts import continued, sums_of, words_of

_BEFORE = -(1 << 40)


def check_partial_sums(view: ProgramView) -> None:
    """Raises `ProgramError` for an address of a P bank that is stored twice, added to too early or late, or read incomplete."""
    streams, posts, config = view.streams, view.posts, view.config
    to_bank = config.write_latency + config.network_latency
    depth = view.config.memory.p_words
    _read_ports(view, to_bank)
    first, stored = np.full(config.pods * depth, NEVER), np.full(config.pods * depth, NEVER)
    last = np.full(config.pods * depth, -1, np.int64)
    _require_inside(view)
    there, whose = sums_of(view.program.carried, depth)
    carried = np.full(config.pods * depth, -1, np.int64)
    carried[there] = whose
    stored[there] = first[there] = _BEFORE
    last[there] = _BEFORE
    last[np.arange(config.pods) * depth + zero_word(config)] = _BEFORE
    for job, word in chunks(np.flatnonzero(view.emits), view.streamed):
        at = streams["p_bank"][job] * depth + view.p_walk.at(job, word)
        time = streams["start"][job] + word + to_bank
        np.minimum.at(first, at, time)
        np.maximum.at(last, at, time)
        stores = streams["emit"][job] == Emit.STORE
        where, when = at[stores], time[stores]
        taken = stored[where] != NEVER
        stored[where] = when
        # Of several words for one address, the last assignment stays.
        taken |= stored[where] != when
        if taken.any():
            index = int(job[stores][np.argmax(taken)])
            address = int(where[np.argmax(taken)])
            raise ProgramError(
                f"{view.name('stream', index)}: stores P bank {address // depth} address {address % depth}, "
                f"{'which an earlier epoch left there' if carried[address] >= 0 else 'which is stored twice'}"
            )
    _refuse_carried(view, carried, depth)
    early = stored > first
    if early.any():
        _refuse_early(view, early, first, depth, to_bank)
    for job, word in chunks(np.arange(len(posts["start"])), view.read):
        at = posts["bank"][job] * depth + view.read_walk.at(job, word)
        time = posts["start"][job] + word // view.window[job] * view.period[job] + word % view.window[job]
        wrong = (last[at] == -1) | (time < last[at] + 2)
        if wrong.any():
            k = int(np.argmax(wrong))
            arrives = "which is never written" if last[at[k]] == -1 else f"but a word for it arrives in cycle {last[at[k]]}"
            where = f"P bank {at[k] // depth} address {at[k] % depth}"
            raise ProgramError(f"{view.name('post', int(job[k]))}: reads {where} in cycle {time[k]}, {arrives}")


def _require_inside(view: ProgramView) -> None:
    """Accumulators of earlier epochs are in the banks, but not in the zero word."""
    for item in view.program.carried:
        count, place = words_of(item), item.place
        if not (0 <= place.bank < view.config.pods and 0 <= place.base <= zero_word(view.config) - count):
            raise ProgramError(
                f"P bank {place.bank}: words {place.base} to {place.base + count - 1} of an earlier epoch are outside"
            )


def _refuse_carried(view: ProgramView, carried: Ints, depth: int) -> None:
    """Nothing is added to accumulators of earlier epochs, but by what goes on with them."""
    if not (carried >= 0).any():
        return
    goes_on = continued(view.program)[view.operation_of_stream]
    streams = view.streams
    for job, word in chunks(np.flatnonzero(view.emits), view.streamed):
        at = streams["p_bank"][job] * depth + view.p_walk.at(job, word)
        wrong = (carried[at] >= 0) & (carried[at] != goes_on[job])
        if wrong.any():
            k = int(np.argmax(wrong))
            where = f"P bank {at[k] // depth} address {at[k] % depth}"
            raise ProgramError(f"{view.name('stream', int(job[k]))}: adds to {where}, which an earlier epoch left there")


def _refuse_early(view: ProgramView, early: Bools, first: Ints, depth: int, to_bank: int) -> None:
    """Name the first word that is added to an address of ``early``."""
    streams = view.streams
    for job, word in chunks(np.flatnonzero(view.emits), view.streamed):
        at = streams["p_bank"][job] * depth + view.p_walk.at(job, word)
        time = streams["start"][job] + word + to_bank
        wrong = early[at] & (time == first[at])
        if wrong.any():
            k = int(np.argmax(wrong))
            where = f"P bank {at[k] // depth} address {at[k] % depth}"
            raise ProgramError(f"{view.name('stream', int(job[k]))}: adds to {where} in cycle {time[k]}, before it is stored")


def _read_ports(view: ProgramView, to_bank: int) -> None:
    """A word to be added needs the read port of its bank when it arrives, and a post job has it from its first read to its last."""
    streams, posts = view.streams, view.posts
    adds = np.flatnonzero(streams["emit"] == Emit.ACCUMULATE)
    line = np.concatenate([streams["p_bank"][adds], posts["bank"]])
    start = np.concatenate([streams["start"][adds] + to_bank, posts["start"]])
    end = start + np.concatenate([view.streamed[adds], view.post_cycles - (view.config.post_beats - 1)])
    order = np.lexsort((start, line))
    clash = (line[order][1:] == line[order][:-1]) & (start[order][1:] < end[order][:-1])
    if clash.any():
        # Neither words that arrive nor reads overlap among themselves: it is one of each.
        adding, reading = sorted(int(order[np.argmax(clash) + i]) for i in (0, 1))
        cycle = max(start[adding], start[reading])
        raise ProgramError(
            f"P bank {line[adding]}: {view.name('post', reading - len(adds))} reads in cycle {cycle}, in which a word of "
            f"{view.name('stream', int(adds[adding]))} is added"
        )


def check_accumulators(view: JobView) -> None:
    """Raises `ProgramError` for a stream that adds to accumulators not initialised for its operation, or already emitted."""
    streams = view.streams
    uses = streams["accumulate"] != Accumulate.BYPASS
    # Pods do not share accumulators, and the words of one are sorted in less time than those of all.
    for pod in range(view.config.pods):
        jobs = np.flatnonzero(uses & (streams["pod"] == pod))
        job, word = expand(jobs, view.streamed[jobs])
        row = streams["accumulator_base"][job] + word
        order = np.argsort(row, kind="stable")
        job, row = job[order], row[order]
        adds = streams["accumulate"][job] == Accumulate.ADD
        begun = np.concatenate([[False], row[1:] == row[:-1]])[: len(row)]
        before = np.roll(job, 1)
        begun &= view.operation_of_stream[before] == view.operation_of_stream[job]
        begun &= streams["emit"][before] == Emit.NONE
        wrong = adds & ~begun
        if wrong.any():
            found = np.flatnonzero(wrong)
            k = int(found[np.argmin(job[found])])
            raise ProgramError(
                f"{view.name('stream', int(job[k]))}: adds to accumulator row {row[k]}, which was not initialised for it"
            )
