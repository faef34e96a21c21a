"""Times of collectives in a ring that follow from the contract without any hardware."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

from podweave.golden.cycle.link.ring import ChipWalk, LinkRate, RingModel, collective_times
from podweave.golden.cycle.link.words import LinkGeometry, P, X

GEOMETRY = LinkGeometry(flits=(4, 2), buffer_words=64, read_latency=5)


def all_reduce(chips: int, words: int, rank: int) -> ChipWalk:
    """In a ring: reduce-scatter, then all-gather, of as even chunks as can be."""
    cuts = [words * i // chips for i in range(chips + 1)]
    sizes = [high - low for low, high in itertools.pairwise(cuts)]
    sent = [sizes[(rank - step) % chips] for step in range(2 * chips - 2)]
    before = np.cumsum([0, 0, *sent[1:]]).tolist()
    jobs = tuple((size, int(step > 0), before[step]) for step, size in enumerate(sent) if size)
    return ChipWalk(send=jobs, receive=sum(sizes[(rank - 1 - step) % chips] for step in range(2 * chips - 2)))


def test_one_word_goes_by_the_latencies() -> None:
    """Begin to read 3, read to data 1 + 5, to the flit 2, four flits 3, to the link 2, link 100, to the receiver 3, end 2."""
    walks = [ChipWalk(send=((1, 0, 0),)), ChipWalk(receive=1)]
    sender, receiver = collective_times(GEOMETRY, walks, [0, 0], LinkRate(latency=100))
    # The flits are handed on in cycles 11 to 14, the head in 4.
    assert sender == (14 + 2, 0, 5, 0)
    assert receiver == (14 + 2 + 100 + 3 + 2, 4 + 2 + 100 + 3 - 3, 0, 5)


def test_a_word_is_passed_on_at_once() -> None:
    """Over the same way with one more chip between: from its last flit there to its last flit here as the engine says."""
    rate = LinkRate(latency=10)
    two = collective_times(GEOMETRY, [ChipWalk(send=((1, 0, 0),)), ChipWalk(receive=1)], [0, 0], rate)
    walks = [ChipWalk(send=((1, 0, 0),)), ChipWalk(send=((1, 1, 0),), receive=1), ChipWalk(receive=1)]
    three = collective_times(GEOMETRY, walks, [0, 0, 0], rate)
    # Last flit taken to the read 2, to data 1 + 5, to the flit 2, three more flits 3, to the next receiver 2 + 10 + 3.
    assert three[2].over - two[1].over == 2 + 6 + 2 + 3 + 15


@pytest.mark.parametrize("chips", [2, 3, 4, 8, 16])
def test_the_bound_of_a_ring_is_reached(chips: int) -> None:
    words = 1024
    walks = [all_reduce(chips, words, rank) for rank in range(chips)]
    figures = collective_times(GEOMETRY, walks, [0] * chips, LinkRate(latency=100))
    bound = 2 * (chips - 1) * words * 4 // chips
    assert all(bound < each.over < bound + 130 for each in figures)
    assert sum(each.sent for each in figures) == sum(each.received for each in figures)


def test_what_one_chip_is_late_all_are() -> None:
    walks = [all_reduce(4, 100, rank) for rank in range(4)]
    together = collective_times(GEOMETRY, walks, [0] * 4, LinkRate(latency=20))
    late = collective_times(GEOMETRY, walks, [0, 0, 500, 0], LinkRate(latency=20))
    assert min(each.over for each in late) > 500
    assert max(each.over for each in late) <= max(each.over for each in together) + 500
    assert late[3].waits == together[3].waits + 500


@pytest.mark.parametrize("change", [{"beat_sixteenths": 40}, {"jitter": 50}, {"latency": 90}])
def test_a_worse_link_is_never_faster(change: dict[str, int]) -> None:
    walks = [all_reduce(3, 64, rank) for rank in range(3)]
    good = collective_times(GEOMETRY, walks, [0, 7, 3], LinkRate(latency=20))
    bad = collective_times(GEOMETRY, walks, [0, 7, 3], LinkRate(**{"latency": 20, **change}))
    assert all(slow.over > fast.over for slow, fast in zip(bad, good, strict=True))


def test_a_neighbour_that_starts_late_gives_its_credits_late() -> None:
    """The first word leaves when the first credit is there: start 2, link 30, counts 1; begin is long before."""
    walks = [ChipWalk(send=((1, 0, 0),)), ChipWalk(receive=1)]
    ring = RingModel(GEOMETRY, [LinkRate(latency=30)] * 2, [0, 400])
    sender, _ = ring.collective(walks, [10, 420])
    head = 400 + 2 + 30 + 1
    assert sender.over == head + 4 + 2


def test_a_run_has_collectives_in_a_row() -> None:
    """The second is that of a fresh ring, but for when it begins, if all is over before."""
    walks = [all_reduce(2, 200, rank) for rank in range(2)]
    ring = RingModel(GEOMETRY, [LinkRate(latency=25)] * 2, [0, 0])
    first = ring.collective(walks, [100, 100])
    begin = max(each.over for each in first) + 100
    second = ring.collective(walks, [begin, begin])
    assert [each.over - begin for each in second] == [each.over - 100 for each in first]


def test_what_does_not_fit_together_is_refused() -> None:
    rate = LinkRate(latency=1)
    with pytest.raises(ValueError, match="chip 0 sends 2 words of kind 0, the next one expects 1 of kind 0"):
        collective_times(GEOMETRY, [ChipWalk(send=((2, 0, 0),)), ChipWalk(receive=1)], [0, 0], rate)
    with pytest.raises(ValueError, match="of kind 1, the next one expects 1 of kind 0"):
        collective_times(GEOMETRY, [ChipWalk(send=((1, 0, 0),), kind=X), ChipWalk(receive=1, kind=P)], [0, 0], rate)
    stuck = [ChipWalk(send=((1, 1, 0),), receive=1)] * 2
    with pytest.raises(ValueError, match="chip 0 waits for ever for what it needs to send word 0"):
        collective_times(GEOMETRY, stuck, [0, 0], rate)


def split(walk: ChipWalk, at: int) -> ChipWalk:
    """The same words, each job in two."""
    jobs: list[tuple[int, int, int]] = []
    for words, follows, needs in walk.send:
        first = min(at, words - 1)
        jobs += [(first, follows, needs), (words - first, follows, needs + first * follows)] if first else [(words, follows, needs)]
    return ChipWalk(send=tuple(jobs), receive=walk.receive, kind=walk.kind)


@pytest.mark.parametrize("rate", [LinkRate(latency=100), LinkRate(latency=7, beat_sixteenths=40), LinkRate(latency=300)])
@pytest.mark.parametrize("flits", [(4, 2), (1, 1), (8, 2)])
def test_of_chips_that_are_alike_one_stands_for_all(rate: LinkRate, flits: tuple[int, int]) -> None:
    """All collectives of a run, against chips each by itself: those that are alike, and all from the first one on that is not."""
    rng = np.random.default_rng(flits[0])
    for chips, buffer_words in itertools.product((2, 3, 5, 8), (8, 64)):
        geometry = LinkGeometry(flits=flits, buffer_words=buffer_words, read_latency=5)
        rates = [LinkRate(latency=rate.latency, beat_sixteenths=rate.beat_sixteenths, seed=1 + i) for i in range(chips)]
        ring, apart = (RingModel(geometry, rates, [3] * chips) for _ in range(2))
        assert len(ring.links) == 1
        apart.links = [copy.deepcopy(apart.links[0]) for _ in range(chips)]
        now = 10
        for number, words in enumerate((chips * 40, chips, chips * 13, 7 * chips + 1, chips * 9)):
            walks = [split(all_reduce(chips, words, rank), 1 + rank) for rank in range(chips)]
            begins = [now] * chips
            found, expected = ring.collective(walks, begins), apart.collective(walks, begins)
            assert found == expected
            # The fourth cannot be shared out evenly.
            assert len(ring.links) == (1 if number < 3 else chips)
            now = max(each.over for each in found) + int(rng.integers(0, 30))


def test_chips_are_not_alike() -> None:
    """With starts, links or jitter that differ none stands for another; nor from a collective on that one begins later."""
    chips, rate = 3, LinkRate(latency=20)
    walks = [all_reduce(chips, 30, rank) for rank in range(chips)]
    assert len(RingModel(GEOMETRY, [rate] * chips, [0, 0, 1]).links) == chips
    assert len(RingModel(GEOMETRY, [rate, rate, LinkRate(latency=21)], [0] * chips).links) == chips
    assert len(RingModel(GEOMETRY, [LinkRate(latency=20, jitter=1)] * chips, [0] * chips).links) == chips
    ring, apart = (RingModel(GEOMETRY, [rate] * chips, [0] * chips) for _ in range(2))
    apart.links = [copy.deepcopy(apart.links[0]) for _ in range(chips)]
    for begins in ([50] * chips, [400, 400, 407], [900] * chips):
        assert ring.collective(walks, begins) == apart.collective(walks, begins)
