"""Jobs over several weight tiles: each tile that begins, as a job of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .jobs import Pushes, Service

BYPASS, INIT, ADD = 0, 1, 2
NONE, STORE, ACCUMULATE = 0, 1, 2
ADVANCES = {"tiles": 1, "period": 0, "x_tile_step": 0, "x_turn": 0}
"""What says how a job goes from tile to tile, and its values for a job of one tile."""
PLANES = ("w_plane", "x_plane", "p_plane")

Fields = Mapping[str, NDArray[np.int64]]
_NEVER = 1 << 40


@dataclass(frozen=True)
class Tiles:
    """Tiles that began, in order. ``fields``: those of the job that is this tile alone. ``begin``: one cycle before it requests.
    ``over``: of each job that began, the cycle behind its last word; beyond all time if one of its tiles never begins. ``late``:
    cycles in which a tile was to begin while words of the one before were left.
    """

    fields: dict[str, NDArray[np.int64]]
    begin: NDArray[np.int64]
    over: NDArray[np.int64]
    late: NDArray[np.int64]


def with_tiles(pushes: Pushes) -> Pushes:
    """The same jobs; those of a pod without tiles have one each, and those on a network of one plane are on plane 0."""
    count = len(pushes.cycle)
    return Pushes(
        pushes.cycle,
        {name: np.full(count, value) for name, value in {**ADVANCES, **dict.fromkeys(PLANES, 0)}.items()} | pushes.fields,
    )


def in_time(fields: Fields) -> Service:
    """Jobs that begin when they should, as those of a program without an error do; cycle 0 is epoch time 0."""
    return Service(np.arange(len(fields["start"])), fields["start"] - 1, np.zeros(0, np.int64))


def words_of(fields: Fields) -> NDArray[np.int64]:
    """Words of a tile of stream jobs."""
    return fields["n0"] * fields["n1"] * fields["n2"]


def legal_tiles(fields: Fields) -> NDArray[np.bool_]:
    return (fields["tiles"] >= 1) & ((fields["tiles"] == 1) | (fields["period"] >= 1))


def taken(fields: Fields, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cycles from the first request of a job to its last, both counted, if no tile is late."""
    return (fields["tiles"] - 1) * fields["period"] + words


def load_tiles(service: Service, fields: Fields, *, halt: int = _NEVER) -> Tiles:
    """Of load jobs that began: addresses go on from tile to tile as from row to row. No tile begins after cycle ``halt``."""
    tiles, number = _begun(service, fields, fields["rows"], halt)
    mine = tiles.fields
    mine["w_base"] = mine["w_base"] + number * mine["rows"] * mine["w_step"]
    return tiles


def stream_tiles(service: Service, fields: Fields, *, halt: int = _NEVER) -> Tiles:
    """Of stream jobs that began. No tile begins after cycle ``halt``.

    The X bank turns among 2**x_turn banks, and the X address advances when it is back at the first of them. The sums of a tile go
    where those of the one before went: into accumulators, of which only the last tile emits, or else straight into the P bank.
    """
    tiles, number = _begun(service, fields, words_of(fields), halt)
    mine = tiles.fields
    among = (1 << mine["x_turn"]) - 1
    turned = (mine["x_bank"] & among) + number
    mine["x_bank"] = mine["x_bank"] & ~among | turned & among
    mine["x_base"] = mine["x_base"] + (turned >> mine["x_turn"]) * mine["x_tile_step"]
    local, again = mine["accumulate"] != BYPASS, number > 0
    mine["accumulate"] = np.where(local & again, ADD, mine["accumulate"])
    added = again & ~local & (mine["emit"] == STORE)
    mine["emit"] = np.where(local & (number < mine["tiles"] - 1), NONE, np.where(added, ACCUMULATE, mine["emit"]))
    return tiles


def _begun(service: Service, fields: Fields, words: NDArray[np.int64], halt: int) -> tuple[Tiles, NDArray[np.int64]]:
    """Tiles that begin, each with all fields of its job, and their numbers in it: none begins after one that is late."""
    count, period, length = (values[service.job] for values in (fields["tiles"], fields["period"], words))
    overrun = (count > 1) & (period < length)
    reached = 1 + np.maximum(0, halt - service.begin) // np.maximum(1, period)
    begun = np.where(overrun, 1, np.minimum(count, reached))
    number = np.arange(int(begun.sum())) - np.repeat(np.cumsum(begun) - begun, begun)
    begin = np.repeat(service.begin, begun) + number * np.repeat(period, begun)
    over = np.where(begun == count, service.begin + 1 + taken(fields, words)[service.job], _NEVER)
    late = (service.begin + period)[overrun]
    job = np.repeat(service.job, begun)
    return Tiles({name: values[job] for name, values in fields.items()}, begin, over, late[late <= halt]), number
