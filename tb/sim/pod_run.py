"""Runs a compiled program on a pod harness. Roles: host (loads and reads banks), monitor (drains the trace), checker."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from podweave.compiler.jobs import job_layouts, pack_jobs
from podweave.compiler.pod.program import Epoch, Program
from podweave.golden.cycle.pod.span import Span
from podweave.golden.cycle.ports import PortTrace
from podweave.predict.pod import geometry_of
from podweave.spec.errors import PodError

from ..benches.pod_expected import LEAD, expected_ports, trace_ports
from ..benches.pod_task import TRACE_CYCLES, PodRun, Task
from ..lockstep.ports import LockstepError, first_mismatch
from .backdoor import array
from .clock import Clock

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
        self.expected: dict[str, PortTrace] = expected_ports(geometry, epoch, cycles, host.banks(host.x), host.banks(host.w))
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


class Session:
    """A reset pod and its clock; runs programs one after the other."""

    def __init__(self, dut: Any, job: dict):
        self.dut, self.job = dut, job
        self.clock = Clock(dut, "pod_harness", job["run"])

    async def begin(self) -> None:
        self.dut.go.value = 0
        self.dut.tracing.value = int(self.job["lockstep"])
        await self.reset()

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await self.clock.advance(3)
        self.dut.rst.value = 0

    async def run(self, task: Task, spans: list[Span]) -> PodRun:
        program = task.program
        host = Host(program, self.job["jobs"])
        run = PodRun(program.empty_result())
        for number, (epoch, span) in enumerate(zip(program.epochs, spans, strict=True)):
            began = time.perf_counter()
            host.load(epoch, task.activations, task.weights)
            run.wall_s["load"] += time.perf_counter() - began
            if self.job["reset_at"] is not None and number == 0:
                self.dut.go.value = 1
                await self.advance(run, self.job["reset_at"])
                self.dut.go.value = 0
                await self.reset()
            await self.run_epoch(run, program, epoch, host, span)
            self.note(run, number, host)
            self.dut.go.value = 0
            await self.clock.advance(4)
            began = time.perf_counter()
            host.collect(epoch, run.result)
            run.wall_s["load"] += time.perf_counter() - began
        return run

    async def advance(self, run: PodRun, cycles: int) -> None:
        began = time.perf_counter()
        await self.clock.advance(cycles)
        run.wall_s["simulate"] += time.perf_counter() - began
        run.simulated_cycles += cycles

    async def run_epoch(self, run: PodRun, program: Program, epoch: Epoch, host: Host, span: Span) -> None:
        # Until the last predicted write, and a little longer: RTL that is late must show it.
        cycles = LEAD + 1 + span.last_write + 8
        monitor = None
        began = time.perf_counter()
        if self.job["lockstep"]:
            monitor = LockstepMonitor(program, epoch, host, cycles, self.job["corrupt"])
        run.wall_s["check"] += time.perf_counter() - began
        self.dut.go.value = 1
        await self.advance(run, 1)
        for seen in range(0, cycles, TRACE_CYCLES):
            step = min(cycles - seen, TRACE_CYCLES)
            await self.advance(run, step)
            if monitor:
                began = time.perf_counter()
                monitor.check(seen + step)
                run.wall_s["check"] += time.perf_counter() - began
        if monitor:
            run.compared += monitor.compared

    def note(self, run: PodRun, number: int, host: Host) -> None:
        counters = dict(zip(COUNTERS, host.counters.tolist(), strict=True))
        run.counters.append(counters)
        run.epoch_cycles.append(counters["last_write"] - counters["first_request"] + 1)
        if counters["errors"]:
            named = [error.name.lower() for error in PodError if counters["errors"] >> error & 1]
            run.errors.append(f"epoch {number}, time {counters['error_time']}: {', '.join(named)}")
        if counters["busy"]:
            run.errors.append(f"epoch {number}: still busy after {counters['cycles']} cycles")


@cocotb.test()
async def run_programs(dut: Any) -> None:
    job = _read_job()
    session = Session(dut, job)
    await session.begin()
    runs = []
    for number, (task, spans) in enumerate(job["tasks"], start=1):
        name = task.program.lowered.layer.name
        Path("progress").write_text(f"simulating {name} ({number}/{len(job['tasks'])})", encoding="utf-8")
        runs.append(await session.run(task, spans))
    _write_outcome(runs)


@cocotb.test()
async def run_idle(dut: Any) -> None:
    job = _read_job()
    session = Session(dut, job)
    await session.begin()
    began = time.perf_counter()
    await session.clock.advance(job["idle"])
    _write_outcome(time.perf_counter() - began)


def _read_job() -> dict:
    with Path("job.pickle").open("rb") as handle:
        return pickle.load(handle)


def _write_outcome(outcome: Any) -> None:
    with Path("outcome.pickle").open("wb") as handle:
        pickle.dump(outcome, handle)
