"""Pods on programs of chips: what they are told, what comes from their banks, and what every port must show meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.jobs import Jobs, job_layouts, pack_jobs
from podweave.golden.cycle.pod.jobs import Pushes
from podweave.golden.cycle.pod.pod import PodModel
from podweave.golden.cycle.ports import PortTrace
from podweave.predict.chip import pod_geometry
from podweave.spec.config import ChipConfig

Stimulus = dict[str, NDArray]

LEAD = 4
"""Cycles from the first push to the rise of ``run``."""
_IDLE = 0x5A
"""Lanes of a data input while nothing was requested."""


@dataclass(frozen=True)
class PodProgram:
    """A pod on its part of an epoch.

    Members
    -------
    model : PodModel
        Its cycle model, on the same jobs.
    inputs : Stimulus
        Of the pod, in every cycle, as a `pod_bench` takes them.
    expected : dict of str to PortTrace
        Of the pod, in every cycle.
    """

    model: PodModel
    inputs: Stimulus
    expected: dict[str, PortTrace]


def push_cycles(start: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """When a program store pushes its jobs: one per cycle from cycle 0 on, whenever the queue has room.

    A job leaves the queue one cycle before its start time, and its place is free the cycle after.
    """
    leaves = LEAD + start
    earliest = np.zeros(len(start), np.int64)
    earliest[depth:] = leaves[: max(0, len(start) - depth)] + 1
    order = np.arange(len(start))
    return order + np.maximum.accumulate(earliest - order)


def pod_program(program: EpochProgram, pod: int, x_banks: NDArray[np.int8], w_banks: NDArray[np.int8]) -> PodProgram:
    """A pod on its jobs of an epoch, in a memory with the latency of the networks; ``x_banks``, ``w_banks``: (banks, words, lanes),
    of all banks, as if nobody wrote into them meanwhile."""
    config = program.config
    loads, streams = (_of_pod(jobs, pod) for jobs in (program.loads, program.streams))
    geometry, queues = pod_geometry(config), config.pod
    tile_streams = _of_pod(program.tile_by_tile().streams, pod)
    words = tile_streams["n0"] * tile_streams["n1"] * tile_streams["n2"]
    cycles = LEAD + int((tile_streams["start"] + words).max()) + config.write_latency + 8
    run = np.arange(cycles) >= LEAD
    load = Pushes(push_cycles(loads["start"], queues.load_queue_depth), loads)
    stream = Pushes(push_cycles(streams["start"], queues.stream_queue_depth), streams)
    model = PodModel(geometry, run, load, stream)
    requests = model.requests()
    x, w = (_answers(requests, name, banks, geometry.latency) for name, banks in (("x", x_banks), ("w", w_banks)))
    inputs: Stimulus = {"run": run, "x_data": x, "w_data": w, **_pushed(config, cycles, load, stream)}
    return PodProgram(model, inputs, model.outputs(x, w))


def _of_pod(jobs: Jobs, pod: int) -> Jobs:
    return {name: values[jobs["pod"] == pod] for name, values in jobs.items()}


def _pushed(config: ChipConfig, cycles: int, load: Pushes, stream: Pushes) -> Stimulus:
    """Jobs on their ports, bit by bit, in the cycles in which they are pushed."""
    found: Stimulus = {}
    for name, layout, pushes in zip(("load", "stream"), job_layouts(config), (load, stream), strict=True):
        valid, bits = np.zeros(cycles, bool), np.zeros((cycles, layout.width), np.int64)
        valid[pushes.cycle] = True
        packed = pack_jobs(layout, pushes.fields)
        bits[pushes.cycle] = np.unpackbits(packed, axis=1, bitorder="little")[:, : layout.width]
        found |= {f"{name}_valid": valid, f"{name}_job": bits}
    return found


def _answers(requests: dict[str, PortTrace], name: str, banks: NDArray[np.int8], latency: int) -> NDArray[np.int8]:
    """The words on a data input: a request of cycle t is answered in cycle t + latency."""
    asked = np.flatnonzero(requests[f"{name}_request_valid"].value)
    words = np.full((len(requests[f"{name}_request_valid"].value), banks.shape[2]), _IDLE, np.int8)
    asked = asked[asked + latency < len(words)]
    bank, address = (requests[f"{name}_request_{part}"].value[asked] for part in ("bank", "address"))
    words[asked + latency] = banks[bank, address]
    return words
