"""How the cycles of a run of rows split into what the chip is at."""

from __future__ import annotations

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.rows.program import RowProgram
from podweave.compiler.rows.spans import nested_spans
from podweave.predict.accelerator import Prediction

KINDS = ("weights", "attention", "rows", "latency", "stores", "memory")
LINKS = "links"
"""The kind of cycles that chips of a ring have beside them."""


def epoch_cycles(program: EpochProgram | RowProgram) -> dict[str, int]:
    """Cycles of an epoch in which pods load and stream tiles of weights; of keys and values; and post-processors work alone.

    A cycle is of the first kind that it could be of.
    """
    weights, both, all_three = (spans.covered for spans in nested_spans(program))
    return {"weights": weights, "attention": both - weights, "rows": all_three - both}


def cycles_by_kind(network: CompiledNetwork, prediction: Prediction) -> dict[str, int]:
    """Cycles of a run by `KINDS`, and `LINKS` if there are collectives; they add up to all of them.

    ``latency``: an epoch is on, and words are on their way, or statistics. ``stores``: no epoch is on, as results and rows of
    caches go to memory: behind an epoch that stores some, the next one waits for that ring first, and for loads behind them in it.
    ``memory``: no epoch is on, and the next one waits for its words. ``links``: a collective is on.
    """
    found = dict.fromkeys((*KINDS, LINKS) if network.collectives else KINDS, 0)
    stores, passes = False, len(prediction.timeline) // len(network.epochs)
    for program, epoch in zip(network.epochs * passes, prediction.timeline, strict=True):
        found["memory"] += epoch["for_prefetch"]
        found["stores" if stores else "memory"] += epoch["waits"] - epoch["for_prefetch"]
        if isinstance(program, CollectiveProgram):
            found[LINKS] += epoch["ends"] - epoch["begins"] + 1
            stores = False
            continue
        own = epoch_cycles(program)
        for kind, cycles in own.items():
            found[kind] += cycles
        found["latency"] += epoch["ends"] - epoch["begins"] + 1 - sum(own.values())
        stores = bool(program.outputs or program.appended if isinstance(program, RowProgram) else program.stored)
    found["stores"] += prediction.cycles - prediction.timeline[-1]["ends"]
    return found
