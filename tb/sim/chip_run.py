"""Runs epochs on a chip harness. Roles: host (loads, starts and reads), through backdoor arrays or the load ports alone."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import Jobs, pack_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import words_of
from podweave.spec.errors import BankError, NodeErrors, PodError, PostError
from podweave.spec.jobs import post_parameters_layout, store_layout
from podweave.spec.layout import Layout
from podweave.spec.load_port import Counter, HostSelect, host_widths

from ..benches.chip_task import ACCESSES, ChipEpoch, ChipRun, EpochResult, Readback, beats, describe_network_error, stores
from .backdoor import array, peak_bytes
from .clock import Clock
from .nodes import NodeArrays, bank_words

HARNESS = "chip_harness"


# 32-bit words of an access beside its data, in the order of the harness.
FLAGS, BEAT, SELECT, MANAGER, UNIT, ADDRESS, DATA = range(7)
WRITE, COMMIT, BROADCAST = 1, 2, 4


class Port:
    """The load ports: a table of accesses is played back, one per cycle."""

    def __init__(self, dut: Any, clock: Any, config: ChipConfig, run: ChipRun):
        self.dut, self.clock, self.config, self.run = dut, clock, config, run
        self.row = DATA + config.host_bits // 32
        self.rows = array(HARNESS, "accesses", ACCESSES, 32 * self.row).view(np.uint32)
        self.results = array(HARNESS, "results", ACCESSES, config.host_bits)
        self.count = array(HARNESS, "access_count", 1, 32).view(np.uint32)
        self.status = array(HARNESS, "status", 4, 32).view(np.uint32)[:, 0]
        self.widths = host_widths(config)
        self.pending: list[NDArray[np.uint32]] = []

    def write(self, select: HostSelect, unit: int | None, base: int, words: NDArray[np.uint8]) -> None:
        """Queue writes of ``words`` (n, bytes) from ``base`` on, into one node or, with ``unit`` None, into all of them."""
        count, number, bits = len(words), beats(self.config, self.widths[select][1]), self.config.host_bits
        padded = np.zeros((count, number * bits // 8), np.uint8)
        padded[:, : words.shape[1]] = words
        rows = np.zeros((count, number, self.row), np.uint32)
        rows[:, :, FLAGS] = WRITE
        rows[:, -1, FLAGS] |= COMMIT
        rows[:, :, BEAT] = np.arange(number)
        rows[:, :, SELECT] = select
        rows[:, :, ADDRESS] = base + np.arange(count)[:, None]
        rows[:, :, DATA:] = padded.view(np.uint32).reshape(count, number, bits // 32)
        if unit is not None:
            rows[:, :, MANAGER], rows[:, :, UNIT] = divmod(unit, self.config.nodes_per_manager)
            self.pending.append(rows.reshape(-1, self.row))
            return
        rows[:, :, FLAGS] |= BROADCAST
        for manager in range(self.config.managers):
            rows[:, :, MANAGER] = manager
            self.pending.append(rows.reshape(-1, self.row).copy())

    async def flush(self) -> None:
        """Play the queued writes back."""
        if self.pending:
            rows = np.concatenate(self.pending)
            self.pending = []
            for begin in range(0, len(rows), ACCESSES):
                await self._play(rows[begin : begin + ACCESSES])

    async def read(self, select: HostSelect, units: NDArray, addresses: NDArray) -> NDArray[np.uint8]:
        """The words (n, bytes) at ``addresses`` of ``units``."""
        number = beats(self.config, self.widths[select][1])
        rows = np.zeros((len(addresses), number, self.row), np.uint32)
        managers, within = np.divmod(np.asarray(units), self.config.nodes_per_manager)
        rows[:, :, BEAT] = np.arange(number)
        rows[:, :, SELECT] = select
        rows[:, :, MANAGER], rows[:, :, UNIT] = managers[:, None], within[:, None]
        rows[:, :, ADDRESS] = np.asarray(addresses)[:, None]
        flat = rows.reshape(-1, self.row)
        found = []
        for begin in range(0, len(flat), ACCESSES):
            part = flat[begin : begin + ACCESSES]
            await self._play(part)
            found.append(self.results[: len(part)].copy())
        return np.concatenate(found).reshape(len(addresses), -1)

    async def _play(self, rows: NDArray[np.uint32]) -> None:
        self.rows[: len(rows)] = rows
        self.count[0] = len(rows)
        self.dut.go.value = 1
        # The last access must have taken effect in its node.
        await self.advance(len(rows) + self.config.host_read_latency + 2)
        self.dut.go.value = 0
        await self.advance(1)

    async def pulse(self, command: Any) -> None:
        """One cycle of ``start`` or ``rewind``."""
        command.value = 1
        await self.advance(1)
        command.value = 0
        await self.advance(1)

    async def advance(self, cycles: int) -> None:
        await self.clock.advance(cycles)
        self.run.simulated_cycles += cycles


class Host:
    """Loads what an epoch needs and reads back what it left."""

    def __init__(self, config: ChipConfig, port: Port, nodes: NodeArrays | None):
        self.config, self.port, self.nodes = config, port, nodes
        self.stores = {select: store_layout(layout) for _, _, select, layout in stores(config)}

    async def load(self, epoch: ChipEpoch) -> None:
        for select, image in ((HostSelect.X, epoch.x_image), (HostSelect.W, epoch.w_image)):
            for bank, base, words in image:
                self.write_words(select, bank, base, np.ascontiguousarray(words).view(np.uint8))
        zero = np.zeros((1, -(-host_widths(self.config)[HostSelect.P][1] // 8)), np.uint8)
        for address in epoch.zero_words:
            self.write_words(HostSelect.P, None, address, zero)
        layout = post_parameters_layout(self.config)
        for bank, number, lanes in epoch.parameters:
            self.write_parameters(bank, number, {field.name: lanes[i] for i, field in enumerate(layout.fields)})
        for number, table in epoch.tables:
            self.write_words(HostSelect.TABLE, None, 256 * number, np.asarray(table).view(np.uint8)[:, None])
        for name, column, select, layout in stores(self.config):
            self.write_jobs(select, layout, getattr(epoch, name), column)
        await self.port.flush()
        await self.port.pulse(self.port.dut.rewind)

    def write_words(self, select: HostSelect, node: int | None, base: int, words: NDArray[np.uint8]) -> None:
        """Into one node or, with ``node`` None, into all of them."""
        if self.nodes is None:
            self.port.write(select, node, base, words)
            return
        for each in range(self.config.pods) if node is None else (node,):
            self.nodes.write(select, each, base, words)

    def write_parameters(self, node: int, number: int, values: dict[str, NDArray]) -> None:
        layout = post_parameters_layout(self.config)
        if self.nodes is None:
            lanes = pack_jobs(layout, {name: np.asarray(value, np.int64) for name, value in values.items()})
            bits = np.unpackbits(lanes, axis=1, bitorder="little")[:, : layout.width]
            self.port.write(HostSelect.PARAMETERS, node, number, np.packbits(bits.reshape(1, -1), axis=1, bitorder="little"))
            return
        for field in layout.fields:
            lanes = pack_jobs(Layout(field.name, (field,)), {field.name: np.asarray(values[field.name], np.int64)})
            bits = np.unpackbits(lanes, axis=1, bitorder="little")[:, : field.width]
            row = np.packbits(bits.reshape(-1), bitorder="little")
            self.nodes.view(field.name, node)[number] = row

    def write_jobs(self, select: HostSelect, layout: Layout, jobs: Jobs, column: str) -> None:
        """Every node's program store holds the jobs of this epoch from word 0 on, and at least the word that ends it."""
        nodes = np.asarray(jobs.get(column, np.zeros(0, np.int64)))
        order = np.arange(len(nodes))
        counts = np.bincount(nodes, minlength=self.config.pods)
        if (np.diff(nodes) < 0).any():
            raise ValueError(f"{layout.name}: jobs are not sorted by {column}")
        fields = {field.name: jobs[field.name] for field in layout.fields} if len(nodes) else {}
        ends = np.cumsum(counts)
        last = np.zeros(len(nodes), np.int64)
        last[ends[counts > 0] - 1] = 1
        whole = {**fields, "valid": np.ones(len(nodes), np.int64), "last": last}
        words = pack_jobs(self.stores[select], whole) if len(order) else None
        empty = {field.name: np.zeros(1, np.int64) for field in self.stores[select].fields} | {"last": np.ones(1, np.int64)}
        nothing = pack_jobs(self.stores[select], empty)
        depth = words_of(self.config, select)
        for node in range(self.config.pods):
            if counts[node] > depth:
                raise ValueError(f"{layout.name}: {counts[node]} jobs of {column} {node} are more than its store of {depth}")
            mine = nothing if words is None or not counts[node] else words[ends[node] - counts[node] : ends[node]]
            self.write_words(select, node, 0, mine)

    async def read_words(self, region: Readback) -> NDArray[Any]:
        if self.nodes is not None:
            return self.nodes.read(region)
        select, at = HostSelect[region.kind], region.base + np.arange(region.words)
        return bank_words(self.config, select, await self.port.read(select, np.full(region.words, region.bank), at))

    async def counters(self) -> dict[str, NDArray[np.int64]]:
        pods, number = self.config.pods, len(Counter)
        if self.nodes is None:
            units, addresses = np.divmod(np.arange(pods * number), number)
            raw = await self.port.read(HostSelect.COUNTERS, units, addresses)
            values = raw[:, :4].copy().view(np.uint32).reshape(pods, number)
        else:
            values = np.concatenate([self.nodes.view(HostSelect.COUNTERS, i).copy().view(np.uint32) for i in range(pods)])
        found = {counter.name.lower(): values[:, counter].astype(np.int64) for counter in Counter}
        return found | {"busy": found["x_words"]}

    async def errors(self) -> list[str]:
        pods, number = self.config.pods, len(NodeErrors)
        units, addresses = np.divmod(np.arange(pods * number), number)
        raw = await self.port.read(HostSelect.ERRORS, units, addresses)
        values = raw[:, :8].copy().view(np.uint64).reshape(pods, number).astype(np.int64)
        found = []
        record = describe_network_error(self.config, int(self.port.status[3]))
        if record:
            found.append(record)
        for node in np.flatnonzero(values[:, [NodeErrors.POD, NodeErrors.POST, NodeErrors.BANK]].any(axis=1)).tolist():
            row = values[node]
            if row[NodeErrors.POD]:
                found.append(f"pod {node}, time {row[NodeErrors.POD_TIME]}: {_named(PodError, row[NodeErrors.POD])}")
            if row[NodeErrors.POST]:
                found.append(f"post-processor {node}, time {row[NodeErrors.POST_TIME]}: {_named(PostError, row[NodeErrors.POST])}")
            if row[NodeErrors.BANK]:
                found.append(f"bank {node}: {_named(BankError, row[NodeErrors.BANK])}")
        return found


def _named(kind: Any, bits: int) -> str:
    return ", ".join(error.name.lower() for error in kind if int(bits) >> error & 1)


class Session:
    """A reset chip and its clock; runs epochs one after the other."""

    def __init__(self, dut: Any, job: dict):
        self.dut, self.job, self.config = dut, job, job["config"]
        self.clock = Clock(dut, HARNESS, job["run"])
        self.run = ChipRun()
        self.port = Port(dut, self.clock, self.config, self.run)

    async def begin(self) -> None:
        for name in ("go", "start", "rewind"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 1
        await self.port.advance(3)
        self.dut.rst.value = 0
        self.host = Host(
            self.config, self.port, None if self.job["through"] == "port" else NodeArrays(self.config, f"{HARNESS}.chip")
        )

    async def epoch(self, epoch: ChipEpoch, limit: int, readback: list[Readback]) -> None:
        began = time.perf_counter()
        await self.host.load(epoch)
        self.run.wall_s["load"] += time.perf_counter() - began
        began = time.perf_counter()
        finished = await self.execute(limit)
        self.run.wall_s["simulate"] += time.perf_counter() - began
        began = time.perf_counter()
        errors = []
        if not finished:
            errors.append(f"still busy after {int(self.port.status[2])} cycles")
        if self.port.status[1]:
            errors += await self.host.errors()
        contents = [np.array(await self.host.read_words(region)) for region in readback]
        counters = await self.host.counters()
        self.run.epochs.append(EpochResult(int(self.port.status[2]), counters, errors, contents, finished))
        self.run.wall_s["read"] += time.perf_counter() - began

    async def execute(self, limit: int) -> bool:
        """Start one epoch; until ``busy`` falls, or for about ``limit`` cycles. Where it falls is in the counter of cycles."""
        await self.port.pulse(self.dut.start)
        lead = self.port.run.simulated_cycles
        step = max(16, min(4096, limit // 64))
        while self.port.status[0]:
            if self.port.run.simulated_cycles - lead >= limit:
                return False
            await self.port.advance(step)
        return True


@cocotb.test()
async def run_epochs(dut: Any) -> None:
    job = _read_job()
    session = Session(dut, job)
    await session.begin()
    for number, (epoch, limit) in enumerate(zip(job["epochs"], job["limits"], strict=True), start=1):
        Path("progress").write_text(f"simulating epoch {number}/{len(job['epochs'])}", encoding="utf-8")
        await session.epoch(epoch, limit, job["readback"][number - 1])
        if session.run.epochs[-1].errors:
            break
    session.run.peak_bytes = peak_bytes()
    _write_outcome(session.run)


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
