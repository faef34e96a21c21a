"""Bench of the prefetch engine: how much of a data bus it uses, from memory that answers in order a fixed time later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import STORABLE, DescriptorKind, loadable, memory_stride, word_pieces, words_of
from podweave.spec.load_port import HostSelect
from podweave.tb.benches.prefetch_bench import PrefetchBench
from podweave.tb.cases.prefetch_scenarios import SINK, SOURCE, engine_config, rings, run_rings
from podweave.tb.lockstep.prefetch_expected import Descriptor, bus_beats

Progress = Callable[[str], None]
LATENCY = 100
WIDTHS = (64, 128, 256, 512)
BEATS = 8192
"""Of a measurement."""
_COLUMNS = 64
"""Of the chip, so that a word of W has the 64 bytes of the shortest runs."""
_ENOUGH = {"buffer_beats": 256, "outstanding": 128, "max_burst": 64}
# Beats of buffer and bursts under way, on the widest bus: there, runs of 64 bytes are bursts of one beat.
_SWEEP = ((64, 32), (128, 64), (128, 128), (256, 64), (256, 128), (512, 256))


def measure_bus(config: ChipConfig, progress: Progress) -> dict[str, Any]:
    """Shares of data bus cycles: at each width; by buffer and bursts under way; and for the words of ``config``, if it has engines.

    ``share``: of the cycles from the first to the last beat of data; ``share_of_all``: of those from the start, with the fetch of
    the descriptors and the latency, to the completion of the tag. Every run is checked for words, bytes and protocol.
    """
    return {
        "latency": LATENCY,
        **_ENOUGH,
        "widths": _by_width(progress),
        "sweep": _by_size(progress),
        "words": _by_words(config, progress) if config.prefetch else [],
    }


def _by_width(progress: Progress) -> list[dict[str, Any]]:
    rows = []
    for width in WIDTHS:
        progress(f"building an engine of {width} bits")
        bench = PrefetchBench.of(engine_config(width, rows=4, cols=_COLUMNS, **_ENOUGH))
        progress(f"measuring {width} bits")
        rows += [{"data_width": width, **row} for row in _measured(bench, list(_transfers(width, BEATS)))]
    return rows


def _by_size(progress: Progress) -> list[dict[str, Any]]:
    rows = []
    loads = [(name, descriptors) for name, descriptors in _transfers(512, BEATS // 4) if descriptors[0].kind == DescriptorKind.LOAD]
    for buffer_beats, outstanding in _SWEEP:
        progress(f"measuring {buffer_beats} beats of buffer and {outstanding} bursts")
        sizes = {"buffer_beats": buffer_beats, "outstanding": outstanding, "max_burst": min(64, buffer_beats // 2)}
        bench = PrefetchBench.of(engine_config(512, rows=4, cols=_COLUMNS, **sizes))
        rows += [{"data_width": 512, **sizes, **row} for row in _measured(bench, loads)]
    return rows


def _by_words(config: ChipConfig, progress: Progress) -> list[dict[str, Any]]:
    progress(f"building the engine of {config.name}")
    bench = PrefetchBench.of(config)
    progress(f"measuring the words of {config.name}")
    rows = []
    for row in _measured(bench, list(_words(config))):
        # One piece per cycle: where that is less than a beat, the load port is what limits.
        select = HostSelect[row["transfer"].split()[-1]]
        piece = memory_stride(config, select) / word_pieces(config, select)
        rows.append({"config": config.name, "data_width": config.host_bits, **row, "limit": piece / (config.host_bits // 8)})
    return rows


def _transfers(width: int, beats: int) -> Iterator[tuple[str, list[Descriptor]]]:
    """Runs of 64 bytes and of 4 KiB, apart from each other in memory; the long ones also with a descriptor for each."""
    for kind, address in ((DescriptorKind.LOAD, SOURCE), (DescriptorKind.STORE, SINK)):
        name = kind.name.lower()
        total = beats * width // 8
        common: dict[str, Any] = {"kind": kind, "select": HostSelect.W, "address": address, "last": 1}
        yield f"{name} 64 B runs", [Descriptor(**common, n1=total // 64, step1=1, stride1=128)]
        long = Descriptor(**common, n0=64, n1=total // 4096, step1=1, stride1=2 * 4096)
        yield f"{name} 4 KiB runs", [long]
        if kind == DescriptorKind.LOAD:
            each = [
                Descriptor(**{**common, "address": int(at), "n0": 64, "base": 64 * i, "last": int(i == long.n1 - 1)})
                for i, at in enumerate(long.run_addresses())
            ]
            yield f"{name} 4 KiB descriptors", each[: 1 << 8]


def _words(config: ChipConfig) -> Iterator[tuple[str, list[Descriptor]]]:
    """Each kind of words, side by side in memory: as many as there are, over and over."""
    for kind, selects in ((DescriptorKind.LOAD, loadable(config)), (DescriptorKind.STORE, STORABLE)):
        for select in selects:
            words = words_of(config, select)
            times = max(1, min((1 << 18) // (words * memory_stride(config, select)), BEATS // words))
            address = SOURCE if kind == DescriptorKind.LOAD else SINK
            fitting = min(words, (1 << 18) // memory_stride(config, select))
            one = Descriptor(kind=kind, select=select, address=address, n0=fitting, n1=times, step1=1 - fitting, last=1)
            yield f"{kind.name.lower()} {select.name}", [one]


def _measured(bench: PrefetchBench, transfers: Sequence[tuple[str, list[Descriptor]]]) -> list[dict[str, Any]]:
    cases = []
    for _, descriptors in transfers:
        found = rings(descriptors, [Descriptor(kind=DescriptorKind.NOP, last=1)])
        cases.append((found, found.scenario(settings={"latency": LATENCY, "epochs": 0}, cycles=30000)))
    rows = []
    for (name, descriptors), recording in zip(transfers, run_rings(bench, cases), strict=True):
        seen = recording.rows
        store = descriptors[0].kind == DescriptorKind.STORE
        data = np.flatnonzero(seen["write_beat"] if store else seen["read_beat"] & (seen["read_class"] != 0))
        beats = sum(bus_beats(bench.config, descriptor) for descriptor in descriptors)
        assert len(data) == beats
        end = int(np.argmax(seen["demand_complete"]))
        rows.append(
            {
                "transfer": name,
                "bytes": beats * bench.config.host_bits // 8,
                "share": beats / int(data[-1] - data[0] + 1),
                "share_of_all": beats / end,
                "cycles": end,
            }
        )
    return rows
