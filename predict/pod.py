"""Exact cycles of programs of one pod."""

from __future__ import annotations

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
        planes=memory.planes,
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
