"""Random graphs of layers and operations on rows: bit-exact, with exactly the predicted cycles and counters, by programs that break
no rule."""

from __future__ import annotations

import pytest

from tests.podweave.runs.random_mixed import random_mixed
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.test_random_rows import run


def test_random_graphs() -> None:
    run([random_mixed(seed) for seed in range(20)], small_chip().replace(tables=8))


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(20, 220, 25))
def test_many_random_graphs(first: int) -> None:
    run([random_mixed(seed) for seed in range(first, first + 25)], small_chip().replace(tables=8))
