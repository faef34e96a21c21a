"""compiler.rows.pool: words that all banks have free."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.rows.pool import Pool
from podweave.ir.layers import WorkloadError


def test_words_are_taken_once_and_are_free_when_they_are_given_back() -> None:
    pool = Pool("P", 10)
    (one, _), (two, _), (three, _) = (pool.take(n, "x") for n in (4, 3, 3))
    taken = [range(one, one + 4), range(two, two + 3), range(three, three + 3)]
    assert sorted(word for words in taken for word in words) == list(range(10))
    assert pool.largest == 0
    pool.give(two, 3, 17)
    assert pool.take(3, "y") == (two, 17)
    pool.give(two, 3, 17)
    pool.next_epoch()
    assert pool.take(3, "y") == (two, 0)


def test_those_that_are_free_first_are_taken() -> None:
    pool = Pool("X", 8)
    places = [pool.take(2, "x")[0] for _ in range(4)]
    # Not side by side: one piece each.
    for base, time in zip(sorted(places)[::2], (30, 20), strict=True):
        pool.give(base, 2, time)
    assert [pool.take(2, "y")[1] for _ in range(2)] == [20, 30]


def test_too_many_words() -> None:
    pool = Pool("P", 8)
    places = sorted(pool.take(2, "x")[0] for _ in range(4))
    pool.give(places[0], 2, 0)
    pool.give(places[2], 2, 0)
    sentence = r"^rows: every P bank must hold 3 words more, 1 more than are free in one piece \(2 of 8\)$"
    with pytest.raises(WorkloadError, match=sentence):
        pool.take(3, "rows")


def test_words_that_others_hold() -> None:
    """They are nobody else's, until they are given back."""
    pool, words = Pool("P", 10), np.zeros(10, bool)
    words[[2, 3, 7]] = True
    pool.hold(words)
    assert pool.gap == (4, 3)
    assert {pool.take(2, "x")[0], pool.take(3, "x")[0]} == {0, 4}
    assert np.flatnonzero(~pool.taken).tolist() == [8, 9]
    pool.free(words)
    assert pool.gap == (7, 3)
    assert pool.take(2, "x")[0] == 2
    pool.hold(~pool.taken)
    assert pool.gap == (0, 0)
    with pytest.raises(
        WorkloadError, match=r"^y: every P bank must hold 1 words more, 1 more than are free in one piece \(0 of 10\)$"
    ):
        pool.take(1, "y")
