"""Random graphs of layers and operations on rows: bit-exact, with exactly the predicted cycles and counters, by programs that break
no rule."""

from __future__ import annotations

import pytest

from podweave.fuzz.random_mixed import random_mixed
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.test_random_rows import run

CONFIG = small_chip().replace(tables=8)


def test_random_graphs() -> None:
    run([random_mixed(seed) for seed in range(20)], CONFIG)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(20, 220, 25))
def test_many_random_graphs(first: int) -> None:
    run([random_mixed(seed) for seed in range(first, first + 25)], CONFIG)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 80, 20))
def test_random_graphs_on_a_chip_with_little_of_everything(first: int) -> None:
    """Four nodes; sums in pieces, many epochs, half a word requantised per cycle."""
    few = {"time_width": 11, "w_words": 320, "post_jobs": 32, "parameter_sets": 24, "accumulator_rows": 7, "tile_width": 2}
    jobs = [random_mixed(seed) for seed in range(first, first + 20)]
    run(jobs, CONFIG.replace(pods=4, banks=4, managers=2, y_planes=2, lanes=2, **few))
