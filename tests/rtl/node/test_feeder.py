"""The feeder pushes what its store says, in order, one job per cycle, one epoch per fill."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from podweave.rtl.node.feeder import Feeder
from podweave.spec.layout import Field, Layout
from podweave.tb.benches.block_bench import BlockBench

JOB = Layout("test_job", (Field("payload", 12, ""),))
VALID, LAST = 1 << 12, 1 << 13


@functools.cache
def bench(depth: int) -> BlockBench:
    return BlockBench.of(Feeder(JOB, depth), {}, random_initial_state=True)


def run(depth: int, store: list[int], fills: list[int], ready: np.ndarray, rewinds: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """Write ``store`` in the first cycles; ``fills``, ``rewinds`` and ``ready`` count from after that."""
    lead, cycles = len(store), len(store) + len(ready)
    stimulus = {port.name: np.zeros(cycles, np.int64) for port in bench(depth).inputs}
    stimulus["host_write"][:lead] = 1
    stimulus["host_address"][:lead] = np.arange(lead)
    stimulus["host_data"][:lead] = store
    stimulus["fill"][[lead + at for at in fills]] = 1
    stimulus["rewind"][[lead + at for at in rewinds]] = 1
    stimulus["job_ready"][lead:] = ready
    observed = bench(depth).run(stimulus, seed=depth)
    return {name: values[lead:] for name, values in observed.items()}


def pushed(observed: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """(cycle, job) of every push."""
    return [(int(cycle), int(observed["job"][cycle])) for cycle in np.flatnonzero(observed["job_valid"])]


def test_one_job_per_cycle_from_two_cycles_after_the_fill() -> None:
    store = [VALID | 100 + i for i in range(7)] + [VALID | LAST | 107]
    observed = run(16, store, [3], np.ones(20, np.int64))
    assert pushed(observed) == [(5 + i, 100 + i) for i in range(8)]
    assert observed["done"].tolist() == [1] * 4 + [0] * 9 + [1] * 7


def test_words_without_valid_push_nothing_and_may_end_an_epoch() -> None:
    store = [VALID | 1, 2, VALID | 3, LAST | 4, LAST, VALID | LAST | 6]
    observed = run(16, store, [0, 10, 20], np.ones(30, np.int64))
    assert [job for _, job in pushed(observed)] == [1, 3, 6]
    assert [cycle for cycle, _ in pushed(observed)] == [2, 4, 22]
    assert observed["done"][[5, 6, 12, 13, 22, 23]].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("depth", [8, 13, 16])
def test_store_is_walked_in_order_around_its_end_and_rewound(depth: int) -> None:
    store = [VALID | i | (LAST if i in (4, depth - 2) else 0) for i in range(depth)]
    observed = run(depth, store, [0, 20, 40, 60], np.ones(80, np.int64), rewinds=(55,))
    first, second = list(range(5)), list(range(5, depth - 1))
    assert [job for _, job in pushed(observed)] == [*first, *second, depth - 1, *first, *first]


@pytest.mark.parametrize("depth", [16, 32])
def test_no_push_without_ready_and_none_lost(depth: int) -> None:
    rng = np.random.default_rng(5)
    store = [VALID | int(job) for job in rng.integers(0, 4096, depth - 2)]
    store[-1] |= LAST
    ready = rng.integers(0, 2, 4 * depth)
    observed = run(depth, store, [0], ready)
    assert not (observed["job_valid"] & ~ready & 1).any()
    assert [job for _, job in pushed(observed)] == [word & 4095 for word in store]


def test_words_without_valid_wait_for_no_one() -> None:
    """They are passed while nothing can be pushed: the job behind them goes in the first cycle in which it may."""
    ready = np.arange(30) >= 10
    observed = run(16, [2, 3, VALID | LAST | 4], [0], ready.astype(np.int64))
    assert pushed(observed) == [(10, 4)]
