"""The count of prefetched words alone: tags of all bits, sums that wrap around, and no more tags than there is room for."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from podweave.rtl.prefetch.engine_words import WORDS_WIDTH
from podweave.rtl.prefetch.prefetch_count import PREFETCH_TAGS, UNCONSUMED_WIDTH, PrefetchCount
from podweave.spec.descriptors import TAG_WIDTH
from podweave.tb.benches.block_bench import BlockBench

pytestmark = pytest.mark.more

CYCLES = 16000
MOST_TAG = (1 << TAG_WIDTH) - 1


def test_words_of_tags_are_counted_until_their_epoch_is_next() -> None:
    bench = BlockBench.of(PrefetchCount(), {}, random_initial_state=True, depth=CYCLES)
    rng = np.random.default_rng(6)
    given = {port.name: np.zeros(CYCLES, np.int64) for port in bench.inputs}
    room, unconsumed = np.zeros(CYCLES, bool), np.zeros(CYCLES, np.int64)
    # Tags with their words, the oldest first.
    counted: deque[tuple[int, int]] = deque()
    tag = done = total = full = 0
    lead = 4
    for cycle in range(CYCLES):
        clear = cycle == 0 or rng.random() < 0.004
        if rng.random() < 0.01:
            lead = int(rng.choice([2, 10, 25, 60]))
        far = tag - done
        step = int(rng.choice([1, 2, 1 << int(rng.integers(16))], p=[0.75, 0.15, 0.1]))
        tag = min(tag + step * int(rng.random() < 0.3), MOST_TAG)
        if rng.random() < (0.6 if far > lead else 0.05):
            done = min(done + int(rng.choice([1, 1, 2, max(1, far)])), MOST_TAG)
        words = int(rng.integers(1 << int(rng.integers(1, WORDS_WIDTH + 1))))
        fits = len(counted) < PREFETCH_TAGS or counted[-1][0] == tag
        add = int(fits and rng.random() < 0.7)
        for name, value in (("clear", clear), ("epochs_done", done), ("tag", tag), ("add", add), ("words", words)):
            given[name][cycle] = value
        room[cycle], unconsumed[cycle] = fits, total % (1 << UNCONSUMED_WIDTH)
        full += not fits
        expired = counted[0] if counted and counted[0][0] <= done else None
        if add and tag > done:
            total += words
            if counted and counted[-1][0] == tag:
                counted[-1] = tag, counted[-1][1] + words
            else:
                counted.append((tag, words))
        if expired:
            total -= expired[1]
            counted.popleft()
        if clear:
            tag = int(rng.integers(1 << int(rng.integers(1, TAG_WIDTH + 1))))
            done, total = int(rng.integers(tag + 1)), 0
            counted.clear()
    observed = bench.run(given)
    np.testing.assert_array_equal(observed["room"][1:], room[1:])
    np.testing.assert_array_equal(observed["unconsumed"][1:], unconsumed[1:])
    assert full > 200
    assert given["tag"].max() == MOST_TAG
    assert (np.diff(unconsumed) < 0).sum() > 1000
