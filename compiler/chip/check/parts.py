"""Reductions over several operations: each adds to the sums of the one before it, in the same words, and only the last is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from ...jobs import ProgramError
from ..epoch_program import Accumulated, EpochProgram
from .jobs import Ints, ProgramView, chunks, expand


def continued(program: EpochProgram) -> Ints:
    """By operation of the graph, the one of an earlier epoch to whose sums it adds, directly or over others; -1: it begins anew."""
    number = {operation.name: index for index, operation in enumerate(program.graph.operations)}
    here, found = set(program.operations), np.full(len(number), -1, np.int64)
    for index in sorted(here):
        before = number.get(program.operation(index).adds_to, -1)
        found[index] = found[before] if before in here else before
    return found


def check_parts(view: ProgramView) -> None:
    """Raises `ProgramError` for a part of a reduction that is left out, added elsewhere, or sent before the rest is there."""
    program, depth = view.program, view.config.memory.p_words
    names = [operation.name for operation in program.graph.operations]
    after = {operation.adds_to: operation.name for operation in program.graph.operations if operation.adds_to}
    if not after:
        return
    parts = {name for name in (*after, *after.values()) if names.index(name) in program.operations}
    _refuse_sent(view, after)
    mine, written = _by_operation(program.accumulated, depth), _written(view, [names.index(name) for name in parts])
    there, none = _by_operation(program.carried, depth) | mine, np.zeros(0, np.int64)
    for name in sorted(parts):
        index = names.index(name)
        if len(wrong := np.setdiff1d(mine[index], written[index])):
            raise ProgramError(f"{name}: no stream writes {_where(int(wrong[0]), depth)}, which has sums of it")
        if len(wrong := np.setdiff1d(written[index], mine[index])):
            raise ProgramError(f"{name}: a stream writes {_where(int(wrong[0]), depth)}, which has no sums of it")
        before = program.operation(index).adds_to
        if before and len(wrong := np.setxor1d(mine[index], there.get(names.index(before), none))):
            raise ProgramError(
                f"{name}: {_where(int(wrong[0]), depth)} has sums of it, or of {before}, to which it adds, but not both"
            )


def check_left(programs: Iterable[EpochProgram]) -> None:
    """Raises `ProgramError` for sums that an epoch finds, but which the epoch before does not leave."""
    left: set[Accumulated] = set()
    for epoch, program in enumerate(programs):
        if lost := set(program.carried) - left:
            item = min(lost, key=lambda each: (each.operation, each.place.bank, each.place.base))
            raise ProgramError(
                f"epoch {epoch} finds sums of {program.operation(item.operation).name} in P bank {item.place.bank} from word "
                f"{item.place.base} on, which the epoch before does not leave there"
            )
        left = {*program.carried, *program.accumulated}


def words_of(item: Accumulated) -> int:
    return prod(end - begin for begin, end in item.box)


def sums_of(items: Sequence[Accumulated], depth: int) -> tuple[Ints, Ints]:
    """(address, operation) of every word of sums; addresses are counted over all banks."""
    item, word = expand(np.arange(len(items)), np.array([words_of(each) for each in items], np.int64))
    first, operation = (
        np.array(values, np.int64)
        for values in ([each.place.bank * depth + each.place.base for each in items], [each.operation for each in items])
    )
    return first[item] + word, operation[item]


def _by_operation(items: Sequence[Accumulated], depth: int) -> dict[int, Ints]:
    """By operation, the addresses of its sums."""
    address, operation = sums_of(items, depth)
    return {int(index): np.unique(address[operation == index]) for index in np.unique(operation)}


def _written(view: ProgramView, operations: Sequence[int]) -> dict[int, Ints]:
    """By operation, the addresses to which streams of it send sums."""
    streams, depth = view.streams, view.config.memory.p_words
    found: dict[int, Ints] = {index: np.zeros(0, np.int64) for index in operations}
    for index in operations:
        jobs = np.flatnonzero(view.emits & (view.operation_of_stream == index))
        for job, word in chunks(jobs, view.streamed):
            found[index] = np.union1d(found[index], streams["p_bank"][job] * depth + view.p_walk.at(job, word))
    return found


def _refuse_sent(view: ProgramView, after: dict[str, str]) -> None:
    """Nothing is sent of sums to which another operation has still to add, or of those of another operation."""
    program, posts, depth = view.program, view.posts, view.config.memory.p_words
    names = [operation.name for operation in program.graph.operations]
    owner = np.full(view.config.pods * depth, -1, np.int64)
    # In the order of time: the last that has added to a word has it.
    for items in (program.carried, sorted(program.accumulated, key=lambda item: item.operation)):
        address, whose = sums_of(items, depth)
        owner[address] = whose
    operation = program.operation_of_post
    view.refuse(
        np.array([name in after for name in names])[operation],
        "post",
        lambda i: f"sends sums of {names[operation[i]]}, to which {after[names[operation[i]]]} adds",
    )
    for job, word in chunks(np.arange(len(posts["start"])), view.read):
        at = posts["bank"][job] * depth + view.read_walk.at(job, word)
        wrong = (owner[at] >= 0) & (owner[at] != operation[job])
        if wrong.any():
            k = int(np.argmax(wrong))
            raise ProgramError(
                f"{view.name('post', int(job[k]))}: sends sums of {names[operation[job[k]]]} from {_where(int(at[k]), depth)}, "
                f"which has those of {names[owner[at[k]]]}"
            )


def _where(address: int, depth: int) -> str:
    return f"P bank {address // depth} address {address % depth}"
