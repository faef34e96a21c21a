"""Counters of a node: events and waiting times by sums of NumPy, from a clear on and from any state."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.rtl.node.node_counters import COUNTER_WIDTH, NodeCounters
from podweave.spec.load_port import Counter
from podweave.tb.benches.block_bench import BlockBench

pytestmark = pytest.mark.more

LONG = 1 << 16
EVENTS = [counter.name.lower() for counter in Counter if counter != Counter.WAITING]
Values = dict[str, NDArray[np.int64]]


@functools.cache
def bench() -> BlockBench:
    return BlockBench.of(NodeCounters(), {}, random_initial_state=True, depth=LONG + 4096)


def random_events(cycles: int, seed: int) -> Values:
    rng = np.random.default_rng(seed)
    stimulus = {port.name: (rng.random(cycles) < rng.choice([0.2, 0.5, 0.9])).astype(np.int64) for port in bench().inputs}
    # Each counter is looked at for some cycles in a row, then the next.
    stimulus["select"] = np.arange(cycles) // 32 % len(Counter)
    stimulus["clear"][:] = 0
    return stimulus


def counts(stimulus: Values) -> NDArray[np.int64]:
    """What each counter has grown by before each cycle (cycles, counters), if nothing is waited for in the first cycle."""
    run, words = stimulus["run"], stimulus["x_words"]
    cycles = np.arange(len(run))
    # The last cycle before, or with, which there was nothing to wait for.
    idle = np.maximum.accumulate(np.where((run == 0) | (words == 1), cycles, -1))
    waited = np.concatenate([[0], (cycles - idle)[:-1]])
    grown = {**{name: stimulus[name] for name in EVENTS}, "waiting": waited * words}
    table = np.stack([grown[counter.name.lower()] for counter in Counter], axis=1)
    return np.concatenate([np.zeros((1, len(Counter)), np.int64), np.cumsum(table, axis=0)[:-1]])


def test_counts_since_a_clear() -> None:
    """The last words of a long wait are counted when it is over."""
    stimulus = random_events(LONG + 4000, 1)
    stimulus["x_words"][2000 : 2000 + LONG], stimulus["run"][2000 : 2001 + LONG] = 0, 1
    stimulus["x_words"][2000 + LONG] = 1
    cleared = np.array([5, 1200, 1000 + LONG // 2])
    stimulus["clear"][cleared], stimulus["x_words"][0] = 1, 1
    observed = bench().run(stimulus)["value"]
    grown = counts(stimulus)
    assert grown[-1].min() > 100
    assert grown[-1, Counter.WAITING] > LONG
    # An event in the cycle of a clear does not count.
    latest = np.searchsorted(cleared, np.arange(len(observed)) - 1, side="right") - 1
    since = grown - grown[cleared[latest] + 1]
    known = latest >= 0
    expected = since[np.arange(len(observed)), stimulus["select"]]
    np.testing.assert_array_equal(observed[known], expected[known])


def test_a_number_of_no_counter_shows_zero() -> None:
    stimulus = random_events(64, 3)
    stimulus["select"] = np.arange(64) % 16
    observed = bench().run(stimulus, reset=False)["value"]
    assert (observed[: len(Counter)] > 0).all()
    assert not observed[stimulus["select"] >= len(Counter)].any()


def test_counts_from_any_state_on() -> None:
    """Without a reset, counters begin with whatever they have, and wrap around."""
    for seed in range(4):
        stimulus = random_events(32 * 2 * len(Counter), seed)
        # What is waited for is not known before the first word; before there are inputs, a simulator may see an edge of the clock.
        stimulus["x_words"][:2] = 1
        observed = bench().run(stimulus, seed=seed, reset=False)["value"]
        grown, select = counts(stimulus), stimulus["select"]
        for first in range(0, len(select), 32):
            window = slice(max(first, 3), first + 32)
            difference = (observed[window] - observed[window.start]) % (1 << COUNTER_WIDTH)
            expected = grown[window, select[first]] - grown[window.start, select[first]]
            np.testing.assert_array_equal(difference, expected, Counter(select[first]).name)
