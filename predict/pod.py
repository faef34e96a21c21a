"""Exact cycles of programs of one pod."""

from __future__ import annotations

from typing import Any

import numpy as np

from podweave.compiler.pod.program import Program
from podweave.golden.cycle.pod.jobs import PodGeometry
from podweave.golden.cycle.pod.span import Span, pod_span
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Emit


def geometry_of(config: ChipConfig) -> PodGeometry:
    """The sizes that the cycle model of a pod needs."""
    array, pod, memory = config.array, config.pod, config.memory
    return PodGeometry(
        rows=array.rows,
        cols=array.cols,
        row_groups=array.row_groups,
        col_groups=array.col_groups,
        psum_width=array.psum_width,
        accumulator_rows=pod.accumulator_rows,
        load_queue_depth=pod.load_queue_depth,
        stream_queue_depth=pod.stream_queue_depth,
        time_width=pod.time_width,
        banks=memory.banks,
        x_planes=memory.x_planes,
        w_planes=memory.w_planes,
        p_planes=memory.p_planes,
        x_words=memory.x_words,
        w_words=memory.w_words,
        p_words=memory.p_words,
        latency=config.read_latency,
    )


def predicted_spans(program: Program) -> list[Span]:
    """The exact span of every epoch of a program, without RTL."""
    config = program.config
    return [
        pod_span(
            epoch.loads["start"],
            epoch.streams["start"],
            epoch.words_streamed,
            epoch.streams["emit"] != Emit.NONE,
            latency=config.read_latency,
            row_groups=config.array.row_groups,
            col_groups=config.array.col_groups,
        )
        for epoch in program.epochs
    ]


def accesses(program: Program) -> dict[str, Any]:
    """What a pod moves, exactly: activations read ("x"), weights read ("w"), sums stored or added ("p"), and ``words_streamed``.

    Each with its ``numbers`` (of words, the lanes that are used), and the cycles of its ``first`` and ``last`` word, from the
    first request of the program on, its epochs without a gap between.
    """
    config, units = program.config, program.lowered.units
    write_latency = config.read_latency + config.array.row_groups + config.array.col_groups + 1
    moved: dict[str, list[tuple[int, int, int]]] = {"x": [], "w": [], "p": []}
    began = streamed = 0
    for epoch, span in zip(program.epochs, predicted_spans(program), strict=True):
        outputs_at = {(place.bank, place.base): (len(tile.outputs), units[step.unit].lanes) for tile, step, place in epoch.weights}
        banks = zip(epoch.loads["w_bank"].tolist(), epoch.loads["w_base"].tolist(), strict=True)
        outputs, lanes = np.array([outputs_at[place] for place in banks], np.int64).T
        # The first stream of a load swaps its weights in.
        load = np.cumsum(epoch.streams["swap"]) - 1
        words, start, emits = epoch.words_streamed, epoch.streams["start"], epoch.streams["emit"] != Emit.NONE
        ends, offset = start + words, began - span.first_request
        for kind, first, end, numbers in (
            ("x", start, ends, words * lanes[load]),
            ("w", epoch.loads["start"], epoch.loads["start"] + epoch.loads["rows"], epoch.loads["rows"] * outputs),
            ("p", start[emits] + write_latency, ends[emits] + write_latency, (words * outputs[load])[emits]),
        ):
            moved[kind].append((offset + int(first.min()), offset + int(end.max()) - 1, int(numbers.sum())))
        began += span.cycles
        streamed += int(words.sum())
    found: dict[str, Any] = {
        kind: {"first": parts[0][0], "last": parts[-1][1], "numbers": sum(part[2] for part in parts)}
        for kind, parts in moved.items()
    }
    return found | {"words_streamed": streamed}
