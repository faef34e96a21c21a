"""Jobs one by one: values that the hardware refuses, addresses, and what they take of what is loaded."""

from __future__ import annotations

import numpy as np

from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import Combine, Destination, Scalar

from ...chip.bank_words import zero_word
from ...chip.check.fields import addresses_inside, inside
from ...chip.check.jobs import Bools, Ints, expand
from .state import NAMES, State
from .view import RowView


def check_row_values(view: RowView) -> None:
    """Raises `ProgramError` for a value of a field of row functions that the hardware refuses."""
    posts, post = view.posts, view.config.post
    inside(view, "post", "combine", 0, max(Combine))
    inside(view, "post", "destination", 0, max(Destination))
    inside(view, "post", "scalar", 0, max(Scalar))
    inside(view, "post", "level", 0, view.config.network_stages)
    view.refuse(
        (posts["wide_table"] == 1) & (posts["table"] % 2 == 1),
        "post",
        lambda i: f"table {posts['table'][i]} is wide, but not even",
    )
    planes = posts["destination"] == Destination.PLANES
    view.refuse(planes & (view.period < 2), "post", lambda _: "sends two words in each cycle")
    ends = (
        ("parameters", True, posts["parameters"] + posts["parameters_step"] * (posts["n2"] - 1), post.parameter_sets),
        ("row", _uses_registers(view), posts["row"] + posts["n3"] - 1, post.row_registers),
        ("length", posts["masked"] == 1, posts["length"] + posts["length_step"] * (posts["n3"] - 1), post.row_registers),
    )
    for name, counts, end, limit in ends:
        view.refuse(
            counts & (end >= limit),
            "post",
            lambda i, n=name, e=end, lim=limit: f"{n} goes up to {e[i]}, must be at most {lim - 1}",  # type: ignore[misc]
        )


def _uses_registers(view: RowView) -> Bools:
    return (view.posts["subtract"] == 1) | (view.posts["row_scale"] == 1) | view.counts


def check_row_addresses(view: RowView) -> None:
    """Raises `ProgramError` for a job of a tile with an address that is not there; the last word of a P bank, which is always 0, is
    only for jobs that read nothing else."""
    memory, posts = view.config.memory, view.posts
    zero, planes = zero_word(view.config), posts["destination"] == Destination.PLANES
    only_zero = view.read_walk.extremes()[0] == zero
    walks = (
        ("load", "W address", view.w_walk, memory.w_words, view.loads["rows"] > 0),
        ("stream", "X address", view.x_walk, memory.x_words, view.streamed > 0),
        ("stream", "P address", view.p_walk, zero, view.emits),
        ("post", "P address", view.read_walk, zero + only_zero, view.read > 0),
        ("post", "X address", view.sent_walk, memory.x_words - planes, view.into_x),
        ("post", "own P address", view.sent_walk, zero, view.own),
    )
    addresses_inside(view, walks)


def check_loaded(view: RowView, state: State, epoch: int, tables: int) -> None:
    """Raises `ProgramError` for weights, parameter sets, lengths or tables that nobody has loaded."""
    posts, loads = view.posts, view.loads
    jobs = np.arange(len(posts["start"]))
    job, word = expand(np.arange(len(loads["start"])), loads["rows"])
    bank, at = loads["w_bank"][job], view.w_walk.at(job, word)
    _use(view, state, epoch, HostSelect.W, "load", job, bank, at)
    tile = state.tile[bank, at]
    apart = (tile != tile[np.cumsum(loads["rows"])[job] - loads["rows"][job]]) | (state.row_of_tile[bank, at] != word)
    wrong = np.zeros(len(loads["start"]), bool)
    wrong[job[apart]] = True
    view.refuse(wrong, "load", lambda i: f"words of W bank {bank[job == i][0]} from {at[job == i][0]} on are not one weight tile")
    job, word = expand(jobs, np.where(posts["parameters_step"] == 1, posts["n2"], 1))
    _use(view, state, epoch, HostSelect.PARAMETERS, "post", job, posts["bank"][job], posts["parameters"][job] + word)
    masked = np.flatnonzero(posts["masked"] == 1)
    job, word = expand(masked, np.where(posts["length_step"] == 1, posts["n3"], 1)[masked])
    _use(view, state, epoch, HostSelect.LENGTHS, "post", job, posts["bank"][job], posts["length"][job] + word)
    last = posts["table"] + posts["wide_table"]
    wrong = (posts["activate"] == 1) & (last >= tables)
    view.refuse(wrong, "post", lambda i: f"looks up table {last[i]}, which nobody has loaded")


def _use(view: RowView, state: State, epoch: int, select: HostSelect, kind: str, job: Ints, node: Ints, word: Ints) -> None:
    missing = np.flatnonzero(state.use(select, epoch, node, word))
    wrong = np.zeros(len(view.jobs(kind)["start"]), bool)
    wrong[job[missing]] = True
    first = dict(zip(job[missing[::-1]].tolist(), missing[::-1].tolist(), strict=True))
    view.refuse(wrong, kind, lambda i: f"takes {NAMES[select]} {word[first[i]]} of node {node[first[i]]}, which nobody has loaded")
