"""Figures of a network, as reports have them."""

from __future__ import annotations

from typing import Any

import numpy as np

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.plan.bound import least_bytes
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.predict.accelerator import Prediction, bytes_by_kind, predict_accelerator
from podweave.predict.chip import accesses, sums_span
from podweave.predict.memory_timing import HbmTiming

from .jobs import images_of
from .row_figures import cycles_by_kind


def device_figures(network: CompiledNetwork, prediction: Prediction, timing: HbmTiming, *, warm: bool = False) -> dict[str, Any]:
    """Predicted figures of a network; ``warm``: of a run that found on the chip what one before had left.

    ``hbm_cycles``: that the beats of the busiest manager take at the memory's rate. ``overlap``: the cycles of the run relative to
    the larger of that and of those of all epochs. ``hbm_used``: share of all data-bus cycles with a beat; ``hbm_used_available``:
    of those beats that the memory could have sent, at its rate and outside of refreshes. ``memory_useful``: what the network's
    weights, each byte once, are of the bytes in those beats. ``passes``: over the network; figures are of all of them.
    ``cycles_by_kind``: of rows only. Of others: ``segments``, in which a network that does not fit is computed;
    ``bytes_moved`` over the data buses, descriptors and programs among them, relative to ``least_bytes`` (``traffic``), which
    `podweave.compiler.plan.bound` tells of a pass, and ``least_spilled`` of them; ``bytes_by_kind``: as
    `podweave.predict.accelerator.bytes_by_kind` has them.
    """
    config = network.config
    beats = sum(prediction.counters[f"{kind}_BEATS"] for kind in ("DESCRIPTOR", "DEMAND", "PREFETCH", "WRITE"))
    bound = max(prediction.compute_cycles, prediction.hbm_cycles)
    sendable = prediction.cycles * config.managers * timing.available
    found = {
        "epochs": len(network.epochs),
        "passes": network.memory.passes,
        "macs": network.graph.macs * network.memory.passes,
        "compute_cycles": prediction.compute_cycles,
        "hbm_cycles": prediction.hbm_cycles,
        "bytes_loaded": network.memory.loaded_bytes(warm=warm),
        "overlap": prediction.cycles / bound,
        "hbm_used": beats / (prediction.cycles * config.managers),
        "hbm_used_available": beats / sendable,
        "memory_useful": network.graph.weights / (sendable * config.host_bits / 8),
        "prefetch_hits": prediction.counters["PREFETCH_HITS"],
        "prefetch_late": prediction.counters["PREFETCH_LATE"],
        "busy": float(prediction.nodes["x_words"].sum()) / (prediction.cycles * config.pods),
    }
    if network.rows:
        return found | {"cycles_by_kind": cycles_by_kind(network, prediction)}
    least, passes, weights = least_bytes(network.graph, config), network.memory.passes, network.graph.weights
    # Weights once, in however many passes.
    in_all = weights + passes * (least.total - weights)
    moved = beats * config.host_bits // 8
    return found | {
        "segments": len({program.segment for program in network.programs}),
        "bytes_moved": moved,
        "bytes_by_kind": bytes_by_kind(network.memory, warm=warm),
        "least_bytes": in_all,
        "least_spilled": passes * least.spilled,
        "traffic": moved / in_all,
    }


def stream_figures(network: CompiledNetwork, cycles: int, alone: CompiledNetwork, timing: HbmTiming) -> dict[str, Any]:
    """Figures of a run over a stream, of so many ``cycles``.

    ``images``, ``batch`` of them in a pass; ``image_cycles``, the cycles of the run by their number. ``image_bound``: the larger of
    ``image_compute``, the cycles of the epochs of a run of the workload as it is named, alone and cold, and ``image_memory``, those
    that the beats of the busiest manager take in it, weights among them; both by its number of images.
    """
    batch, several = images_of(network.graph), images_of(alone.graph)
    images = batch * network.memory.passes
    one = predict_accelerator(alone, timing, passes=1)
    bound = {"image_compute": one.compute_cycles / several, "image_memory": one.hbm_cycles / several}
    found = {"images": images, "batch": batch, "image_cycles": cycles / images}
    return found | bound | {"image_bound": max(bound.values())}


def total(network: CompiledNetwork, figures: ChipFigures) -> dict[str, Any]:
    """Figures of a network as one epoch.

    ``sums_cycles``: of its cycles, those from the first word requested, weights included, to the last sum written; the others are
    the beginning of an epoch, and what post-processors do behind the last sum. ``busy``: share of the pods' time in which they
    stream; ``utilization``: of all multipliers.
    """
    program, config, graph = network.program, network.config, network.graph
    rate = graph.macs / figures.cycles
    return {
        "cycles": figures.cycles,
        "sums_cycles": sums_span(program).cycles,
        "macs": graph.macs,
        "mac_per_cycle": rate,
        "utilization": rate / (config.pods * config.array.multipliers),
        "busy": float(figures.counters["x_words"].sum()) / (figures.cycles * config.pods),
        "counters": {name: int(values.sum()) for name, values in figures.counters.items()},
        "merged_words": figures.merged_words,
        "jobs": {"loads": len(program.loads["pod"]), "streams": len(program.streams["pod"]), "posts": len(program.posts["bank"])},
        "used": program.used,
    }


def layer_rows(program: EpochProgram) -> list[dict[str, Any]]:
    """When each operation is computed, and how well: cycles from its first word requested, weights included, to its last sum
    written, both counted. ``accesses``: what it moves."""
    moved = accesses(program)
    program = program.tile_by_tile()
    streams, words = program.streams, program.words_streamed
    order = np.argsort(program.operation_of_stream, kind="stable")
    edges = np.searchsorted(program.operation_of_stream[order], np.arange(len(program.graph.operations) + 1))
    multipliers = program.config.array.multipliers
    rows = []
    for index, operation in enumerate(program.graph.operations):
        jobs = order[edges[index] : edges[index + 1]]
        first, last = moved[index]["first"], moved[index]["last"]
        layer = operation.operands[0].layer
        busy = int(words[jobs].sum())
        rows.append(
            {
                "layer": operation.name,
                "M": layer.positions,
                "K": sum(operand.layer.reduction for operand in operation.operands),
                "N": layer.outputs,
                "first": first,
                "last": last,
                "cycles": last - first + 1,
                "macs": operation.macs,
                "pods": len(np.unique(streams["pod"][jobs])),
                "words": busy,
                "utilization": operation.macs / (busy * multipliers),
                "accesses": moved[index],
            }
        )
    return rows
