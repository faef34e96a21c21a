"""Graphs of rows of which chips have equally many channels, and not equally many parameter sets that differ."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters, with_scale_bits
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import Format, RowLinear
from podweave.runs.jobs import Job

LINEARS, CHANNELS = 24, 16
"""Linear operations in front of one whose sums are added up over all chips, and channels of a chip in each."""


def uneven_job(chips: int, seed: int, scale_bits: int) -> Job:
    """Most of the operations have one parameter set on the first chip, the others on another: more fit into an epoch there."""
    first = [RowLinear(f"up{i}", 2, source="x", width=4, outputs=CHANNELS * chips) for i in range(LINEARS)]
    last = RowLinear("down", 2, source="up0", width=CHANNELS * chips, outputs=9, form=Format.INT16)
    names = tuple(each.name for each in (*first[1:], last))
    graph = verify_rows(RowGraph("uneven", {"x": (1, 1, 2, 4)}, (*first, last), names, formats={"x": Format.INT16}))
    constants = dict(with_scale_bits(random_row_parameters(graph, seed), scale_bits))
    for i, each in enumerate(first):
        constants[each.name] = _alike(constants[each.name], 0 if i < 18 else 1 + i % (chips - 1))
    return Job(graph, Constants(constants), random_row_inputs(graph, seed))


def _alike(held: Parameters, rank: int) -> Parameters:
    """All channels of a chip have no bias and are scaled by a half."""

    def filled(values: NDArray[np.int32], value: int) -> NDArray[np.int32]:
        values = values.copy()
        values[CHANNELS * rank : CHANNELS * (rank + 1)] = value
        return values

    return dataclasses.replace(held, bias=filled(held.bias, 0), multiplier=filled(held.multiplier, 1), shift=filled(held.shift, 1))
