"""Exact cycles and counters of a run of an accelerator: prefetch engines on channels of memory, and epochs that wait for them.

An epoch is one of the chip's, which takes as long as it takes, or a collective, which ends when others let it: there a run pauses
(`run_steps`), so that several can go on side by side.

Cycle 0 is the one before the engines start: that in which run control accepts the start, or the last one of the reset behind it.
An engine's own cycle 0 is `ENGINE_START` later.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..memory.hbm import HbmChannel
from ..prefetch.engine import CLASSES, STALLS, EngineModel, Events
from ..prefetch.words import Descriptor, EngineGeometry, Inputs

ENGINE_START = 2
"""The engines start in cycle 1; they count from the cycle after that."""
COLLECTIVE_COUNTERS = ("COLLECTIVE_CYCLES", "BENEATH_BEATS")
"""Counters that only chips with links have."""
_FIRST_GAP = 3
_QUIET_CYCLES = 4


@dataclass(frozen=True)
class EngineProgram:
    """What software tells one engine: descriptors of its demand and its prefetch ring in the order in which the run goes over them,
    and where the rings begin.

    ``sizes``: of the rings, by default as many descriptors as the run goes over. ``bodies``: as of `Inputs`.
    """

    rings: tuple[Sequence[Descriptor], Sequence[Descriptor]]
    base: tuple[int, int]
    channel: HbmChannel
    sizes: tuple[int, int] | None = None
    bodies: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))


@dataclass
class EpochTimes:
    """``loaded``: the first cycle in which all tags of the epoch are complete. ``begins``, ``ends``: first and last cycle of it.

    ``for_prefetch``: of the cycles before it, those that it waited for prefetch rings; for demand rings is what comes after.
    ``beneath``: beats of prefetch rings in it, of a collective.
    """

    loaded: int
    begins: int
    ends: int
    for_prefetch: int
    beneath: int = 0


@dataclass
class RunFigures:
    """``cycles``: of the run, from cycle 1 on. ``counters``: by name of the registers.

    ``engines``: what each engine did, in its own cycles.
    """

    cycles: int
    epochs: list[EpochTimes] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    engines: list[Events] = field(default_factory=list)


def finished(steps: Generator[int, int, RunFigures]) -> RunFigures:
    """The figures of a run without collectives."""
    try:
        next(steps)
    except StopIteration as end:
        figures: RunFigures = end.value
        return figures
    raise ValueError("a collective ends when other chips let it: who predicts it must know them all")


def run_steps(
    geometry: EngineGeometry,
    programs: Sequence[EngineProgram],
    epoch_cycles: Sequence[int | None],
    *,
    fill_cycles: int,
    memory_bytes: int,
    bases: tuple[int, ...] = (),
    prefetch: bool = True,
    beneath: bool = True,
    cap: int = 0,
    passes: int = 1,
    pass_stride: int = 0,
) -> Generator[int, int, RunFigures]:
    """A run without errors. ``epoch_cycles``: of each epoch, as its counter has them, None for a collective; ``fill_cycles``: that
    come before those of the chip. ``passes``: in how many of them, that are all alike, the epochs are; ``pass_stride``: bytes from
    what one moves to what the next does.

    Yields the cycle in which the collective engine is told to begin, and takes the first one after it in which it is not busy;
    counters that only links know are the caller's. ``beneath``: descriptors of prefetch rings may begin in collectives.
    ``bases``: of the base registers, from 1 on; those that are not given are 0.
    """
    engines = []
    for program in programs:
        inputs = Inputs(
            base=program.base,
            memory_bytes=memory_bytes,
            bases=bases,
            passes=passes,
            bodies=program.bodies,
            pass_epochs=len(epoch_cycles) // passes,
            pass_stride=pass_stride,
            tail=(len(program.rings[0]), len(program.rings[1])),
            enable=prefetch,
            cap=cap,
        )
        sizes = program.sizes or [len(ring) for ring in program.rings]
        engines.append(EngineModel(geometry, program.channel, program.rings, sizes, inputs))
    figures = RunFigures(0)
    names = ("RUN_CYCLES", "WAIT_PREFETCH", "WAIT_DEMAND", "WAIT_STORE", "PREFETCH_HITS", "PREFETCH_LATE")
    counters = dict.fromkeys((*names, *COLLECTIVE_COUNTERS), 0)
    gap = _FIRST_GAP
    for number in range(len(epoch_cycles) + 1):
        demand, prefetched = _completions(engines, number)
        # What is complete in a cycle is known in the next, and acted on in that.
        ready = max(gap, demand + 1, prefetched + 1)
        late = max(gap, prefetched + 1)
        if number == len(epoch_cycles):
            counters["WAIT_STORE"] += ready - gap
            break
        counters["WAIT_PREFETCH"] += late - gap
        counters["WAIT_DEMAND"] += ready - late
        counters["PREFETCH_HITS" if number and prefetched < gap else "PREFETCH_LATE"] += 1
        cycles = epoch_cycles[number]
        _change(engines, ready + 1, gap=False, enable=prefetch and (beneath or cycles is not None))
        over = (yield ready) if cycles is None else ready + 1 + fill_cycles + cycles
        figures.epochs.append(EpochTimes(max(demand, prefetched), ready + 1, over - 1, late - gap))
        counters["COLLECTIVE_CYCLES" if cycles is None else "RUN_CYCLES"] += over - ready
        gap = over + 1
        _change(engines, gap, gap=True, enable=prefetch, epochs_done=number + 1)
    quiet = max(engine.run_until_quiet() for engine in engines) + ENGINE_START
    figures.cycles = max(ready + 1, quiet) + _QUIET_CYCLES - 1
    counters["CYCLES"] = figures.cycles
    _count_beneath(engines, [times for times, cycles in zip(figures.epochs, epoch_cycles, strict=True) if cycles is None])
    counters["BENEATH_BEATS"] = sum(times.beneath for times in figures.epochs)
    for name in CLASSES:
        counters[f"{name.upper()}_BEATS"] = sum(engine.events.read_beats[name] for engine in engines)
    counters["WRITE_BEATS"] = sum(engine.events.write_beats for engine in engines)
    for name in STALLS:
        counters[f"STALL_{name.upper()}"] = sum(engine.events.stalls[name] for engine in engines)
    counters["PREFETCH_UNUSED"] = 0
    figures.counters = counters
    figures.engines = [engine.events for engine in engines]
    return figures


def _count_beneath(engines: Sequence[EngineModel], collectives: Sequence[EpochTimes]) -> None:
    """Beats that are counted from the first cycle of each collective to that behind the last: an engine shows one a cycle late."""
    edges = [cycle - 1 - ENGINE_START for times in collectives for cycle in (times.begins, times.ends + 2)]
    before = sum(engine.prefetch_beats_before(edges) for engine in engines)
    for times, beneath in zip(collectives, np.diff(before)[::2] if collectives else (), strict=True):
        times.beneath = int(beneath)


def _completions(engines: Sequence[EngineModel], number: int) -> tuple[int, int]:
    """The first cycles in which all demand rings, and all prefetch rings, have completed tag ``number``."""
    for engine in engines:
        engine.run_until_complete(number + 1)
    demand, prefetch = (max(engine.events.complete[ring][number] for engine in engines) for ring in (0, 1))
    return demand + ENGINE_START, prefetch + ENGINE_START


def _change(engines: Sequence[EngineModel], cycle: int, **inputs: bool | int) -> None:
    for engine in engines:
        engine.run_until(cycle - ENGINE_START)
        engine.change(**inputs)
