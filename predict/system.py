"""The exact model of runs of several chips in a ring, against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.golden.cycle.accelerator.run import finished
from podweave.golden.cycle.link.ring import ChipWalk, CollectiveFigures, LinkRate, RingModel
from podweave.golden.cycle.link.words import LinkGeometry
from podweave.spec.config import ChipConfig
from podweave.spec.links import CollectiveKind, word_flits

from .accelerator import AcceleratorRun, Prediction
from .alike import AlikeRuns
from .link_timing import LinkTiming
from .memory_timing import HbmTiming

_STARTS = 1
"""The cycle of a run in which the collective engine starts, as the prefetch engines do."""


def link_geometry(config: ChipConfig) -> LinkGeometry:
    """What the exact model of links needs of a configuration."""
    assert config.links is not None
    p, x = (word_flits(config, kind) for kind in CollectiveKind)
    return LinkGeometry(flits=(p, x), buffer_words=config.links.buffer_words, read_latency=config.link_read_latency)


def chip_walk(program: CollectiveProgram) -> ChipWalk:
    """How many words a chip sends in a collective, after which of those that it receives."""
    sends = program.sends
    counts = sends["n0"] * sends["n1"] * sends["n2"]
    columns = counts.tolist(), sends["follows"].tolist(), sends["needs"].tolist()
    sent = tuple(zip(*columns, strict=True)) if program.words_sent else ()
    return ChipWalk(send=sent, receive=program.words_received, kind=int(program.kind))


def predict_system(
    networks: Sequence[CompiledNetwork],
    timing: HbmTiming,
    link: LinkTiming,
    *,
    starts: Sequence[int] | None = None,
    prefetch: bool = True,
    beneath: bool = True,
    cap: int = 0,
    bases: Sequence[tuple[int, ...]] = (),
) -> tuple[Prediction, ...]:
    """Cycles and counters of a run of each chip of a ring, without RTL; chip i sends to the next, the last one to chip 0.

    Parameters
    ----------
    networks : sequence of CompiledNetwork
        The programs of the chips; the same one for those whose values are of no account (`compile_alike`).
    timing : HbmTiming
        Of the memory of each.
    link : LinkTiming
        Of each link; without faults.
    starts : sequence of int
        Cycle, of one clock, in which each chip's run starts; by default all in the same. Only differences matter.
    prefetch, beneath, cap
        As an `AcceleratorRun` takes them, of all chips.
    bases : sequence of tuple of int
        Values of base registers of each chip, from register 1 on; by default all are 0.

    Raises
    ------
    ValueError
        Chips have collectives that do not fit each other.
    """
    begins = list(starts) if starts is not None else [0] * len(networks)
    options: dict[str, Any] = {"prefetch": prefetch, "beneath": beneath, "cap": cap}
    of: dict[tuple[int, tuple[int, ...]], AcceleratorRun] = {}
    runs = []
    for network, values in zip(networks, bases or [()] * len(networks), strict=True):
        key = id(network), values
        if key not in of:
            of[key] = AcceleratorRun(network, timing, bases=values, **options)
        runs.append(of[key])
    config = networks[0].config
    if len(networks) == 1 and not any(isinstance(program, CollectiveProgram) for program in networks[0].epochs):
        return (runs[0].prediction(finished(runs[0].steps())),)
    rates = [_rate(link.of_link(i)) for i in range(len(runs))]
    ring = RingModel(link_geometry(config), rates, [begin + _STARTS for begin in begins])
    programs = [[program for program in network.epochs if isinstance(program, CollectiveProgram)] for network in networks]
    if len({len(each) for each in programs}) > 1:
        raise ValueError(f"chips of a ring have the same collectives, got {', '.join(str(len(each)) for each in programs)} of them")
    alike = AlikeRuns(runs)
    found: list[list[CollectiveFigures]] = [[] for _ in runs]
    for each in zip(*programs, strict=True):
        cycles = [cycle + begin for cycle, begin in zip(alike.collectives(), begins, strict=True)]
        figures = ring.collective([chip_walk(program) for program in each], cycles)
        alike.go_on([own.over - begin for own, begin in zip(figures, begins, strict=True)])
        for own, of_chip in zip(figures, found, strict=True):
            of_chip.append(own)
    return tuple(_with_links(prediction, of_chip) for prediction, of_chip in zip(alike.predictions(), found, strict=True))


def _with_links(prediction: Prediction, collectives: Sequence[CollectiveFigures]) -> Prediction:
    """The same with what links of the chip did."""
    total = {
        "LINK_SENT": sum(each.sent for each in collectives),
        "LINK_RECEIVED": sum(each.received for each in collectives),
        "WAIT_NEIGHBOUR": sum(each.waits for each in collectives),
    }
    waits = iter(collectives)
    timeline = [epoch | ({"for_neighbour": next(waits).waits} if epoch["collective"] else {}) for epoch in prediction.timeline]
    return dataclasses.replace(prediction, counters=prediction.counters | total, timeline=timeline)


def _rate(link: LinkTiming) -> LinkRate:
    return LinkRate(latency=link.latency, beat_sixteenths=link.beat_sixteenths, jitter=link.jitter, seed=link.seed)
