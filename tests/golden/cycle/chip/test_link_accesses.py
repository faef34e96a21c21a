"""The model of the collective engine's port of a chip, by hand: one access at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from podweave.golden.cycle.chip.link_accesses import P, X, link_read_data
from podweave.golden.cycle.ports import PortTrace

LATENCY = 5
CYCLES = 24


def trace(*table: tuple[int, dict[str, int], list[int]]) -> PortTrace:
    """Words of 2 lanes of 4 bits (P) or 1 lane of 8 (X): (cycle, ports, lanes of the data)."""
    ports: dict[str, Any] = {name: np.zeros(CYCLES, np.int64) for name in ("valid", "write", "add", "kind", "unit", "address")}
    data = np.zeros((CYCLES, 8), np.int64)
    for cycle, values, lanes in table:
        for name, value in {"valid": 1, **values}.items():
            ports[name][cycle] = value
        width = 8 // max(1, len(lanes))
        data[cycle, : width * len(lanes)] = [lane >> bit & 1 for lane in lanes for bit in range(width)]
    return link_read_data(latency=LATENCY, psum_width=4, cols=2, rows=1, data=data, **ports)


def word(trace: PortTrace, cycle: int) -> int:
    return int((trace.value[cycle] << np.arange(8)).sum())


def test_sums_wrap_and_words_are_apart() -> None:
    here = {"kind": P, "unit": 1, "address": 3}
    found = trace(
        (1, here | {"write": 1}, [7, 1]),
        (2, {"kind": P, "unit": 0, "address": 3, "write": 1}, [5, 5]),
        (3, {"kind": X, "unit": 1, "address": 3, "write": 1}, [0xC3]),
        (4, here | {"write": 1, "add": 1}, [1, 15]),
        (6, here, []),
        (7, {"kind": P, "unit": 0, "address": 3}, []),
        (8, {"kind": X, "unit": 1, "address": 3}, []),
    )
    # 7 + 1 is -8 in 4 bits, 1 - 1 is 0.
    assert [word(found, cycle + LATENCY) for cycle in (6, 7, 8)] == [0x08, 0x55, 0xC3]
    assert found.known.all()
    assert np.flatnonzero(found.value.any(axis=1)).tolist() == [11, 12, 13]


def test_what_was_never_stored_or_is_read_too_early_is_unknown() -> None:
    x, p = {"kind": X, "unit": 0, "address": 0}, {"kind": P, "unit": 0, "address": 0}
    found = trace(
        (0, p, []),
        (1, p | {"write": 1, "add": 1}, [1, 1]),
        (4, p, []),
        (5, p | {"write": 1}, [2, 2]),
        (6, p, []),
        (7, p, []),
        (8, x | {"write": 1, "add": 1}, [9]),
        (9, x, []),
        # Beyond the end of time.
        (CYCLES - 1, p, []),
    )
    assert np.flatnonzero(~found.known.any(axis=1)).tolist() == [0 + LATENCY, 4 + LATENCY, 6 + LATENCY]
    assert (word(found, 7 + LATENCY), word(found, 9 + LATENCY)) == (0x22, 9)


def test_nothing_is_read() -> None:
    found = trace()
    assert found.known.all()
    assert not found.value.any()
