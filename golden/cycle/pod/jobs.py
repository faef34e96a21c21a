"""When jobs of a pod begin, and which errors they raise: queues, start times and weight hand-over, in cycles."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ERRORS = (
    "late_load",
    "late_stream",
    "load_overflow",
    "stream_overflow",
    "illegal_load",
    "illegal_stream",
    "w_address",
    "x_address",
    "p_address",
    "accumulator_address",
    "weights_not_loaded",
    "weights_overwritten",
    "epoch_overflow",
)


@dataclass(frozen=True, kw_only=True)
class PodGeometry:
    """Sizes of a pod and of the memory it sees; all that its cycle model needs to know."""

    rows: int
    cols: int
    row_groups: int
    col_groups: int
    psum_width: int
    accumulator_rows: int
    load_queue_depth: int
    stream_queue_depth: int
    time_width: int
    banks: int
    x_planes: int
    w_planes: int
    p_planes: int
    x_words: int
    w_words: int
    p_words: int
    latency: int

    @property
    def psum_delay(self) -> int:
        """Cycles from the request of a word of activations to its partial sums at the accumulators."""
        return self.latency + self.row_groups + self.col_groups


@dataclass(frozen=True)
class Pushes:
    """Jobs pushed into a queue: the cycle of each push, ascending, and one array per job field."""

    cycle: NDArray[np.int64]
    fields: dict[str, NDArray[np.int64]]


@dataclass
class Service:
    """What became of the pushes of one queue.

    ``job``: index into the pushes of each job that began; ``begin``: the cycle in which it left the queue, one before its
    first request. ``level``: jobs in the queue in each cycle. ``events``: cycles of each error.
    """

    job: NDArray[np.int64]
    begin: NDArray[np.int64]
    level: NDArray[np.int64]
    events: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def epoch_time(run: NDArray[np.bool_], time_width: int) -> NDArray[np.int64]:
    """The epoch time of the next cycle, for every cycle: counts up while ``run`` is high, from 0.

    >>> epoch_time(np.array([0, 1, 1, 1, 0, 1], bool), 8)
    array([0, 0, 1, 2, 3, 0])
    """
    cycles = np.arange(len(run))
    last_idle = np.maximum.accumulate(np.where(run, -1, cycles))
    before = np.concatenate([[-1], last_idle[:-1]])
    started = np.concatenate([[False], run[:-1]])
    return np.where(started, cycles - 1 - before, 0) % (1 << time_width)


def serve(
    pushes: Pushes,
    *,
    name: str,
    depth: int,
    words: NDArray[np.int64],
    legal: NDArray[np.bool_],
    run: NDArray[np.bool_],
    halt: int,
) -> Service:
    """Pass pushes through a queue of ``depth`` to an engine that is busy for ``words`` cycles per job.

    A job at the head begins in the cycle before its start time, if the engine is idle or at its last word then; a legal
    one leaves the queue. No job begins, and none is found late or illegal, after cycle ``halt``.
    """
    edges = np.diff(np.concatenate([[0], run.astype(np.int8), [0]]))
    epochs = list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))
    start, push_cycle = pushes.fields["start"].tolist(), pushes.cycle.tolist()
    length, is_legal = words.tolist(), legal.tolist()

    accepted: list[int] = []
    begins: list[int] = []
    overflows: list[int] = []
    events: dict[str, list[int]] = {f"late_{name}": [], f"illegal_{name}": []}
    never = len(run) + 1
    blocked = False
    free = epoch = 0

    def begin_of(job: int, head: int) -> int:
        """The cycle in which the job at the head since ``head`` begins; records why, if it never does."""
        nonlocal epoch, blocked
        while epoch < len(epochs):
            first, last = epochs[epoch]
            due = first + start[job]
            if max(head, first) <= min(last, halt):
                cycle = None
                if due < max(head, first):
                    cycle = max(head, first)
                elif due < free and due + 1 <= last:
                    cycle = due + 1
                if cycle is not None:
                    if cycle <= halt:
                        events[f"late_{name}"].append(cycle)
                    blocked = True
                    return never
                if due >= free and due <= last:
                    if due > halt:
                        return never
                    if is_legal[job]:
                        return due
                    events[f"illegal_{name}"].append(due)
                    blocked = True
                    return never
            epoch += 1
        return never

    for job, cycle in enumerate(push_cycle):
        full = len(accepted) >= depth and begins[len(accepted) - depth] >= cycle
        if full:
            overflows.append(cycle)
            continue
        accepted.append(job)
        if blocked or (begins and begins[-1] == never):
            begins.append(never)
            continue
        begin = begin_of(job, max(cycle, begins[-1] if begins else -1) + 1)
        begins.append(begin)
        free = begin + length[job]

    left = np.array(begins, np.int64)
    began = left < never
    level = np.zeros(len(run) + 2, np.int64)
    np.add.at(level, pushes.cycle[accepted] + 1, 1)
    np.add.at(level, left[began] + 1, -1)
    found = {key: np.array(cycles, np.int64) for key, cycles in events.items()}
    found[f"{name}_overflow"] = np.array(overflows, np.int64)
    return Service(np.array(accepted, np.int64)[began], left[began], np.cumsum(level)[: len(run)], found)


def hand_over(load_begin: NDArray, load_rows: NDArray, swap_begin: NDArray) -> dict[str, NDArray[np.int64]]:
    """Cycles in which weights are swapped in before they are complete, or overwritten before they are swapped in."""
    done = load_begin + load_rows

    def complete(cycle: NDArray) -> NDArray[np.bool_]:
        newest = np.searchsorted(done, cycle, side="right") - 1
        swapped = np.searchsorted(swap_begin, cycle, side="left") - 1
        done_at = np.where(newest >= 0, done[np.maximum(newest, 0)] if len(done) else 0, -1)
        swapped_at = np.where(swapped >= 0, swap_begin[np.maximum(swapped, 0)] if len(swap_begin) else 0, -1)
        return (newest >= 0) & (done_at > swapped_at)

    return {
        "weights_not_loaded": swap_begin[~complete(swap_begin)],
        "weights_overwritten": load_begin[complete(load_begin) & ~np.isin(load_begin, swap_begin)],
    }
