"""Legal programs of chips, and faults to plant in them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.jobs import ProgramError
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PLANES, ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig

UNITS = {"loads": "pod", "streams": "pod", "posts": "bank"}


def config(pods: int, rows: int, cols: int, accumulator_rows: int, planes: int = 1) -> ChipConfig:
    return ChipConfig(
        name="chip",
        pods=pods,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols), accumulator_rows=accumulator_rows),
        memory=MemoryConfig(banks=pods, x_words=1000, w_words=1000, p_words=1000, **dict.fromkeys(PLANES, planes)),
        network=NetworkConfig(pipeline=2),
        post=PostConfig(parameter_sets=11, tables=3),
        program=ProgramConfig(),
    )


def graph() -> Graph:
    """Two 3x3 convolutions with an overlapping pool behind: sums of 9 and 18 steps, padding, windows."""
    same: dict[str, Any] = {"height": 6, "width": 6, "kernel": (3, 3), "padding": ((1, 1), (1, 1))}
    first = Linear("first", (Operand(("in",), Layer(name="first", channels=4, outputs=8, **same)),))
    second = Linear("second", (Operand(("first",), Layer(name="second", channels=8, outputs=8, **same)),))
    pool = Layer(name="pool", height=6, width=6, channels=8, outputs=8, groups=8)
    third = Linear("pool", (Operand(("second",), pool),), Window("max", (2, 2), (1, 1)), identity=True)
    return Graph("g", {"in": (1, 6, 6, 4)}, (first, second, third))


PROGRAMS = {
    "in_pods": (4, 4, 4, 64),
    "in_banks": (4, 4, 4, 0),
    "slots": (2, 8, 4, 64),
    "slices": (2, 4, 8, 0),
    "planes": (4, 4, 4, 64, 2),
    "many": (16, 4, 4, 24, 2),
}


@functools.cache
def program(name: str) -> EpochProgram:
    return compile_graph(graph(), config(*PROGRAMS[name]))


def changed(legal: EpochProgram, kind: str, job: int, **values: int) -> EpochProgram:
    jobs = {name: column.copy() for name, column in getattr(legal, kind).items()}
    for name, value in values.items():
        jobs[name][job] = value
    return dataclasses.replace(legal, **{kind: jobs})


def without(legal: EpochProgram, kind: str, job: int) -> EpochProgram:
    jobs = {name: np.delete(column, job) for name, column in getattr(legal, kind).items()}
    nodes = {"streams": "operation_of_stream", "posts": "operation_of_post"}
    more = {nodes[kind]: np.delete(getattr(legal, nodes[kind]), job)} if kind in nodes else {}
    return dataclasses.replace(legal, **{kind: jobs}, **more)


def pads(legal: EpochProgram) -> NDArray[np.bool_]:
    """Which jobs of post-processors write padding."""
    return legal.posts["p_base"] == zero_word(legal.config)


def refused(wrong: EpochProgram, sentence: str) -> None:
    with pytest.raises(ProgramError) as caught:
        check_chip(wrong)
    assert re.search(sentence, str(caught.value)), str(caught.value)


def message(checked: EpochProgram) -> str:
    """What is wrong with a program, or nothing."""
    try:
        check_chip(checked)
    except ProgramError as error:
        return str(error)
    return ""


def last(legal: EpochProgram, kind: str, unit: int) -> int:
    return int(np.flatnonzero(getattr(legal, kind)[UNITS[kind]] == unit)[-1])


def meetings(legal: EpochProgram, kind: str, words: Any) -> Iterator[tuple[int, int]]:
    """Pairs of jobs of different units in progress at the same time."""
    jobs = getattr(legal, kind)
    unit, start, end = jobs[UNITS[kind]], jobs["start"], jobs["start"] + words
    for job in range(len(start)):
        for other in np.flatnonzero((unit > unit[job]) & (start < end[job]) & (end > start[job])):
            yield job, int(other)
