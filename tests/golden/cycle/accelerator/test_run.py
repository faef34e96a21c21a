"""The cycle model of a run: epochs wait for the words of all engines, and engines for epochs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from podweave.golden.cycle.accelerator.run import EngineProgram, RunFigures, finished, run_steps
from podweave.golden.cycle.memory.hbm import HbmChannel
from podweave.golden.cycle.prefetch.words import LOAD, Descriptor, EngineGeometry, Target
from podweave.predict.memory_timing import HbmTiming

PLAIN = HbmTiming(latency=10, row_miss=0, refresh_interval=0, refresh_cycles=0, queue=200)
GEOMETRY = EngineGeometry(
    beat_bytes=64,
    address_width=34,
    buffer_beats=256,
    max_burst=32,
    outstanding=128,
    descriptors=4,
    nodes=2,
    host_levels=1,
    read_latency=5,
    targets={0: Target(1 << 16, 64, 1, 64), 1: Target(1 << 16, 64, 1, 64)},
    storable=(),
    epoch_banks=(0,),
)
X, W = 0, 1
FILL = 8


def load(words: int, tag: int, select: int = W) -> Descriptor:
    return Descriptor(kind=LOAD, select=select, address=(1 << 20) + (tag << 16), n0=words, n1=1, n2=1, step0=1, tag=tag, last=1)


def run(words: list[list[int]], epochs: list[int], *, select: int = W, **options: Any) -> RunFigures:
    """Each engine prefetches so many words for each epoch."""
    return finished(steps(words, epochs, select=select, **options))


def steps(
    words: list[list[int]], epochs: Sequence[int | None], *, select: int = W, **options: Any
) -> Generator[int, int, RunFigures]:
    """The same; collectives are None."""
    programs = []
    for amounts in words:
        prefetch = [load(n, tag, select) for tag, n in enumerate(amounts)] + [Descriptor(tag=len(amounts), last=1)]
        demand = [Descriptor(tag=tag, last=1) for tag in range(len(amounts) + 1)]
        channel = HbmChannel(PLAIN, beat_bytes=64, end=1 << 30)
        programs.append(EngineProgram((demand, prefetch), (0, 1 << 16), channel))
    return run_steps(GEOMETRY, programs, epochs, fill_cycles=FILL, memory_bytes=1 << 30, **options)


def test_an_epoch_of_one_engine() -> None:
    """Cycles of the engine are 2 behind. Its prefetch ring is fetched after the demand ring: descriptors one each 2 cycles, checked
    one each 12."""
    figures = run([[3]], [100])
    (epoch,) = figures.epochs
    # Requests are issued in 1, 3, 5, 7; the third descriptor, the load, is on R in 16, and checked from 40 on, its head is there in
    # 53 and taken in 54; R has its words in 68, 69, 70, popped until 72, complete in 77.
    assert epoch.loaded == 77 + 2
    # Known in 80, the epoch begins in the cycle after; 8 cycles of fill, 100 of the epoch.
    assert (epoch.begins, epoch.ends) == (81, 81 + FILL + 100 - 1)
    assert figures.counters["WAIT_PREFETCH"] == 80 - 3
    assert figures.counters["WAIT_DEMAND"] == figures.counters["WAIT_STORE"] == 0
    # In 189 it is over, in 190 known to be the last; all has been quiet for long: 4 cycles more, from 191 on.
    assert figures.counters["CYCLES"] == figures.cycles == 194
    assert figures.counters["RUN_CYCLES"] == FILL + 100 + 1
    assert [figures.counters[f"{name}_BEATS"] for name in ("DESCRIPTOR", "DEMAND", "PREFETCH", "WRITE")] == [4, 0, 3, 0]
    assert [events.complete[1] for events in figures.engines] == [[77, figures.engines[0].complete[1][1]]]


def test_the_slowest_engine_decides_and_epochs_hide_loads() -> None:
    words, cycles = [[10, 10, 500], [10, 2000, 10]], [600, 600, 600]
    on, off = run(words, cycles), run(words, cycles, prefetch=False)
    for figures, apart in ((on, 0), (off, 1)):
        for number, epoch in enumerate(figures.epochs):
            assert epoch.loaded <= max(epoch.begins - 2, 0)
            assert epoch.ends - epoch.begins + 1 == FILL + cycles[number]
            if number:
                gap = epoch.begins - figures.epochs[number - 1].ends - 1
                assert (gap > 500) == (number == 1 or (bool(apart) and number == 2))
    # 2000 words of the second epoch take 2000 cycles, 600 of them during the first one; so off is later by the other loads.
    assert 900 < off.cycles - on.cycles < 1300
    assert (on.counters["PREFETCH_HITS"], on.counters["PREFETCH_LATE"]) == (1, 2)
    assert (off.counters["PREFETCH_HITS"], off.counters["PREFETCH_LATE"]) == (0, 3)
    assert [events.late for events in on.engines] == [1, 1]
    assert [events.late for events in off.engines] == [3, 3]


def test_words_for_x_banks_wait_for_the_gap() -> None:
    during, between = run([[10, 300]], [1000, 10]), run([[10, 300]], [1000, 10], select=X)
    assert between.cycles - during.cycles > 290
    assert between.counters["STALL_GATE"] > during.counters["STALL_GATE"] + 900


def test_a_cap_delays_prefetches() -> None:
    free, capped = run([[10, 300]], [1000, 10]), run([[10, 300]], [1000, 10], cap=200)
    assert free.counters["STALL_CAP"] == 0
    assert capped.counters["STALL_CAP"] > 900
    assert capped.cycles > free.cycles + 290


def test_a_run_that_cannot_end_is_told() -> None:
    rings = [Descriptor(last=1)], [Descriptor(last=1), Descriptor(tag=1, last=1)]
    program = EngineProgram(rings, (0, 1 << 16), HbmChannel(PLAIN, beat_bytes=64, end=1 << 30))
    with pytest.raises(RuntimeError, match="the demand ring will never complete 2 tags"):
        finished(run_steps(GEOMETRY, [program], [10], fill_cycles=FILL, memory_bytes=1 << 30))


def test_a_run_pauses_at_a_collective() -> None:
    """In which words of W banks for later epochs come, and others wait."""
    for select in (W, X):
        paused = steps([[10, 1, 2500]], [1000, None, 10], select=select)
        begins = next(paused)
        with pytest.raises(StopIteration) as end:
            paused.send(begins + 5000)
        figures: RunFigures = end.value.value
        before, collective, after = figures.epochs
        # With all loaded it is told at once, and lasts from the next cycle to that in which it is seen to be over.
        assert begins == before.ends + 2 or select == X
        assert (collective.begins, collective.ends) == (begins + 1, begins + 4999)
        assert figures.counters["COLLECTIVE_CYCLES"] == 5000
        assert figures.counters["RUN_CYCLES"] == 2 * (FILL + 1) + 1010
        ahead = after.begins - collective.ends
        assert (ahead < 5) == (select == W)
        # Beats are seen one cycle later, and engines count from 2 cycles later on.
        beats = [-(-start16 // 16) + i + 3 for start16, count in figures.engines[0].ahead for i in range(count)]
        beneath = sum(collective.begins <= cycle <= collective.ends + 1 for cycle in beats)
        assert figures.counters["BENEATH_BEATS"] == collective.beneath == beneath
        assert (beneath > 1000) == (select == W)


def test_a_collective_needs_the_other_chips() -> None:
    with pytest.raises(ValueError, match="ends when other chips let it"):
        run([[10, 10]], [100, None])  # type: ignore[list-item]
