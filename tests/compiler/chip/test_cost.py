"""compiler.chip.cost: what bounds leave out costs more than what is found, and simulations are those of a plain list of blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.cost import Trials, simulate
from podweave.compiler.chip.work import Work

PODS = 16
COSTS = ("job_cost", "tile_cost", "input_cost", "post_cost", "joined_cost", "load_cost")


def trials(rng: np.random.Generator, work: Work) -> Trials:
    """Mappings over some sizes of patches, with inputs that are there at any time."""
    patches = rng.integers(1, 40, rng.integers(1, 5))
    ways = [
        (size, 1 << side, 1 << split, 1 << abreast, near)
        for size in range(len(patches))
        for side in range(3)
        for split in range(3)
        for abreast in range(1 if work.strips else 5 - side - split)
        for near in ((False, True) if work.tiles > 1 << side and 1 << side + split + abreast < PODS else (False,))
    ]
    size, side, split, abreast, near = (np.array(column) for column in zip(*ways, strict=True))
    ready = [np.sort(rng.integers(0, rng.choice([1, 50, 5000]), count)) for count in patches]
    area = rng.integers(1, 200, len(patches))
    fresh = rng.choice([0.0, 0.5, 1.0], len(ways))
    strips = rng.integers(1, patches[size] + 1) if work.strips else patches[size]
    loaded = area[size] * -(-patches[size] // strips)
    sent = rng.integers(0, 400, len(patches))
    return Trials(
        work, PODS, 8, side, split, abreast, near, size, fresh, strips, loaded, patches, area, area, 2 * area, sent, ready
    )


def work(rng: np.random.Generator) -> Work:
    shared, own, units, tiles = rng.integers(1, 30), rng.integers(0, 4), rng.integers(0, 9), rng.integers(1, 12)
    costs = {name: float(rng.choice([0.0, 0.3, 20.0])) for name in COSTS}
    nothing = np.zeros((1, 1), np.int64)
    ways = {"windowed": bool(rng.integers(2)), "strips": bool(rng.integers(2))}
    return Work((1, 1, 1), int(tiles), int(shared), int(own), int(units), nothing, int(units) + 1, **ways, **costs)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1e6, 1e6), (300.0, 1e6), (-5.0, 40.0)]))
def test_found_is_the_cheapest_of_all(seed: int, room: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    found = trials(rng, work(rng))
    free = rng.integers(0, rng.choice([1, 100, 10_000]), PODS)
    rounds, lengths = found.gangs
    excess = found.excess_words(room)
    costs, bounds = [], found._bounds(free)
    together = -(-found.patches // found.strips)
    for i, (size, apart, abreast) in enumerate(zip(found.size, together, found.abreast, strict=True)):
        starts = found.ready[size][::apart].tolist()
        ready = [max(starts[first : first + abreast]) for first in range(0, len(starts), abreast)]
        begins = free.reshape(-1, found.block[i]).max(axis=1)
        finish, mean = simulate(begins, ready, int(rounds[i]), int(lengths[i]))
        assert bounds[i] <= (finish + mean) * (1 + 1e-9)
        memory = found.weight_cycles[i] + found.input_cycles[i] + found.post_cycles[i]
        needless = found.near[i] and excess[i - 1] == 0 and not found.work.strips
        costs.append(np.inf if needless else finish + mean + found.sending_cycles[i] + memory + 1e6 * excess[i])
    best = found.best(free, room)
    assert costs[best] <= min(costs) * (1 + 1e-9)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 90), min_size=1, max_size=6), st.lists(st.integers(0, 90), min_size=1, max_size=8), st.integers(1, 3)
)
def test_each_gang_takes_the_block_that_is_free_first(free: list[int], ready: list[int], rounds: int) -> None:
    blocks, ends, length = [max(time, min(ready)) for time in free], [], 7
    for time in ready:
        for _ in range(rounds):
            first = blocks.index(min(blocks))
            blocks[first] = max(blocks[first], time) + length
            ends.append(blocks[first])
    finish, mean = simulate(np.array(free), ready, rounds, length)
    assert finish == max(ends)
    assert mean == sum(blocks) / len(blocks) + 0.5 * sum(ends) / len(ends)
