"""rtl.post.combiner: any words in any stages, against integers without limits."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip.rows import ROTATE, combined
from podweave.golden.cycle.ports import wrap
from podweave.rtl.post.combiner import Combiner
from podweave.spec.row_functions import Combine
from podweave.tb.benches.block_bench import BlockBench

pytestmark = pytest.mark.more

CYCLES = 2000


@functools.cache
def bench(lanes: int) -> BlockBench:
    shapes = {"values": (32, lanes, True), "results": (33, lanes, True), "row_value": (32, 0, True)}
    return BlockBench.of(Combiner(lanes), shapes, random_initial_state=True)


def words(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Small and large ones, and pairs of halves at the ends of their range."""
    value = rng.integers(-(1 << 31), 1 << 31, shape) >> rng.choice([0, 0, 16, 28], shape)
    ends = rng.choice([-(1 << 15), (1 << 15) - 1, 0, -1], (2, *shape))
    return np.where(rng.random(shape) < 0.1, wrap(ends[0] << 16 | ends[1] & 0xFFFF, 32), value)


@pytest.mark.parametrize("lanes", [2])
@pytest.mark.parametrize("seed", range(2))
def test_words_one_behind_the_other(lanes: int, seed: int) -> None:
    """A beat takes a cycle, one that is rotated two; pauses between them; what is taken from what, and whether, is random."""
    rng = np.random.default_rng([lanes, seed])
    stimulus: dict[str, NDArray] = {port.name: np.zeros(CYCLES, np.int64) for port in bench(lanes).inputs}
    # What stands at ports that no stage reads is not to be seen.
    stimulus["values"], stimulus["row_value"] = words(rng, (CYCLES, lanes)), words(rng, (CYCLES,))
    stimulus["combine"] = rng.integers(0, 3, CYCLES)
    for name in ("turns", "subtract"):
        stimulus[name] = rng.integers(0, 2, CYCLES)
    wanted: list[tuple[int, NDArray[np.int64]]] = []
    cycle = 0
    while cycle < CYCLES - 8:
        code = int(rng.integers(0, len(Combine)))
        first = cycle
        stimulus["combine"][first : first + 1 + (code == ROTATE)] = code
        if code == ROTATE:
            # The same words once more, and their difference is taken of the first products while the second ones are made.
            stimulus["stages"][first] |= 1
            stimulus["values"][first + 1] = stimulus["values"][first]
            stimulus["second"][first + 1] = 1
            cycle += 1
        stimulus["stages"][cycle] |= 1
        stimulus["stages"][cycle + 1] |= 2
        stimulus["turns"][cycle + 1] = code == ROTATE
        result = wrap(combined(stimulus["values"][first : first + 1], np.array([code])), 33)[0]
        if stimulus["subtract"][cycle + 1]:
            result = wrap(stimulus["row_value"][cycle + 1] - result, 33)
        wanted.append((cycle + 2, result))
        cycle += 1 + int(rng.choice([0, 0, 0, 1, 3]))
    observed = bench(lanes).run(stimulus, seed=seed)["results"]
    for (when, result), (following, _) in zip(wanted, [*wanted[1:], (CYCLES, None)], strict=True):
        # There until the next one.
        np.testing.assert_array_equal(observed[when:following], np.broadcast_to(result, (following - when, lanes)))
    assert len(wanted) > 500
