"""compiler.rows.epoch: when passes and tiles are placed, and what they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.bank_words import EpochFullError
from podweave.compiler.rows.epoch import Epoch, Pass
from podweave.compiler.rows.passes import alike, uniform
from podweave.compiler.rows.tables import TileStep
from podweave.spec.jobs import Accumulate
from podweave.spec.row_functions import SCALAR_CYCLES, Destination, Scalar, Statistic
from tests.podweave.runs.row_jobs import small_chip

CHIP = small_chip()
NODES = range(CHIP.pods)


def epoch(share: float = 1.0) -> Epoch:
    zeros = np.zeros(CHIP.pods, np.int64)
    return Epoch(CHIP, 0, share, {"w": zeros, "set": zeros})


def work(**what: Any) -> Pass:
    """Three rows of two words, one P word each."""
    values: dict[str, Any] = {"operation": 0, "counts": (1, 2, 3), "strides": (0, 3, 1)}
    values |= {"bases": dict.fromkeys(NODES, (0, 100)), "sets": alike(NODES, uniform(4))}
    return Pass(**values | what)


def tile(into: Epoch, ready: int = 0, free: int = 0, **what: Any) -> int:
    """Six words from the first one on times a tile in each pod."""
    weights = {pod: into.weight_tiles(pod, np.zeros((1, 4, 4), np.uint8), "a")[0] for pod in NODES}
    values: dict[str, Any] = {"accumulate": Accumulate.BYPASS, "into": dict.fromkeys(NODES, 50)}
    return into.tile(TileStep(0, weights, 4, (0, 0, 6), **values | what), ready=ready, free=free)


def test_passes_follow_each_other() -> None:
    one = epoch()
    first, second = one.post(work(), 7), one.post(work(), 0)
    assert (first.start, first.read) == (7, 13)
    assert second.start == 13


def test_results_may_be_read_when_they_are_written() -> None:
    """The last of six words is read in cycle 5; in a P bank it can be read two cycles after it was written, in X banks the next."""
    latency = CHIP.post_latency
    own = epoch().post(work(destination=Destination.STORE, written=(3, 1)), 0)
    assert own.written == own.start + 5 + latency + 2
    into_x = epoch().post(work(destination=Destination.X, written=(3, 1)), 0)
    assert into_x.written == into_x.start + 5 + latency + 1


def test_results_wait_until_nobody_reads_what_they_write_over() -> None:
    done = epoch().post(work(destination=Destination.STORE, written=(3, 1)), 0, free=100)
    assert done.start + CHIP.post_latency == 100


def test_two_planes_need_two_cycles() -> None:
    done = epoch().post(work(destination=Destination.PLANES, written=(6, 2)), 0)
    assert done.read - done.start == 2 * 6


def test_the_last_plane_is_sent_before_the_next_word() -> None:
    """Windows of two words make planes without a pause; those of one that come next would send a word with the last plane."""
    one = epoch()
    planes = one.post(work(counts=(2, 2, 3), strides=(1, 6, 2), destination=Destination.PLANES, written=(6, 2)), 0)
    assert planes.read - planes.start == 2 * 6
    assert one.post(work(), 0).start == planes.read
    one = epoch()
    planes = one.post(work(counts=(2, 2, 3), strides=(1, 6, 2), destination=Destination.PLANES, written=(6, 2)), 0)
    assert one.post(work(destination=Destination.X, written=(3, 1)), 0).start == planes.read + 1


def test_scales_are_made_one_after_the_other() -> None:
    one = epoch()
    scaled = work(statistic=Statistic.SUM, scalar=Scalar.RSQRT)
    first, second = one.post(scaled, 0), one.post(scaled, 0)
    assert (np.diff(first.registers) >= SCALAR_CYCLES).all()
    assert second.registers[0] - first.registers[-1] >= SCALAR_CYCLES
    # A pass that reads them has its first word of a row read when that row's register is ready.
    reads = one.post(work(row_scale=True), 0, second.registers)
    assert (reads.start + 2 * np.arange(3) >= second.registers).all()


def test_words_that_are_added_do_not_read_when_others_are_read() -> None:
    """With windows of two words, some gap lets the read of a word that is added fall between them."""
    one = epoch()
    done = one.post(work(counts=(2, 2, 3), strides=(1, 6, 2), destination=Destination.ADD, written=(3, 1)), 0)
    period = (done.read - done.start) // 6
    assert (1 + CHIP.post_latency) % period >= 2
    # The next pass reads when the last word has been added.
    assert one.post(work(), 0).start > done.start + 5 * period + 1 + CHIP.post_latency


def test_tiles_wait_for_words_weights_and_places() -> None:
    to_bank = CHIP.write_latency + CHIP.network_latency
    one = epoch()
    # The first waits for its weights, four rows.
    assert tile(one) == 4 + 6 + to_bank + 1
    assert tile(one) == 10 + 6 + to_bank + 1
    assert tile(one, ready=40) == 40 + 6 + to_bank + 1
    assert tile(one, free=100) == 100 + 6 + 1


def test_pods_and_passes_share_the_ports_of_p_banks() -> None:
    one = epoch()
    read = one.post(work(counts=(1, 10, 10), strides=(0, 10, 1)), 0).read
    # Sums that are added need the read port.
    assert tile(one, adds=True) == read + 6 + 1


def test_what_does_not_fit() -> None:
    one = epoch(share=16 / CHIP.memory.w_words)
    tile(one), tile(one), tile(one), tile(one)
    mark = one.mark()
    with pytest.raises(EpochFullError, match=r"^an epoch needs 20 words of a W bank, more than its 16$"):
        tile(one)
    one.back_to(mark)
    one.take_all()
    tile(one)
    late = epoch()
    tile(late, ready=2**CHIP.pod.time_width)
    with pytest.raises(EpochFullError, match=r"^an epoch lasts \d+ cycles, more than time_width allows \(16777215\)$"):
        late.require_room()
    many = work(counts=(1, 1, 2**CHIP.pod.count_width))
    with pytest.raises(EpochFullError, match=r"^a job goes over 65536 rows, more than count_width allows \(65535\)$"):
        epoch().post(many, 0)


def test_going_back_undoes_all() -> None:
    one = epoch()
    tile(one)
    mark, words = one.mark(), len(one.words)
    tile(one), one.post(work(), 3)
    one.back_to(mark)
    other = epoch()
    tile(other)
    assert len(one.words) == words
    assert one.post(work(), 0).start == other.post(work(), 0).start
    assert [len(jobs["start"]) for jobs in one.jobs.tables()] == [2, 2, 2]


def test_equal_parameter_sets_are_there_once() -> None:
    one = epoch()
    sets = [uniform(4, 5), uniform(4, 6)]
    assert one.parameters(0, sets) == one.parameters(0, sets)
    assert one.parameters(0, sets[:1]) != one.parameters(0, sets)
    assert len(one.words) == 2


@pytest.mark.parametrize("before", range(4))
def test_tiles_on_both_sides_of_the_end_of_a_w_bank(before: int) -> None:
    """So many before it: what is loaded in one go is what lies side by side."""
    depth, zeros = CHIP.memory.w_words, np.zeros(CHIP.pods, np.int64)
    into = Epoch(CHIP, 0, 1.0, {"w": np.full(CHIP.pods, (depth - 4 * before) % depth), "set": zeros})
    content = np.arange(4 * 3 * 4, dtype=np.uint8).reshape(4, 3, 4)
    bases = into.weight_tiles(1, content, "a")
    fit = 4 * before // 3
    assert bases == [depth - 4 * before + 3 * i for i in range(fit)] + [3 * i for i in range(4 - fit)]
    found = {word.base: word.content for word in into.words}
    assert len(found) == len(into.words) == (1 if fit in (0, 4) else 2)
    for base, tile_content in zip(bases, content, strict=True):
        (begin,) = [begin for begin, words in found.items() if begin <= base < begin + len(words)]
        np.testing.assert_array_equal(found[begin][base - begin : base - begin + 3], tile_content)
