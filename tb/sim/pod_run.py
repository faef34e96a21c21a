"""Runs a compiled program on a pod harness. Roles: host (loads and reads banks), monitor (drains the trace), checker."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import Timer

from compiler.program import Epoch, Program, job_layouts, pack_jobs
from golden.cycle.ports import PortTrace
from rtl.layouts import PodError
from tb.expected import LEAD, expected_ports, trace_ports
from tb.lockstep import LockstepError, first_mismatch
from tb.pod_bench import TRACE_CYCLES, geometry_of
from tb.sim.backdoor import array

PERIOD = 2
COUNTERS = ("first_request", "last_write", "x_words", "w_words", "p_words", "cycles", "errors", "error_time", "busy")


class Host:
    """Puts words into banks and takes results out, in bulk and in no simulated time."""

    def __init__(self, program: Program, jobs: int):
        self.program, config = program, program.config
        memory, pod_array = config.memory, config.array
        self.x = self._bank("x_mem", memory.banks * memory.x_words, 8 * pod_array.rows)
        self.w = self._bank("w_mem", memory.banks * memory.w_words, 8 * pod_array.cols)
        self.p = self._bank("p_mem", memory.banks * memory.p_words, 32 * pod_array.cols)
        self.layouts = job_layouts(config)
        self.jobs = [
            array("pod_harness", name, jobs, layout.width)
            for name, layout in zip(("load_jobs", "stream_jobs"), self.layouts, strict=True)
        ]
        self.counts = array("pod_harness", "job_counts", 2, 32).view(np.uint32)[:, 0]
        self.counters = array("pod_harness", "counters", len(COUNTERS), 32).view(np.uint32)[:, 0]

    def _bank(self, name: str, words: int, width: int) -> np.ndarray:
        view = array("pod_harness", name, words, width)
        return view[:, : width // 8]

    def load(self, epoch: Epoch, activations: np.ndarray, weights: np.ndarray) -> None:
        memory = self.program.config.memory
        for view, size, image in (
            (self.x, memory.x_words, self.program.x_image(epoch, activations)),
            (self.w, memory.w_words, self.program.w_image(epoch, weights)),
        ):
            for place, words in image:
                begin = place.bank * size + place.base
                view[begin : begin + len(words)] = words.view(np.uint8)
        for slot, (layout, jobs) in enumerate(zip(self.layouts, (epoch.loads, epoch.streams), strict=True)):
            packed = pack_jobs(layout, jobs)
            self.jobs[slot][: len(packed), : packed.shape[1]] = packed
            self.counts[slot] = len(packed)

    def banks(self, view: np.ndarray) -> np.ndarray:
        """(banks, words, lanes) int8 of an X or W view."""
        return view.view(np.int8).reshape(self.program.config.memory.banks, -1, view.shape[1])

    def collect(self, epoch: Epoch, result: np.ndarray) -> None:
        size = self.program.config.memory.p_words
        for readout in epoch.readouts:
            begin = readout.place.bank * size + readout.place.base
            words = np.ascontiguousarray(self.p[begin : begin + int(np.prod(readout.shape))]).view(np.int32)
            self.program.store_result(result, readout, words)


class LockstepMonitor:
    """Drains the trace and holds it against the expected ports, as far as the simulation has come."""

    def __init__(self, program: Program, epoch: Epoch, host: Host, cycles: int, corrupt: dict | None):
        geometry = geometry_of(program.config)
        self.ports = trace_ports(geometry)
        width = 8 * (self.ports[-1][0] + 4)
        self.trace = array("pod_harness", "trace", TRACE_CYCLES, width)
        self.expected: dict[str, PortTrace] = expected_ports(
            geometry, epoch, cycles, host.banks(host.x), host.banks(host.w)
        )
        self.corrupt = corrupt
        self.seen = 0
        self.compared = 0

    def check(self, cycles: int) -> None:
        """Compare everything up to ``cycles``; raises `LockstepError` at the first difference."""
        rows = np.arange(self.seen, cycles) % TRACE_CYCLES
        raw = self.trace[rows]
        observed = {port.name: port.unpack(raw[:, at : at + port.bytes]) for at, port in self.ports}
        self._corrupt(observed, cycles)
        mismatch = first_mismatch(self.expected, observed, begin=self.seen)
        if mismatch:
            raise LockstepError("pod", mismatch)
        for trace in self.expected.values():
            self.compared += int(trace.known[self.seen : cycles].sum())
        self.seen = cycles

    def _corrupt(self, observed: dict[str, np.ndarray], cycles: int) -> None:
        if self.corrupt and self.seen <= self.corrupt["cycle"] < cycles:
            values = observed[self.corrupt["port"]]
            at = self.corrupt["cycle"] - self.seen
            flip = 1 << self.corrupt["bit"]
            if values.ndim == 2:
                values[at, self.corrupt["lane"]] ^= flip
            else:
                values[at] ^= flip


@cocotb.test()
async def run_program(dut) -> None:
    with Path("task.pickle").open("rb") as handle:
        task = pickle.load(handle)
    program: Program = task["program"]
    host = Host(program, task["jobs"])
    result = program.empty_result()
    outcome: dict = {"epoch_cycles": [], "counters": [], "errors": [], "simulated_cycles": 0, "compared": 0}
    simulate_s = check_s = 0.0

    async def advance(cycles: int) -> None:
        nonlocal simulate_s
        began = time.perf_counter()
        await Timer(cycles * PERIOD, "ns")
        simulate_s += time.perf_counter() - began
        outcome["simulated_cycles"] += cycles

    async def reset() -> None:
        dut.rst.value = 1
        await advance(3)
        dut.rst.value = 0

    dut.go.value = 0
    dut.tracing.value = int(task["lockstep"])
    Clock(dut.clk, PERIOD, "ns").start()
    # Away from the edges, so that no write races with one.
    await Timer(1.5, "ns")
    await reset()
    for number, (epoch, span) in enumerate(zip(program.epochs, task["spans"], strict=True)):
        host.load(epoch, task["activations"], task["weights"])
        if number == 0 and task["reset_at"] is not None:
            dut.go.value = 1
            await advance(task["reset_at"])
            dut.go.value = 0
            await reset()
        # Until the last predicted write, and a little longer: RTL that is late must show it.
        cycles = LEAD + 1 + span.last_write + 8
        began = time.perf_counter()
        monitor = LockstepMonitor(program, epoch, host, cycles, task["corrupt"]) if task["lockstep"] else None
        check_s += time.perf_counter() - began
        dut.go.value = 1
        await advance(1)
        left = cycles
        while left:
            step = min(left, TRACE_CYCLES) if monitor else left
            await advance(step)
            left -= step
            if monitor:
                began = time.perf_counter()
                monitor.check(cycles - left)
                check_s += time.perf_counter() - began
        if monitor:
            outcome["compared"] += monitor.compared
        counters = dict(zip(COUNTERS, host.counters.tolist(), strict=True))
        outcome["counters"].append(counters)
        outcome["epoch_cycles"].append(counters["last_write"] - counters["first_request"] + 1)
        if counters["errors"]:
            named = [error.name.lower() for error in PodError if counters["errors"] >> error & 1]
            outcome["errors"].append(f"epoch {number}, time {counters['error_time']}: {', '.join(named)}")
        if counters["busy"]:
            outcome["errors"].append(f"epoch {number}: still busy {cycles} cycles after the first job was pushed")
        dut.go.value = 0
        await advance(4)
        host.collect(epoch, result)
    np.save("result.npy", result)
    Path("outcome.json").write_text(json.dumps(outcome | {"simulate_s": simulate_s, "check_s": check_s}))
