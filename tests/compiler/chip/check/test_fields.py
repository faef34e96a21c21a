"""compiler.chip.check.fields: every rule about single jobs, stores, parameters and time fires on a planted fault."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.spec.config_parts import PLANES
from tests.compiler.chip.check.chip_programs import UNITS, changed, last, program, refused


@pytest.mark.parametrize(
    ("kind", "field", "value", "sentence"),
    [
        ("loads", "start", 2**24, r"start is 16777216, but its field holds 0 to 16777215"),
        ("loads", "w_step", -1025, r"w_step is -1025, but its field holds -1024 to 1023"),
        ("streams", "x_step2", 1024, r"x_step2 is 1024, but its field holds -1024 to 1023"),
        ("posts", "n1", 64, r"n1 is 64, but its field holds 0 to 63"),
        ("loads", "pod", 4, r"pod is 4, must be 0 to 3"),
        ("posts", "bank", -1, r"bank is -1, must be 0 to 3"),
        ("loads", "rows", 0, r"rows is 0, must be 1 to 4"),
        ("loads", "rows", 5, r"rows is 5, must be 1 to 4"),
        ("loads", "w_plane", 1, r"w_plane is 1, must be 0 to 0"),
        ("streams", "x_plane", 1, r"x_plane is 1, must be 0 to 0"),
        ("streams", "n0", 0, r"n0 is 0, must be 1"),
        ("streams", "n2", 0, r"n2 is 0, must be 1"),
        ("streams", "accumulate", 3, r"accumulate is 3, must be 0 to 2"),
        ("streams", "emit", 3, r"emit is 3, must be 0 to 2"),
        ("posts", "n0", 0, r"n0 is 0, must be 1"),
        ("posts", "n3", 0, r"n3 is 0, must be 1"),
        ("posts", "parameters", 11, r"parameters is 11, must be 0 to 10"),
        ("posts", "table", 3, r"table is 3, must be 0 to 2"),
        ("posts", "slice", 1, r"slice is 1, must be 0 to 0"),
        ("posts", "slot", 1, r"slot is 1, must be 0 to 0"),
        ("posts", "x_plane", 1, r"x_plane is 1, must be 0 to 0"),
        ("loads", "w_base", 997, r"W address 1000 is outside of 0 to 999"),
        ("loads", "w_step", -600, r"W address -\d+ is outside of 0 to 999"),
        ("streams", "x_base", 999, r"X address \d+ is outside of 0 to 999"),
        ("streams", "x_step0", -800, r"X address -\d+ is outside of 0 to 999"),
        ("posts", "x_base", 999, r"X address \d+ is outside of 0 to 999"),
    ],
)
def test_single_jobs(kind: str, field: str, value: int, sentence: str) -> None:
    legal = program("in_pods")
    job = 1
    where = rf"^{kind[:-1]} job 1 \({UNITS[kind]} "
    refused(changed(legal, kind, job, **{field: value}), f"{where}.*{sentence}")


@pytest.mark.parametrize(
    ("kind", "field", "network"),
    [("loads", "w_plane", "w"), ("streams", "x_plane", "x"), ("streams", "p_plane", "p"), ("posts", "x_plane", "y")],
)
def test_planes_are_those_of_the_network(kind: str, field: str, network: str) -> None:
    legal = program("in_pods")
    emits = int(np.argmax(legal.streams["emit"] > 0))
    second = changed(legal, kind, emits, **{field: 1})
    alone, others = ({**dict.fromkeys(PLANES, n), f"{network}_planes": 3 - n} for n in (1, 2))
    check_chip(dataclasses.replace(second, config=legal.config.replace(**alone)))
    refused(dataclasses.replace(second, config=legal.config.replace(**others)), rf"{field} is 1, must be 0 to 0$")


def test_of_streams_that_emit_and_accumulate() -> None:
    legal = program("in_pods")
    streams = legal.streams
    emits, adds = int(np.argmax(streams["emit"] > 0)), int(np.argmax(streams["accumulate"] > 0))
    silent = int(np.argmax(streams["emit"] == 0))
    refused(changed(legal, "streams", emits, p_base=999), r"P address \d+ is outside of 0 to 998$")
    refused(changed(legal, "streams", emits, p_plane=1), r"p_plane is 1, must be 0 to 0$")
    # One row too far.
    base = 65 - int(legal.words_streamed[adds])
    refused(changed(legal, "streams", adds, accumulator_base=base), "accumulator row 64 is outside of 0 to 63$")
    # Nobody looks at where a word that is not emitted would go.
    check_chip(changed(legal, "streams", silent, p_base=999, p_plane=1))
    in_banks = program("in_banks")
    refused(changed(in_banks, "streams", 0, accumulate=1), r"accumulate is 1, must be 0 to 0$")


@pytest.mark.parametrize("kind", UNITS)
def test_jobs_of_a_unit_do_not_overlap(kind: str) -> None:
    legal = program("in_pods")
    jobs = getattr(legal, kind)
    same = np.flatnonzero(jobs[UNITS[kind]][1:] == jobs[UNITS[kind]][:-1])
    job = int(same[0])
    wrong = changed(legal, kind, job, start=int(jobs["start"][job + 1]))
    refused(wrong, rf"^{kind[:-1]} job {job + 1} .*starts before {kind[:-1]} job {job} .* has ended, in cycle \d+$")
    swapped = changed(legal, kind, 0, **{UNITS[kind]: 3})
    refused(swapped, rf"^{kind[:-1]} job 1 .*starts before {kind[:-1]} job 0 ")


def test_stores_and_time() -> None:
    legal = program("in_pods")
    assert legal.config.program is not None
    for kind in ("load", "stream", "post"):
        # A store has at least 4 words: jobs that are there already, as often as it takes.
        units = getattr(legal, f"{kind}s")[UNITS[f"{kind}s"]]
        most = int(np.bincount(units).max())
        limit = max(4, most - 1)
        store = dataclasses.replace(legal.config.program, **{f"{kind}_jobs": limit})
        small = dataclasses.replace(legal, config=dataclasses.replace(legal.config, program=store))
        if most > limit:
            refused(small, rf"has {most} {kind} jobs, {most - limit} more than {kind}_jobs$")
        else:
            check_chip(small)
    job = last(legal, "posts", 3)
    refused(
        changed(legal, "posts", job, start=2**24 - 2), r"^the epoch lasts \d+ cycles, more than time_width allows \(16777215\)$"
    )


def test_parameters() -> None:
    legal = program("in_pods")
    item = legal.parameters[0]
    refused(dataclasses.replace(legal, parameters=(*legal.parameters, item)), r"^parameter set \d+ of bank \d is loaded twice$")
    refused(
        dataclasses.replace(legal, parameters=legal.parameters[1:]),
        r"^post job \d+ .*: parameter set \d+ is not one of its operation$",
    )
    other = dataclasses.replace(item, operation=item.operation + 1)
    refused(
        dataclasses.replace(legal, parameters=(other, *legal.parameters[1:])), r"parameter set \d+ is not one of its operation$"
    )


def test_tables() -> None:
    legal = program("in_pods")
    looked_up = changed(legal, "posts", 0, activate=1, table=1)
    check_chip(dataclasses.replace(looked_up, tables={1: 5}))
    refused(dataclasses.replace(looked_up, tables={0: 5}), r"^post job 0 .*: looks up table 1, which nobody has loaded$")
    refused(dataclasses.replace(legal, tables={3: 5}), r"^there is no table 3$")
