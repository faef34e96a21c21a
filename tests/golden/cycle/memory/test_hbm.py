"""The recurrences of a channel of HBM, worked by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from podweave.golden.cycle.memory.hbm import DECERR, OKAY, SLVERR, ErrorRange, HbmChannel, Piece

PLAIN = {
    "latency": 10,
    "beat_sixteenths": 16,
    "row_bytes": 256,
    "banks": 2,
    "row_miss": 7,
    "refresh_interval": 0,
    "refresh_cycles": 0,
    "queue": 2,
    "jitter": 0,
    "seed": 1,
}


def channel(**changes: Any) -> HbmChannel:
    errors = changes.pop("errors", ())
    return HbmChannel(SimpleNamespace(**(PLAIN | changes)), beat_bytes=32, base=4096, end=1 << 20, errors=errors)


def test_rows_open_while_others_are_read() -> None:
    """24 beats from the middle of a row on: all three rows open at 3 + 10 + 7, though the third shares its bank with the first."""
    assert channel(banks=4).serve(3, 128, 24) == [Piece(16 * 20, 4), Piece(16 * 24, 8), Piece(16 * 32, 8), Piece(16 * 40, 4)]
    # With two banks, a row waits for the last beat of the one before in its bank, in cycles 24 and 32.
    assert channel(banks=2).serve(3, 128, 24) == [Piece(16 * 20, 4), Piece(16 * 24, 8), Piece(16 * 32, 8), Piece(16 * 40, 4)]
    assert channel(banks=1).serve(3, 128, 24) == [Piece(16 * 20, 4), Piece(16 * 31, 8), Piece(16 * 46, 8), Piece(16 * 61, 4)]


def test_an_open_row_is_hit_until_it_is_closed() -> None:
    memory = channel()
    assert memory.serve(0, 0, 1) == [Piece(16 * 17, 1)]
    assert memory.serve(100, 32, 1) == [Piece(16 * 110, 1)]
    # The same bank, another row; and back.
    assert memory.serve(101, 512, 1) == [Piece(16 * 118, 1)]
    assert memory.serve(102, 64, 1) == [Piece(16 * 126, 1)]


def test_beats_of_fractions_of_a_cycle() -> None:
    memory = channel(beat_sixteenths=20)
    first, second = memory.serve(0, 0, 3), memory.serve(0, 96, 1)
    assert (first, second) == ([Piece(272, 3)], [Piece(332, 1)])
    assert memory.last_cycle(first) == 20
    assert memory.first_cycle(second[0]) == 21


def test_jitter_is_the_published_xorshift32() -> None:
    """270369, 67634689, 2647435461, 307599695 from seed 1 (Marsaglia's 13, 17, 5), scaled to 0 ... 999."""
    memory = channel(jitter=999)
    starts = [memory.serve(10_000 * i, 0, 1)[0].start16 // 16 - 10_000 * i - 10 for i in range(4)]
    assert starts == [7 + 0, 15, 616, 71]


def test_refresh_waits_for_the_piece_under_way_and_closes_rows() -> None:
    memory = channel(refresh_interval=50, refresh_cycles=20)
    assert memory.serve(30, 0, 8) == [Piece(16 * 47, 8)]
    # The bus is busy to 55; then 20 cycles, and the row is opened again.
    assert memory.serve(30, 32, 1) == [Piece(16 * (55 + 20 + 7), 1)]
    # Of many refreshes since, only the last one matters.
    assert memory.serve(1005, 32, 1) == [Piece(16 * (1020 + 7), 1)]
    assert memory.serve(1025, 64, 1) == [Piece(16 * 1035, 1)]


def test_the_queue_holds_back_acceptance() -> None:
    memory = channel()
    assert [memory.read(i, 32 * i, 1) for i in range(3)] == [
        (0, [Piece(16 * 17, 1)]),
        (1, [Piece(16 * 18, 1)]),
        (18, [Piece(16 * 28, 1)]),
    ]
    assert [memory.write_ready(i) for i in range(3)] == [0, 0, None]
    assert [memory.write(5, 0, beats) for beats in (4, 1)] == [33, 34]
    assert [memory.write_ready(i) for i in range(2, 5)] == [34, 35, None]


def test_responses() -> None:
    memory = channel(errors=(ErrorRange(4100, 4101, SLVERR), ErrorRange(4096, 8192, DECERR)))
    assert [memory.response(a) for a in (4064, 4096, 4128, 8192, (1 << 20) - 32, 1 << 20)] == [
        *(DECERR, SLVERR, DECERR, OKAY, OKAY, DECERR),
    ]
    assert memory.crosses_page(4096 - 32, 2)
    assert not memory.crosses_page(4096 - 31, 1)


def test_cycles_of_beats() -> None:
    memory, pieces = channel(beat_sixteenths=24), [Piece(160, 2), Piece(400, 1)]
    assert [memory.beat_cycle(pieces, number) for number in range(3)] == [10, 12, 25]
    assert memory.last_cycle(pieces) == 25
    with pytest.raises(IndexError, match=r"^the burst has 1 beats too few$"):
        memory.beat_cycle(pieces, 3)
