"""Row registers, the statistics that go into them, and the scales that are made of those."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podweave.spec.row_functions import SCALAR_CYCLES, Scalar

from ...chip.check.jobs import Bools, Ints
from ...chip.check.networks import pairs
from ...jobs import ProgramError
from .state import State
from .view import RowView, first_of

_CHECKED = 2
"""Cycles from the last P word of an output word to the look at its row register."""


@dataclass(frozen=True)
class _Statistics:
    """Of each row that counts: its job, node, row register, when the register is taken, and when the statistic is there."""

    job: Ints
    node: Ints
    register: Ints
    taken: Ints
    arrives: Ints
    scaled: Ints

    @property
    def ready(self) -> Ints:
        """The cycle after which the register may be read."""
        return self.arrives + SCALAR_CYCLES * self.scaled


def check_registers(view: RowView, state: State) -> None:
    """Raises `ProgramError` for statistics that not all nodes of a block send, a scale that is begun while another one is made, a
    register that is read when it is not ready or holds what is nothing of the reader's, and one that is taken while a row
    still needs it."""
    statistics = _statistics(view)
    _require_blocks(view, statistics)
    _require_scales_apart(view, statistics)
    _require_ready(view, state, statistics)


def _statistics(view: RowView) -> _Statistics:
    posts = view.posts
    made = view.made(np.flatnonzero(view.counts))
    ends = made.in_row == posts["n2"][made.job] - 1
    job, read = made.job[ends], made.read[ends]
    scaled = (posts["scalar"][job] != Scalar.NONE).astype(np.int64)
    register = posts["row"][job] + made.row[ends]
    # A register is looked at two cycles after the read, so ``statistic_latency`` counts the first cycle in which it is ready.
    arrives = read + view.config.statistic_latency - 1 + view.program.turning[job]
    return _Statistics(job, posts["bank"][job], register, read + _CHECKED, arrives, scaled)


def _require_blocks(view: RowView, found: _Statistics) -> None:
    """All nodes of a block send the same kind at the same time."""
    posts, nodes = view.posts, view.config.pods
    level, kind = posts["level"][found.job], posts["statistic"][found.job]
    moment = found.taken * 64 + level * 4 + kind
    block = moment * nodes + (found.node >> level)
    _, which, count = np.unique(block, return_inverse=True, return_counts=True)
    alone = count[which] != 1 << level
    if alone.any():
        i = first_of(alone, found.taken)
        first, cycle = int(found.node[i] >> level[i] << level[i]), found.arrives[i] - view.config.network_stages
        others = f"not all of nodes {first} to {first + (1 << level[i]) - 1} send one of its kind"
        what = f"sends a statistic of row register {found.register[i]} in cycle {cycle}"
        raise ProgramError(f"{view.name('post', int(found.job[i]))}: {what}, but {others}")


def _require_scales_apart(view: RowView, found: _Statistics) -> None:
    wants = np.flatnonzero(found.scaled)
    order = wants[np.lexsort((found.arrives[wants], found.node[wants]))]
    close = (np.diff(found.node[order]) == 0) & (np.diff(found.arrives[order]) < SCALAR_CYCLES)
    if close.any():
        i = first_of(close, found.arrives[order][:-1])
        one, two = order[i], order[i + 1]
        raise ProgramError(
            f"{view.name('post', int(found.job[two]))}: wants a scale in cycle {found.arrives[two]}, while one is made for "
            f"{view.name('post', int(found.job[one]))} from cycle {found.arrives[one]} on"
        )


def _require_ready(view: RowView, state: State, found: _Statistics) -> None:
    posts, registers = view.posts, state.ready.shape[1]
    by_row = np.flatnonzero((posts["subtract"] == 1) | (posts["row_scale"] == 1))
    made = view.made(by_row)
    reader, time = made.job, made.read + _CHECKED
    place = posts["bank"][reader] * registers + posts["row"][reader] + made.row
    where = found.node * registers + found.register
    order = np.lexsort((found.taken, where))
    span = int(max(found.ready.max(initial=0), time.max(initial=0))) + 2
    taken = where[order] * span + found.taken[order]
    again = (np.diff(where[order]) == 0) & (found.taken[order[1:]] <= found.ready[order[:-1]])
    if again.any():
        i = first_of(again, found.taken[order][1:])
        raise ProgramError(
            f"{_takes(view, found, int(order[i + 1]))}, before what {view.name('post', int(found.job[order[i]]))} makes for it is "
            f"there, in cycle {found.ready[order[i]]}"
        )
    # The last statistic that had taken the register before it is read; at the end, none.
    last = np.searchsorted(taken, place * span + time, side="left") - 1
    source = np.append(order, -1)[last]
    here = (last >= 0) & (np.append(where, -1)[source] == place)

    def held(of: Ints, before: Ints) -> Ints:
        """What a statistic of this epoch, or else one before, put into the register that is read."""
        return np.where(here, np.append(of, 0)[source], before.ravel()[place])

    def refuse(wrong: Bools, what: str) -> None:
        if wrong.any():
            i = first_of(wrong, time)
            register, node = place[i] % registers, place[i] // registers
            name = view.name("post", int(reader[i]))
            raise ProgramError(f"{name}: reads row register {register} of node {node} in cycle {time[i]}, {what}")

    operation = posts["operation"][found.job]
    ready = np.where(here, np.append(found.ready, 0)[source] < time, state.ready.ravel()[place])
    refuse(~ready, "which is not ready")
    refuse(held(operation, state.register_owner) != posts["operation"][reader], "which another operation has taken")
    scaled = held(found.scaled, state.scaled) == 1
    refuse((posts["row_scale"][reader] == 1) & ~scaled, "of which no scale was made")
    _require_read(view, found, order, last[here])
    state.ready.ravel()[where[order]] = True
    state.register_owner.ravel()[where[order]] = operation[order]
    state.scaled.ravel()[where[order]] = found.scaled[order]


def _require_read(view: RowView, found: _Statistics, order: Ints, read: Ints) -> None:
    """Of registers that nodes take at the same time, somebody must have read one before."""
    place = pairs(found.node, found.register)[order]
    over = np.flatnonzero(np.diff(place) == 0)
    was_read = np.zeros(len(order), bool)
    was_read[read] = True
    taken = found.taken[order]
    moment = pairs(pairs(taken[over], found.register[order][over]), taken[over + 1])
    lost = ~was_read[over] & ~np.isin(moment, moment[was_read[over]])
    if lost.any():
        i = int(over[first_of(lost, taken[over])])
        one = view.name("post", int(found.job[order[i]]))
        raise ProgramError(f"{_takes(view, found, int(order[i + 1]))}, before anybody has read what {one} put there")


def _takes(view: RowView, found: _Statistics, which: int) -> str:
    return f"{view.name('post', int(found.job[which]))}: takes row register {found.register[which]} in cycle {found.taken[which]}"
