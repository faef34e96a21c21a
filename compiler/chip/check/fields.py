"""Jobs one by one, and the stores that hold them: field widths, legal values, addresses, and the times of each engine."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from podweave.spec.jobs import Accumulate, Emit

from ...jobs import ProgramError
from ..bank_words import zero_word
from ..epoch_program import ConstantSet, job_fields
from .jobs import NEVER, Bools, Ints, JobView, ProgramView, Walk

# In the place of the operation that a set of parameters is of.
_CONSTANT = -2


def check_values(view: JobView) -> None:
    """Raises `ProgramError` for a field of a job that does not hold its value, or a value that the hardware refuses."""
    _field_widths(view)
    _legal_values(view)


def check_fields(view: ProgramView) -> None:
    """Raises `ProgramError` for a job of a tile with an address that is not there."""
    _addresses(view, _parameter_sets(view))
    _tables(view)


def _field_widths(view: JobView) -> None:
    for name, fields in job_fields(view.config).items():
        kind = name[:-1]
        jobs = view.jobs(kind)
        for field in fields:
            low = -(1 << (field.width - 1)) if field.signed else 0
            high = (1 << (field.width - field.signed)) - 1
            values = jobs[field.name]
            view.refuse(
                (values < low) | (values > high),
                kind,
                lambda i, f=field, v=values, lo=low, hi=high: (  # type: ignore[misc]
                    f"{f.name} is {v[i]}, but its field holds {lo} to {hi}"
                ),
            )


def _legal_values(view: JobView) -> None:
    config, memory, post = view.config, view.config.memory, view.config.post
    pods, lanes = config.pods, config.post_lanes
    for kind, unit in (("load", "pod"), ("stream", "pod"), ("post", "bank")):
        inside(view, kind, unit, 0, pods - 1)
    for kind, name, planes in (("load", "w", memory.w_planes), ("stream", "x", memory.x_planes), ("post", "x", memory.y_planes)):
        inside(view, kind, f"{name}_bank", 0, pods - 1)
        inside(view, kind, f"{name}_plane", 0, planes - 1)
    inside(view, "load", "rows", 1, config.array.rows)
    for loop in range(3):
        inside(view, "stream", f"n{loop}", 1, NEVER)
    _tiles(view)
    inside(view, "stream", "accumulate", 0, int(Accumulate.ADD if config.pod.accumulator_rows else Accumulate.BYPASS))
    inside(view, "stream", "emit", 0, int(Emit.ACCUMULATE))
    for name, count in (("p_bank", pods), ("p_plane", memory.p_planes)):
        wrong = view.emits & (view.streams[name] >= count)
        view.refuse(wrong, "stream", lambda i, n=name, c=count: f"{n} is {view.streams[n][i]}, must be 0 to {c - 1}")  # type: ignore[misc]
    for loop in range(4):
        inside(view, "post", f"n{loop}", 1, NEVER)
    inside(view, "post", "parameters", 0, post.parameter_sets - 1)
    inside(view, "post", "table", 0, post.tables - 1)
    inside(view, "post", "slice", 0, config.array.cols // lanes - 1)
    inside(view, "post", "slot", 0, config.array.rows // lanes - 1)
    stores = (("load", "pod", "load_jobs"), ("stream", "pod", "stream_jobs"), ("post", "bank", "post_jobs"))
    for kind, unit, name in stores:
        jobs, limit = view.jobs(kind), getattr(config.program, name)
        held = np.bincount(jobs[unit], minlength=pods)
        if held.max() > limit:
            raise ProgramError(f"{unit} {held.argmax()} has {held.max()} {kind} jobs, {held.max() - limit} more than {name}")


def _tiles(view: JobView) -> None:
    most = max(1, (1 << view.config.pod.tile_width) - 1)
    for kind in ("load", "stream"):
        jobs = view.jobs(kind)
        inside(view, kind, "tiles", 1, most)
        endless = (jobs["tiles"] > 1) & (jobs["period"] < 1)
        view.refuse(endless, kind, lambda i, j=jobs: f"has {j['tiles'][i]} tiles, but a period of {j['period'][i]}")  # type: ignore[misc]
    streams = view.streams
    view.refuse((streams["tiles"] > 1) & (streams["swap"] == 0), "stream", lambda _: "has several tiles, but swaps no weights in")
    inside(view, "stream", "x_turn", 0, view.config.memory.banks.bit_length() - 1)
    last = streams["x_bank"] | (1 << streams["x_turn"]) - 1
    outside = last >= view.config.memory.banks
    view.refuse(outside, "stream", lambda i: f"turns to X bank {last[i]}, must be 0 to {view.config.memory.banks - 1}")


def inside(view: JobView, kind: str, name: str, low: int, high: int) -> None:
    """Raises `ProgramError` for a job with a value of a field that is not between two."""
    values = view.jobs(kind)[name]
    view.refuse((values < low) | (values > high), kind, lambda i: f"{name} is {values[i]}, must be {low} to {high}")


def addresses_inside(view: JobView, walks: Iterable[tuple[str, str, Walk, int | Ints, Bools]]) -> None:
    """Raises `ProgramError` for a job with an address, or an accumulator row, that is not there.

    ``walks``: kind of the jobs, what their addresses are of, the addresses, how many there are (for all jobs or for each), and
    which jobs use any.
    """
    for kind, what, walk, words, counts in walks:
        low, high = walk.extremes()
        limit = np.broadcast_to(words, low.shape)
        view.refuse(
            counts & ((low < 0) | (high >= limit)),
            kind,
            lambda i, w=what, lo=low, hi=high, n=limit: (  # type: ignore[misc]
                f"{w} {lo[i] if lo[i] < 0 else hi[i]} is outside of 0 to {n[i] - 1}"
            ),
        )
    streams, rows = view.streams, view.config.pod.accumulator_rows
    end = streams["accumulator_base"] + view.streamed
    wrong = (streams["accumulate"] != Accumulate.BYPASS) & (end > rows)
    view.refuse(wrong, "stream", lambda i: f"accumulator row {end[i] - 1} is outside of 0 to {rows - 1}")


def _parameter_sets(view: ProgramView) -> Bools:
    """Which post jobs have a constant set."""
    post = view.config.post
    held = np.full(view.config.pods * post.parameter_sets, -1, np.int64)
    for item in view.program.parameters:
        if not (0 <= item.bank < view.config.pods and 0 <= item.index < post.parameter_sets):
            raise ProgramError(f"there is no parameter set {item.index} of bank {item.bank}")
        at = item.bank * post.parameter_sets + item.index
        if held[at] != -1:
            raise ProgramError(f"parameter set {item.index} of bank {item.bank} is loaded twice")
        held[at] = _CONSTANT if isinstance(item, ConstantSet) else item.operation
    operation = held[view.posts["bank"] * post.parameter_sets + view.posts["parameters"]]
    pads = operation == _CONSTANT
    wrong = (operation != view.program.operation_of_post) & ~pads
    view.refuse(wrong, "post", lambda i: f"parameter set {view.posts['parameters'][i]} is not one of its operation")
    return pads


def _tables(view: ProgramView) -> None:
    held = np.zeros(view.config.post.tables, bool)
    for slot in view.program.tables:
        if not 0 <= slot < len(held):
            raise ProgramError(f"there is no table {slot}")
        held[slot] = True
    wrong = (view.posts["activate"] == 1) & ~held[view.posts["table"]]
    view.refuse(wrong, "post", lambda i: f"looks up table {view.posts['table'][i]}, which nobody has loaded")


def _addresses(view: ProgramView, pads: Bools) -> None:
    memory = view.config.memory
    walks = (
        ("load", "W address", view.w_walk, memory.w_words, view.loads["rows"] > 0),
        ("stream", "X address", view.x_walk, memory.x_words, view.streamed > 0),
        ("stream", "P address", view.p_walk, zero_word(view.config), view.emits),
        ("post", "P address", view.read_walk, zero_word(view.config), ~pads),
        ("post", "X address", view.sent_walk, memory.x_words, view.read > 0),
    )
    addresses_inside(view, walks)
    low, high = view.read_walk.extremes()
    zero = zero_word(view.config)
    wrong = pads & ((low != zero) | (high != zero))
    view.refuse(wrong, "post", lambda i: f"has a constant set, but reads P address {low[i]}, not the zero word ({zero})")


def check_engines(view: JobView) -> None:
    """Raises `ProgramError` for a job that begins before the last of its engine ends, or an epoch that lasts too long."""
    config, final = view.config, -1
    engines = (
        ("load", "pod", view.loads["rows"], 0),
        ("stream", "pod", view.streamed, config.write_latency),
        ("post", "bank", view.post_cycles, config.post_latency - (config.post_beats - 1)),
    )
    for kind, unit, length, latency in engines:
        jobs = view.jobs(kind)
        units, start, end = jobs[unit], jobs["start"], jobs["start"] + length
        same = units[1:] == units[:-1]
        wrong = (units[1:] < units[:-1]) | (same & (start[1:] < end[:-1]))
        view.refuse(
            np.concatenate([[False], wrong]),
            kind,
            lambda i, k=kind, e=end: f"starts before {view.name(k, i - 1)} has ended, in cycle {e[i - 1] - 1}",  # type: ignore[misc]
        )
        final = max(final, int(end.max(initial=0)) - 1 + latency)
    limit = 2**config.pod.time_width - 1
    if final + config.epoch_overhead > limit:
        raise ProgramError(f"the epoch lasts {final + config.epoch_overhead} cycles, more than time_width allows ({limit})")
