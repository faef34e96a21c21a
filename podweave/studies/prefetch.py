"""What prefetching is worth: runs of whole networks with it and without, over the bandwidth of the memory, by the exact model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config

from ..runs.figures import device_figures
from ..runs.workloads import load_graph
from .frame import Frame, Shown
from .points import Progress
from .tables import chart, table

CONFIG = "chip16x32"
NETWORKS = ("ffn_7168_2048", "bert_medium_100", "resnet50_224", "ffn_1024_6144_512")
SIXTEENTHS = (16, 24, 32, 64, 128)
"""Sixteenths of a cycle from beat to beat: the bandwidth of the memory, from that of the buses down to an eighth."""
_COLUMNS = (
    "network",
    "bytes/cycle",
    "cycles on",
    "cycles off",
    "speed-up",
    "epochs",
    "memory",
    "on/bound",
    "off/bound",
    "memory used",
)


def prefetch_study(
    networks: Sequence[str], config: ChipConfig | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """The report, in the form of the other studies. ``bound``: the longer of the epochs' own cycles and the memory's."""
    config = config or load_config(CONFIG)
    assert config.prefetch is not None
    began = time.perf_counter()
    options = CompileOptions(from_memory=True)
    points, rows = [], []
    speedups: dict[str, Sequence[Any]] = {}
    full = config.prefetch.managers * config.prefetch.data_width // 8
    for network in networks:
        graph = load_graph(network)
        # Values do not change cycles.
        constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)
        compiled = compile_network(graph, config, constants, options, progress=progress)
        for sixteenths in SIXTEENTHS:
            if progress:
                progress(f"study prefetch: {network}, {full * 16 / sixteenths:.0f} bytes/cycle")
            timing = HbmTiming(beat_sixteenths=sixteenths)
            figures = {}
            for way in (True, False):
                prediction = predict_accelerator(compiled, timing, prefetch=way)
                figures[way] = {"cycles": prediction.cycles, **device_figures(compiled, prediction, timing)}
                points.append(
                    {"network": network, "series": "on" if way else "off", "changes": {"beat_sixteenths": sixteenths}}
                    | {"figures": figures[way]}
                )
            on, off = figures[True], figures[False]
            speedup = off["cycles"] / on["cycles"]
            speedups[network] = [*speedups.get(network, ()), speedup]
            cycles = (on["cycles"], off["cycles"], speedup, on["compute_cycles"], on["hbm_cycles"])
            rows.append([network, full * 16 / sixteenths, *cycles, on["overlap"], off["overlap"], on["hbm_used_available"]])
    notes = [
        f"{config.name}: {config.prefetch.managers} managers of {config.prefetch.data_width} bits; "
        f"latency {HbmTiming().latency} cycles, "
        "rows, banks and refresh as the memory model has them by default",
        "epochs: the sum of their own cycles; memory: the beats of the busiest manager at that bandwidth, without refresh",
        "memory used, with prefetch on: beats, of those that the memory could have sent outside of refreshes",
    ]
    widths = [f"{full * 16 / sixteenths:.0f}" for sixteenths in SIXTEENTHS]
    frame = Frame(
        name="prefetch",
        title="loads during epochs, against loads between them",
        source="none: PRESERVE (arXiv 2501.08192) hides loads behind collectives, and reports up to 1.6 times end to end",
        networks=networks,
        pods=config.pods,
    )
    shown = Shown(
        points=points,
        tables=[table("cycles of a run with prefetch on and off", _COLUMNS, rows, notes)],
        chart=chart("bytes per cycle", "speed-up by prefetch", widths, speedups, "PRESERVE"),
    )
    return frame.report(shown, time.perf_counter() - began)
