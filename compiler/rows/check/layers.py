"""Epochs of layers between those of rows: what they read of rows is there, and what they leave."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from podweave.spec.load_port import HostSelect

from ...chip.check.jobs import Bools, ProgramView, expand
from ...chip.check.program import check_chip
from ...chip.epoch_program import EpochProgram
from ...jobs import Place, ProgramError
from .history import NOBODY
from .state import NOT_YET, State


def check_layers(program: EpochProgram, state: State, images: Mapping[str, str]) -> None:
    """Raises `ProgramError` for an epoch of layers that breaks a rule of `check_chip`, begins without the sums that earlier epochs
    should have left, or leaves less in X banks than rows will read.

    ``images``: by operation of layers that stands for what one on rows has left, that one.
    """
    check_chip(program)
    owners, memory = state.owners, program.config.memory
    x, p = state.owner[HostSelect.X], state.owner[HostSelect.P]
    for item in program.carried:
        name = program.operation(item.operation).name
        number = owners.number(images[name]) if name in images else owners.layer(name)
        begins = item.place.bank * memory.p_words + item.place.base
        there = p[begins : begins + prod(end - begin for begin, end in item.box)] == number
        _require(there, "P", item.place, f"sums of {images.get(name, name)}")
    for item in program.accumulated:
        at = item.place.bank * memory.p_words + item.place.base
        p[at : at + prod(end - begin for begin, end in item.box)] = owners.layer(program.operation(item.operation).name)
    for unit in program.external_units:
        at = unit.place.bank * memory.x_words + unit.place.base
        x[at : at + unit.region.words] = NOBODY
    _check_exports(program, state)
    for select, places in (
        (HostSelect.W, [(each.place.bank, each.place.base, program.config.array.rows) for each in program.weights]),
        (HostSelect.PARAMETERS, [(each.bank, each.index, 1) for each in program.parameters]),
    ):
        for bank, base, count in places:
            # Whatever rows had there.
            state.loaded[select][bank, base : base + count] = state.used[select][bank, base : base + count] = NOT_YET


def _check_exports(program: EpochProgram, state: State) -> None:
    """Everything that is sent to X banks, and of it what rows will read: all lanes of it."""
    config, posts = program.config, program.posts
    depth, lanes, x = config.memory.x_words, config.post_lanes, state.owner[HostSelect.X]
    job, word = expand(np.arange(len(posts["start"])), posts["n2"] * posts["n3"])
    at = posts["x_bank"][job] * depth + ProgramView.of(program).sent_walk.at(job, word)
    slot, operation = posts["slot"][job], program.operation_of_post[job]
    x[at] = NOBODY
    slots = config.array.rows // lanes
    for item in program.exported:
        sender = program.operation(item.operation)
        begin = item.place.bank * depth + item.place.base
        mine = (at >= begin) & (at < begin + item.words) & (operation == item.operation)
        there = np.zeros((item.words, slots), bool)
        there[at[mine] - begin, slot[mine]] = True
        channels = min(config.array.cols, sender.output[3] - item.tile * config.array.cols)
        _require(np.logical_and.reduce(there[:, : -(-channels // lanes)], axis=1), "X", item.place, f"rows of {item.tensor}")
        x[begin : begin + item.words] = state.owners.number(item.tensor)


def _require(there: Bools, kind: str, place: Place, what: str) -> None:
    if not there.all():
        at = place.base + int(np.argmin(there))
        raise ProgramError(f"{kind} bank {place.bank} address {at}: {what} should be there, and are not")
