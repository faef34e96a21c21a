"""rtl.post.row_statistic: rows of any beats, against sums and maxima of all elements of a row at once."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace, held_at
from podweave.rtl.post.row_statistic import RowStatistic
from podweave.spec.row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH, Statistic
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError

pytestmark = pytest.mark.more

LANES, WIDTH, LEVEL_WIDTH = 2, 24, 2
CYCLES, LIMIT = 3000, 1 << WIDTH - 1


@functools.cache
def bench() -> BlockBench:
    shapes = {"there": (1, LANES, False), "values": (WIDTH, LANES, True), "sent_value": (STATISTIC_WIDTH, 0, True)}
    return BlockBench.of(RowStatistic(LANES, WIDTH, LEVEL_WIDTH), shapes, random_initial_state=True)


def case(seed: int) -> tuple[dict[str, NDArray], dict[str, PortTrace]]:
    """Rows of some beats with pauses, and beats that are none of a row; values that are small, large, or all but the same."""
    rng = np.random.default_rng(seed)
    near = rng.integers(-LIMIT, LIMIT, (CYCLES, 1)) & -(1 << 20) ^ 1 << rng.integers(0, WIDTH - 1, (CYCLES, LANES))
    values = np.where(rng.random((CYCLES, 1)) < 0.3, near, rng.integers(-LIMIT, LIMIT, (CYCLES, LANES)) >> rng.choice([0, 8, 22]))
    values = np.where(rng.random(values.shape) < 0.05, rng.choice([-LIMIT, LIMIT - 1], values.shape), values)
    s: dict[str, NDArray] = {
        "values": values,
        "there": rng.random((CYCLES, LANES)) < rng.choice([0.1, 0.8, 1], (CYCLES, 1)),
        "element": rng.integers(0, 1 << ELEMENT_WIDTH, CYCLES),
        "valid": rng.random(CYCLES) < 0.8,
        "statistic": rng.integers(0, 4, CYCLES),
        "level": rng.integers(0, 1 << LEVEL_WIDTH, CYCLES),
        "first": rng.integers(0, 2, CYCLES),
        "last": rng.integers(0, 2, CYCLES),
    }
    sent: list[tuple[int, ...]] = []
    beats = np.flatnonzero(s["valid"] & (s["statistic"] != Statistic.NONE)).tolist()
    while beats:
        length = min(len(beats), int(rng.choice([1, 1, 2, 3, 9])))
        row, beats = beats[:length], beats[length:]
        for name in ("statistic", "level"):
            s[name][row] = s[name][row[0]]
        s["first"][row], s["last"][row] = np.arange(length) == 0, np.arange(length) == length - 1
        if rng.random() < 0.3:
            # The same values once more in all beats: the first one that is the largest counts.
            s["values"][row] = s["values"][row[0]]
        kind = int(s["statistic"][row[0]])
        absent = 0 if kind == Statistic.SUM else -2 * LIMIT
        counted = np.where(s["there"][row], s["values"][row], absent)
        elements = (s["element"][row][:, None] + np.arange(LANES)) % (1 << ELEMENT_WIDTH)
        best = 0 if kind == Statistic.SUM else int(counted.argmax())
        value = counted.sum() if kind == Statistic.SUM else counted.max()
        sent.append((row[-1] + 2, kind, int(s["level"][row[0]]), int(value), int(elements.flat[best])))
    columns = np.array([each for each in sent if each[0] < CYCLES])
    valid = np.zeros(CYCLES, bool)
    valid[columns[:, 0]] = True
    expected = {"sent": PortTrace(valid.astype(np.int64), np.ones(CYCLES, bool))}
    for i, name in enumerate(("statistic", "level", "value", "element"), start=1):
        expected[f"sent_{name}"] = held_at(columns[:, i], columns[:, 0], valid)
    return s, expected


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_any_beats(seed: int) -> None:
    stimulus, expected = case(seed)
    bench().check(expected, bench().run(stimulus, seed=seed))
    assert expected["sent"].value.sum() > 300


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    stimulus, expected = case(1)
    observed = bench().run(stimulus, seed=1)
    for port in expected:
        values = observed[port].copy()
        values[-1] ^= 1
        with pytest.raises(LockstepError, match=f"port {port}"):
            bench().check(expected, {**observed, port: values})
