"""compiler.rows.check.collectives: a fault for each rule, planted in legal programs of a ring, and the sentence that names it."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from podweave.compiler.collective.program import CollectiveProgram, Received, Sent, collective
from podweave.compiler.collective.ring import all_reduce
from podweave.compiler.collective.walks import BankWords
from podweave.compiler.jobs import ProgramError
from podweave.compiler.rows.check.collectives import check_ring
from podweave.compiler.rows.check.program import check_rows
from podweave.compiler.rows.front import compile_rows
from podweave.compiler.rows.program import ChipEpoch
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.spec.links import CollectiveKind
from podweave.spec.links_config import LinksConfig
from tests.podweave.runs.row_jobs import small_chip

CHIP = dataclasses.replace(small_chip(), links=LinksConfig(flit_bits=32, jobs=16))
CHIPS, TABLES = 3, 2
Programs = list[ChipEpoch]


@functools.cache
def legal() -> tuple[tuple[ChipEpoch, ...], ...]:
    """By chip."""
    graph = load_graph("gated_16_24,rows=2")
    assert isinstance(graph, RowGraph)
    constants = with_scale_bits(random_row_parameters(graph, 1), CHIP.scale_bits)
    shares = partition(graph, constants, CHIPS).shares
    return tuple(
        compile_rows(share.graph, CHIP, share.constants, chips=CHIPS, rank=rank, share=1.0) for rank, share in enumerate(shares)
    )


def where(programs: tuple[ChipEpoch, ...]) -> int:
    return next(number for number, program in enumerate(programs) if isinstance(program, CollectiveProgram))


def collectives() -> list[CollectiveProgram]:
    """Of all chips, each a copy."""
    found = [programs[where(programs)] for programs in legal()]
    return [copy.deepcopy(each) for each in found if isinstance(each, CollectiveProgram)]


def set_to(store: str, job: int, **fields: int) -> Callable[[CollectiveProgram], CollectiveProgram]:
    def change(program: CollectiveProgram) -> CollectiveProgram:
        for name, value in fields.items():
            getattr(program, store)[name][job] = value
        return program

    return change


def as_x(program: CollectiveProgram) -> CollectiveProgram:
    for jobs in (program.sends, program.receives):
        jobs["kind"][:] = 1
    return dataclasses.replace(program, kind=CollectiveKind.X)


def many_jobs(program: CollectiveProgram) -> CollectiveProgram:
    words = BankWords(np.arange(60) % 2, np.random.default_rng(0).permutation(1000)[:60])
    return collective(CHIP, 0, CollectiveKind.P, [Sent(words)], [Received(words)], "down")


ALONE: dict[str, tuple[Callable[[CollectiveProgram], CollectiveProgram], str]] = {
    "field": (set_to("sends", 0, n0=1 << 16), "send_job 0: n0 is 65536, but its field holds 0 to 65535$"),
    "loop": (set_to("receives", 1, n1=0), "receive job 1: a loop has no trips$"),
    "id": (set_to("sends", 1, id=5), "send job 1: id is 5, must be 0$"),
    "kind": (set_to("sends", 0, kind=1), "send job 0: kind is 1, must be 0$"),
    "words": (set_to("receives", 0, words=3), r"receive job 0: words is 3, must be \d+$"),
    "last": (set_to("sends", 0, last=1), "the last send job, and no other, is marked as that$"),
    "X words": (as_x, "receive job 0: X words are stored, not added$"),
    "jobs": (many_jobs, r"there are \d+ send jobs, more than jobs \(16\)$"),
    "node": (set_to("sends", -1, unit=1, n0=4, n1=2, unit1=1), r"send job 3: P bank 2 address \d+ is not there$"),
    "zero word": (set_to("sends", 0, address=1023 - 3), r"send job 0: P bank \d address 1023 is not there$"),
    "empty": (set_to("sends", 0, address=700), r"send job 0: P bank \d address 70\d has no sums of down$"),
    "never": (set_to("sends", 1, needs=200), r"send job 1: word 6 of the collective follows word 200, and 21 come$"),
    "another": (set_to("sends", -1, needs=1), r"word \d+ of the collective follows word \d+, which goes to another place$"),
}


def test_legal_programs_are_legal() -> None:
    for programs in legal():
        check_rows(programs, TABLES)
    check_ring([[each] for each in collectives()])
    (first, *_) = collectives()
    # Sums of 4 tiles, of 2 rows in 2 planes: 4 thirds of 16 words.
    assert (first.words_sent, first.words_received) == (22, 21)


@pytest.mark.parametrize("what", ALONE)
def test_a_fault_of_one_chip(what: str) -> None:
    fault, sentence = ALONE[what]
    programs = legal()[0]
    at = where(programs)
    wrong = (*programs[:at], fault(collectives()[0]), *programs[at + 1 :])
    with pytest.raises(ProgramError, match=rf"^epoch {at}: .*{sentence}"):
        check_rows(wrong, TABLES)


def test_the_sums_are_there_before_and_read_after() -> None:
    programs = legal()[0]
    at = where(programs)
    with pytest.raises(ProgramError, match=rf"^epoch {at - 1}: send job 0: P bank \d address \d+ has no sums of down$"):
        check_rows((*programs[: at - 1], programs[at], *programs[at - 1 :]), TABLES)


def moved(programs: list[CollectiveProgram]) -> None:
    """All that chip 1 receives goes one word further."""
    programs[1].receives["address"] += 1
    programs[1].receives["address"][1] -= 1


def again(programs: list[CollectiveProgram]) -> None:
    """Chips add where they should store."""
    for program in programs:
        program.receives["add"][:] = 1


def not_added(programs: list[CollectiveProgram]) -> None:
    programs[2].receives["add"][0] = 0


def waiting(programs: list[CollectiveProgram]) -> None:
    """What nobody has sends nobody."""
    for program in programs:
        program.sends["follows"][:] = 1


def changed(rank: int, **parts: Any) -> Callable[[list[CollectiveProgram]], None]:
    def change(programs: list[CollectiveProgram]) -> None:
        programs[rank] = dataclasses.replace(programs[rank], **parts)

    return change


def shorter(programs: list[CollectiveProgram]) -> None:
    words = BankWords.of_runs([(0, 40, 8)])
    programs[1] = collective(CHIP, 0, CollectiveKind.P, *all_reduce(words, CHIPS, 1), "down")


TOGETHER: dict[str, tuple[Callable[[list[CollectiveProgram]], None], str]] = {
    "another operation": (changed(1, operation="o"), "collective 0: chips are in different ones: down, o$"),
    "another id": (changed(2, id=1), "collective 0: chips are in different ones: down, down$"),
    "words": (shorter, r"collective 0: chip 1 expects 11 words, and the one before sends \d+$"),
    "places": (moved, r"collective 0: chip \d: word \d+ goes to another place than that from which it comes$"),
    "added again": (again, r"collective 0: chip \d: word \d+ is added twice$"),
    "waiting": (waiting, r"collective 0: chips wait for each other, and have sent 0, 0, 0 words$"),
    "not added": (not_added, r"collective 0: chip \d: what word \d+ ends as is not the sum of all chips$"),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_a_fault_of_chips_together(what: str) -> None:
    fault, sentence = TOGETHER[what]
    programs = collectives()
    fault(programs)
    with pytest.raises(ProgramError, match=sentence):
        check_ring([[each] for each in programs])


def test_chips_have_as_many_collectives() -> None:
    one, two, three = collectives()
    with pytest.raises(ProgramError, match=r"^chips have 1, 0, 1 collectives$"):
        check_ring([[one], [], [three]])
    later = [dataclasses.replace(each, id=1) for each in (one, two, three)]
    check_ring([[one, later[0]], [two, later[1]], [three, later[2]]])
    with pytest.raises(ProgramError, match=r"^collective 1: chips are in different ones: down, down$"):
        check_ring([[one, later[0]], [two, later[1]], [three, three]])
    other = cast(ChipEpoch, object())
    check_ring([[other, one, other, later[0]], [other, two, other, later[1]], [other, three, other, later[2]]])
    with pytest.raises(ProgramError, match=r"^collective 1 is in different epochs of chips: 2, 2, 1$"):
        check_ring([[one, other, later[0]], [two, other, later[1]], [three, later[2]]])


def test_fewer_words_than_chips() -> None:
    for count in (1, 2, 5):
        exchanges = [all_reduce(BankWords.of_runs([(0, 5, count)]), 6, rank) for rank in range(6)]
        check_ring([[collective(CHIP, 0, CollectiveKind.P, *each)] for each in exchanges])
