"""compiler.chip.table_slots: networks with more activation tables than slots, epoch by epoch."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.table_slots import TableSlots, count_tables
from podweave.ir.layers import WorkloadError
from tests.compiler.chip.chip_graphs import HEALTH, chain, chip
from tests.compiler.chip.test_epoch_cutter import Case, cases, run_case, run_or_refuse


def test_a_slot_for_each() -> None:
    slots = TableSlots(4, 3).limited(0.25)
    assert [slots.take(number) for number in (2, 0, 2, 1)] == [2, 0, 2, 1]
    assert slots.in_use == {0: 0, 1: 1, 2: 2}
    assert slots.next_epoch().in_use == {}


def test_epochs_take_turns() -> None:
    slots = TableSlots(4, 9).limited(0.25)
    assert [slots.take(number) for number in (7, 8, 7)] == [0, 1, 0]
    assert slots.take(3) is None
    assert slots.in_use == {0: 7, 1: 8}
    # What is there stays; what has not been used for longest goes.
    after = slots.next_epoch().limited(0.25)
    assert [after.take(number) for number in (8, 3)] == [1, 2]
    assert [after.next_epoch().take(number) for number in (4, 5)] == [3, 3]
    # What an epoch that was given up took is forgotten.
    assert slots.in_use == {0: 7, 1: 8}


def test_an_operation_alone_may_use_all() -> None:
    slots = TableSlots(2, 3).limited(1.0)
    assert [slots.take(number) for number in range(3)] == [0, 1, None]
    assert TableSlots(1, 2).limited(0.25).take(1) == 0


def test_tables_of_rows_stay() -> None:
    slots = TableSlots(4, 6, fixed=2).limited(0.5)
    assert [slots.take(number) for number in (1, 5, 4, 0)] == [1, 2, None, 0]
    assert TableSlots(2, 6, fixed=2).take(4) is None


def test_count() -> None:
    assert count_tables({"a": 3, "b": 0}) == 4
    assert count_tables({}) == 0


@pytest.mark.parametrize("slots", [2, 3])
def test_a_chain(slots: int) -> None:
    graph = chain((1, 4, 4, 3), 5, 6, 4, 7, 5, 3)
    programs = run_case(Case(graph, chip(2, 4, 4, tables=slots), own_tables=True))
    assert len(programs) > 1
    for program in programs:
        assert len(program.tables) <= (slots if len(program.operations) == 1 else -(-slots // 2))
    assert {number for program in programs for number in program.tables.values()} == set(range(len(graph.operations)))


def test_what_one_operation_needs() -> None:
    """The table of what it reads, and its own if its tensor leaves in the same epoch."""
    sentence = r"^n1: post-processors are full: 1 activation table more in an epoch is 1 more than tables \(1\)$"
    with pytest.raises(WorkloadError, match=sentence):
        run_case(Case(chain((1, 4, 4, 3), 5, 6), chip(2, 4, 4, tables=1), own_tables=True))


def test_enough_slots_cut_nothing() -> None:
    graph = chain((1, 4, 4, 3), 5, 6, 4)
    (program,) = run_case(Case(graph, chip(2, 4, 4, tables=4), own_tables=True))
    assert program.tables == {0: 0, 1: 1, 2: 2}


def test_random_graphs() -> None:
    """Of what one operation reads, each tensor may have a table of its own: one slot is often too few."""
    found: list[int] = []

    @settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=HEALTH)
    @given(cases(), st.integers(1, 4))
    def run(case: Case, slots: int) -> None:
        found.append(run_or_refuse(dataclasses.replace(case, config=case.config.replace(tables=slots), own_tables=True)))

    run()
    assert sum(epochs > 1 for epochs in found) > len(found) // 3
    assert sum(epochs == 0 for epochs in found) < len(found) // 2
