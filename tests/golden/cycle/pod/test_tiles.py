"""golden.cycle.pod.tiles: jobs over several tiles, by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.pod.jobs import Pushes, Service
from podweave.golden.cycle.pod.tiles import legal_tiles, load_tiles, stream_tiles, with_tiles

HALT = 1000


def fields(**columns: int | list[int]) -> dict[str, NDArray[np.int64]]:
    return with_tiles(Pushes(np.zeros(1, np.int64), {k: np.atleast_1d(np.array(v)) for k, v in columns.items()})).fields


def begun(cycle: int) -> Service:
    return Service(np.zeros(1, np.int64), np.array([cycle]), np.zeros(1, np.int64))


def test_jobs_of_a_pod_without_tiles_have_one_each() -> None:
    found = with_tiles(Pushes(np.array([3, 5]), {"rows": np.array([2, 4])})).fields
    assert {name: values.tolist() for name, values in found.items()} == {
        "tiles": [1, 1],
        "period": [0, 0],
        "x_tile_step": [0, 0],
        "x_turn": [0, 0],
        "rows": [2, 4],
        # Nor does a job name the plane of a network that has one.
        **{name: [0, 0] for name in ("x_plane", "w_plane", "p_plane")},
    }


@pytest.mark.parametrize(("tiles", "period", "legal"), [(0, 5, False), (1, 0, True), (2, 0, False), (2, 1, True)])
def test_legal(tiles: int, period: int, legal: bool) -> None:
    assert legal_tiles(fields(tiles=tiles, period=period)).tolist() == [legal]


@pytest.mark.parametrize(
    ("period", "halt", "begins", "over", "late"),
    [
        # Three tiles of four rows each.
        (4, HALT, [10, 14, 18], 23, []),
        (9, HALT, [10, 19, 28], 33, []),
        (9, 27, [10, 19], None, []),
        (9, 28, [10, 19, 28], 33, []),
        (9, 10, [10], None, []),
        # The second is to begin while a row of the first is left.
        (3, HALT, [10], None, [13]),
        (3, 12, [10], None, []),
    ],
)
def test_when_tiles_begin(period: int, halt: int, begins: list[int], over: int | None, late: list[int]) -> None:
    job = fields(rows=4, w_base=100, w_step=-2, tiles=3, period=period)
    tiles = load_tiles(begun(10), job, halt=halt)
    assert (tiles.begin.tolist(), tiles.late.tolist()) == (begins, late)
    assert tiles.over[0] == over if over else tiles.over[0] > HALT
    assert tiles.fields["w_base"].tolist() == [100, 92, 84][: len(begins)]


STREAM = {"n0": 2, "n1": 1, "n2": 1, "tiles": 5, "period": 3, "x_bank": 6, "x_base": 20, "x_tile_step": 10}


@pytest.mark.parametrize(
    ("turn", "banks", "bases"),
    [
        (0, [6, 6, 6, 6, 6], [20, 30, 40, 50, 60]),
        (1, [6, 7, 6, 7, 6], [20, 20, 30, 30, 40]),
        (2, [6, 7, 4, 5, 6], [20, 20, 30, 30, 30]),
        (3, [6, 7, 0, 1, 2], [20, 20, 30, 30, 30]),
        (4, [6, 7, 8, 9, 10], [20, 20, 20, 20, 20]),
    ],
)
def test_banks_turn(turn: int, banks: list[int], bases: list[int]) -> None:
    found = stream_tiles(begun(0), fields(**STREAM, x_turn=turn, accumulate=1, emit=1), halt=HALT).fields
    assert (found["x_bank"].tolist(), found["x_base"].tolist()) == (banks, bases)


@pytest.mark.parametrize(
    ("accumulate", "emit", "codes", "emits"),
    [
        (1, 0, [1, 2, 2, 2, 2], [0, 0, 0, 0, 0]),
        (1, 1, [1, 2, 2, 2, 2], [0, 0, 0, 0, 1]),
        (2, 2, [2, 2, 2, 2, 2], [0, 0, 0, 0, 2]),
        (0, 0, [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        (0, 1, [0, 0, 0, 0, 0], [1, 2, 2, 2, 2]),
        (0, 2, [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]),
    ],
)
def test_codes_of_tiles(accumulate: int, emit: int, codes: list[int], emits: list[int]) -> None:
    found = stream_tiles(begun(0), fields(**STREAM, accumulate=accumulate, emit=emit), halt=HALT).fields
    assert (found["accumulate"].tolist(), found["emit"].tolist()) == (codes, emits)
