"""Points of blocks that are seen at their ports: errors of banks and networks, run control, counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace
from podweave.spec.load_port import Counter
from podweave.spec.register_types import ErrorSource, Refusal
from podweave.tb.benches.chip_task import ChipRun
from tests.coverage.functional.tally import Hit, crossed

_BANKS = {
    "x_bank": ("reads", "writes", "conflict", "hazard"),
    "w_bank": ("reads", "conflict"),
    "p_bank": ("stores", "accumulates", "conflict", "busy_conflict", "hazard"),
}
_NETWORKS = ("read_butterfly", "write_butterfly", "read_crossbar", "write_crossbar", "statistics_network")
_STAGES = ("stage 0", "stage 1", "stage 2 or more")
_WAITS = ("wait_prefetch", "wait_demand", "wait_store")
_RUNS = ("done", "failed", "aborted", "refused", "core_reset", "prefetch_hit", "collecting", *_WAITS)
_PERFORMANCE = (
    *("cycles", "run_cycles", *_WAITS, "descriptor_beats", "demand_beats", "prefetch_beats", "write_beats", "hbm_busy"),
    *("stall_gate", "stall_cap", "stall_gap", "stall_buffer", "stall_bus", "prefetch_hits", "prefetch_late", "prefetch_unused"),
    *("link_sent", "link_received", "wait_neighbour", "collective_cycles", "beneath_beats"),
)

BLOCK_POINTS = {
    "banks": [f"{bank}, {port}" for bank, ports in _BANKS.items() for port in ports],
    # A crossbar is one stage.
    "networks: conflicts": [name for name in crossed(_NETWORKS, _STAGES) if "crossbar" not in name or name.endswith(_STAGES[0])],
    "run control": [
        *_RUNS,
        *(f"refused: {reason.name}" for reason in Refusal if reason),
        *(f"failed: {source.name}" for source in ErrorSource if source),
    ],
    "counters of a run": list(_PERFORMANCE),
    "counters of a node": [counter.name for counter in Counter],
}


def checked(block: str, expected: Mapping[str, PortTrace], cycles: int) -> Iterator[Hit]:
    """A block held against its model for so many cycles, without a difference."""
    value = {name: trace.value[:cycles] for name, trace in expected.items()}
    for bank, ports in _BANKS.items():
        if block.startswith(bank):
            yield from (("banks", f"{bank}, {port}") for port in ports if value[port].any())
    for network in _NETWORKS:
        if block.startswith(network) and value["error"].any():
            first = int(np.argmax(value["error"] != 0))
            stage = int(value["error_stage"][first]) if "error_stage" in value else 0
            yield "networks: conflicts", f"{network}, {_STAGES[min(2, stage)]}"
    if block.startswith("run_control"):
        yield from _run_control(value)
    if block.startswith("performance"):
        yield from (("counters of a run", name) for name in _PERFORMANCE if value.get(f"count_{name}", np.zeros(1)).any())


def _run_control(value: Mapping[str, NDArray[np.int64]]) -> Iterator[Hit]:
    yield from (("run control", name) for name in _RUNS if name in value and value[name].any())
    for reason in np.unique(value["reason"][value["refused"] == 1]).tolist():
        yield "run control", f"refused: {Refusal(reason).name}"
    for source in np.unique(value["error_source"][value["failed"] == 1]).tolist():
        yield "run control", f"failed: {ErrorSource(source).name}"


def chip_counters(run: ChipRun) -> Iterator[Hit]:
    """Counters of nodes of a chip that were not 0 behind an epoch."""
    for epoch in run.epochs:
        for counter in Counter:
            if counter.name.lower() in epoch.counters and epoch.counters[counter.name.lower()].any():
                yield "counters of a node", counter.name
