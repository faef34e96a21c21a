"""What every port of a pod in its harness must show while an epoch runs, from the program alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import Jobs
from podweave.compiler.pod.program import Epoch
from podweave.golden.cycle.pod.jobs import PodGeometry, Pushes
from podweave.golden.cycle.pod.pod import PodModel
from podweave.golden.cycle.ports import PortTrace

from ..lockstep.ports import Port

LEAD = 4
"""Cycles from the first push to the rise of ``run``; as in the harness."""

IDLE = 0x5A
"""Lanes of a data input while nothing was requested; as in the harness."""

# Beside the partial sums and the two data inputs, each in 32 bits of the trace; from least significant on.
_CONTROL = (
    *("error_time", "errors", "busy", "p_address", "p_plane", "p_bank", "p_accumulate", "p_valid"),
    *("x_request_address", "x_request_plane", "x_request_bank", "x_request_valid"),
    *("w_request_address", "w_request_plane", "w_request_bank", "w_request_valid"),
    *("stream_ready", "load_ready", "stream_valid", "load_valid"),
)


def trace_ports(geometry: PodGeometry) -> list[tuple[int, Port]]:
    """(byte offset, port) of everything in a row of the trace."""
    ports = [Port("p_data", 32, geometry.cols, True)]
    ports += [Port("x_data", 8, geometry.rows, True), Port("w_data", 8, geometry.cols, True)]
    ports += [Port(name, 32) for name in _CONTROL]
    placed, offset = [], 0
    for port in ports:
        placed.append((offset, port))
        offset += 4 * ((port.bytes + 3) // 4)
    return placed


def push_cycles(start: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """When the program store pushes its jobs: one per cycle from cycle 0 on, whenever the queue has room.

    A job leaves the queue one cycle before its start time, and its place is free the cycle after.
    """
    leaves = LEAD + start
    earliest = np.zeros(len(start), np.int64)
    earliest[depth:] = leaves[: max(0, len(start) - depth)] + 1
    order = np.arange(len(start))
    return order + np.maximum.accumulate(earliest - order)


def expected_ports(
    geometry: PodGeometry, epoch: Epoch, cycles: int, x_banks: NDArray[np.int8], w_banks: NDArray[np.int8]
) -> dict[str, PortTrace]:
    """Every port of the pod, inputs included, over ``cycles`` cycles; banks (banks, words, lanes)."""
    run = np.arange(cycles) >= LEAD
    load = _pushes(epoch.loads, geometry.load_queue_depth)
    stream = _pushes(epoch.streams, geometry.stream_queue_depth)
    model = PodModel(geometry, run, load, stream)
    requests = model.requests()
    data = {name: _answer(requests, name, banks, geometry.latency) for name, banks in (("x", x_banks), ("w", w_banks))}
    ports = model.outputs(data["x"], data["w"])
    # What a pod does not have is 0 in the trace.
    absent = [name for name in ("x_request_plane", "w_request_plane", "p_plane") if name not in ports]
    ports |= {name: PortTrace(np.zeros(cycles, np.int64), np.ones(cycles, bool)) for name in absent}
    for name, pushes in (("load", load), ("stream", stream)):
        valid = np.zeros(cycles, np.int64)
        valid[pushes.cycle[pushes.cycle < cycles]] = 1
        ports[f"{name}_valid"] = PortTrace(valid, np.ones(cycles, bool))
    for name, words in data.items():
        # Before the first answer can come, the data register shows what it held before the epoch.
        known = np.repeat((np.arange(cycles) >= geometry.latency)[:, None], words.shape[1], axis=1)
        ports[f"{name}_data"] = PortTrace(words.astype(np.int64), known)
    return ports


def _pushes(jobs: Jobs, depth: int) -> Pushes:
    return Pushes(push_cycles(jobs["start"], depth), jobs)


def _answer(requests: dict[str, PortTrace], name: str, banks: NDArray[np.int8], latency: int) -> NDArray[np.int8]:
    """The words on a data input: a request of cycle t is answered in cycle t + latency."""
    asked = np.flatnonzero(requests[f"{name}_request_valid"].value)
    words = np.full((len(requests[f"{name}_request_valid"].value), banks.shape[2]), IDLE, np.int8)
    asked = asked[asked + latency < len(words)]
    bank, address = (requests[f"{name}_request_{part}"].value[asked] for part in ("bank", "address"))
    words[asked + latency] = banks[bank, address]
    return words
