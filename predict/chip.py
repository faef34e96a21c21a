"""Exact cycles, counters and accesses of an epoch of a chip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.rows.program import RowProgram
from podweave.golden.cycle.chip.chip import ChipFigures, ChipGeometry, chip_figures
from podweave.golden.cycle.pod.jobs import PodGeometry
from podweave.golden.cycle.pod.span import Span, pod_span
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Emit
from podweave.spec.row_functions import SCALAR_CYCLES


def chip_geometry(config: ChipConfig) -> ChipGeometry:
    """What the exact model of a chip needs of a configuration."""
    return ChipGeometry(
        pods=config.pods,
        write_latency=config.write_latency,
        post_latency=config.post_latency,
        epoch_overhead=config.epoch_overhead,
        beats=config.post_beats,
        statistic_latency=config.statistic_latency - 1 if config.has_rows else 0,
        scalar_cycles=SCALAR_CYCLES,
    )


def pod_geometry(config: ChipConfig) -> PodGeometry:
    """What the cycle model of a pod of a chip needs of a configuration."""
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


def predict(program: EpochProgram | RowProgram) -> ChipFigures:
    """Exact cycles and counters of a compiled program, without RTL."""
    return chip_figures(program.loads, program.streams, program.posts, chip_geometry(program.config))


def sums_span(program: EpochProgram) -> Span:
    """From the first word that a pod requests, weights included, to the last sum that it writes: an epoch without its beginning,
    and without what post-processors still do at its end."""
    program = program.tile_by_tile()
    return _span(program, np.arange(len(program.loads["start"])), np.arange(len(program.streams["start"])))


def accesses(program: EpochProgram) -> list[dict[str, Any]]:
    """What pods move for each operation of a graph that is one epoch, exactly, in their order.

    Activations requested ("x"), weights requested ("w"), sums stored or added ("p"): ``first`` and ``last`` cycle of the epoch, and
    ``numbers`` (of words, the lanes that are used). ``first``, ``last``: of all three. ``words_streamed``.
    """
    program = program.tile_by_tile()
    loads, streams, write_latency = program.loads, program.streams, program.config.write_latency
    # The n-th swap of a pod takes its n-th load, and both are sorted by pod and start.
    load_of = np.cumsum(streams["swap"]) - 1
    operation_of_load = np.zeros(len(loads["start"]), np.int64)
    operation_of_load[load_of] = program.operation_of_stream
    lanes, outputs = _lanes_of_loads(program)
    words, emits = program.words_streamed, streams["emit"] != Emit.NONE
    found = []
    for index in range(len(program.graph.operations)):
        mine, own = (np.flatnonzero(of == index) for of in (program.operation_of_stream, operation_of_load))
        written = mine[emits[mine]]
        span = _span(program, own, mine)
        row: dict[str, Any] = {"words_streamed": int(words[mine].sum()), "first": span.first_request, "last": span.last_write}
        for kind, start, count, numbers in (
            ("x", streams["start"][mine], words[mine], words[mine] * lanes[load_of[mine]]),
            ("w", loads["start"][own], loads["rows"][own], loads["rows"][own] * outputs[own]),
            ("p", streams["start"][written] + write_latency, words[written], words[written] * outputs[load_of[written]]),
        ):
            row[kind] = {"first": int(start.min()), "last": int((start + count).max()) - 1, "numbers": int(numbers.sum())}
        found.append(row)
    return found


def _lanes_of_loads(program: EpochProgram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the weight tile of each load, the lanes of activations and the outputs that are used."""
    operands = [(program.lowered[item.operation].operands[item.operand], item) for item in program.weights]
    tiles = [
        (item.place.bank, item.place.base, operand.units[item.step.unit].lanes, len(operand.tiles[item.tile].outputs))
        for operand, item in operands
    ]
    bank, base, lanes, outputs = np.array(tiles, np.int64).T
    words = program.config.memory.w_words
    order = np.argsort(bank * words + base)
    places = program.loads["w_bank"] * words + program.loads["w_base"]
    at = order[np.searchsorted((bank * words + base)[order], places)]
    return lanes[at], outputs[at]


def _span(program: EpochProgram, loads: NDArray[np.int64], streams: NDArray[np.int64]) -> Span:
    """Of some loads and streams of a program with a job for each tile."""
    array = program.config.array
    return pod_span(
        program.loads["start"][loads],
        program.streams["start"][streams],
        program.words_streamed[streams],
        program.streams["emit"][streams] != Emit.NONE,
        latency=program.config.read_latency,
        row_groups=array.row_groups,
        col_groups=array.col_groups,
    )
