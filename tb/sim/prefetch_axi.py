"""Drives a prefetch engine against the AXI memory of cocotbext-axi, which no one here wrote."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiRamRead, AxiRamWrite, AxiResp

from .prefetch_run import Harness, clear_inputs, run_phases


class _Faults:
    """Which response the beat at an address gets."""

    def __init__(self, ranges: Sequence[tuple[int, int, int]]):
        self.ranges = ranges

    def response(self, address: int) -> int:
        return next((code for first, beyond, code in self.ranges if first <= address < beyond), 0)


class _FaultyRead(AxiRamRead):
    """Answers every failing read with the response that it should have, which the base class only knows as SLVERR."""

    def __init__(self, *arguments: Any, faults: _Faults, **others: Any):
        super().__init__(*arguments, **others)
        self.faults, self._response = faults, 0
        send = self.r_channel.send

        async def send_with_response(beat: Any) -> None:
            if beat.rresp != AxiResp.OKAY:
                beat.rresp = self._response
            await send(beat)

        self.r_channel.send = send_with_response

    async def _read(self, address: int, length: int) -> bytes:
        self._response = self.faults.response(address)
        if self._response:
            raise ValueError("a planted fault")
        return bytes(self.read(address, length))


class _FaultyWrite(AxiRamWrite):
    """As `_FaultyRead`; the response of a burst is that of its first beat that fails."""

    def __init__(self, *arguments: Any, faults: _Faults, **others: Any):
        super().__init__(*arguments, **others)
        self.faults, self._response = faults, 0
        send = self.b_channel.send

        async def send_with_response(answer: Any) -> None:
            if answer.bresp != AxiResp.OKAY:
                answer.bresp, self._response = self._response, 0
            await send(answer)

        self.b_channel.send = send_with_response

    async def _write(self, address: int, data: bytes) -> None:
        response = self.faults.response(address)
        if response:
            self._response = self._response or response
            raise ValueError("a planted fault")
        self.write(address, data)


def _pauses(seed: int, chance: float) -> Iterator[bool]:
    """Stalls that come in stretches, as those of a real memory do."""
    source = random.Random(seed)
    while True:
        likely = source.choice([0.0, chance, min(0.9, 2 * chance)])
        for _ in range(source.randrange(1, 60)):
            yield source.random() < likely


@cocotb.test()
async def run_prefetch(dut: Any) -> None:
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    harness = Harness(task["widths"], task["depths"])
    dut.internal.value = 0
    clear_inputs(dut, task["inputs"])
    dut.rst.value = 1
    Clock(dut.clk, 2, "ns").start()
    bus = AxiBus.from_prefix(dut, "m_axi")
    memory, faults = bytearray(harness.memory.size), _Faults(())
    reads = _FaultyRead(bus.read, dut.clk, dut.rst, mem=memory, faults=faults)
    writes = _FaultyWrite(bus.write, dut.clk, dut.rst, mem=memory, faults=faults)
    for i, scenario in enumerate(task["scenarios"]):
        initial = np.load(f"memory_{i}.npy")
        harness.prepare(scenario["settings"], initial)
        memory[: len(initial)] = initial.tobytes()
        faults.ranges = scenario["errors"]
        channels = (reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel)
        for number, channel in enumerate(channels):
            channel.clear_pause_generator()
            channel.pause = False
            if scenario["stalls"]:
                channel.set_pause_generator(_pauses(scenario["seed"] * 5 + number, scenario["stalls"]))
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        harness.cycles[0] = 0
        dut.rst.value = 0

        async def advance(cycles: int) -> None:
            await ClockCycles(dut.clk, cycles)

        await RisingEdge(dut.clk)
        await run_phases(dut, scenario["phases"], advance)
        np.save(f"rows_{i}.npy", harness.recorded())
        np.save(f"memory_after_{i}.npy", np.frombuffer(bytes(memory), np.uint8))
