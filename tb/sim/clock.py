"""Clocks of a test bench: fast, or in simulated time."""

from __future__ import annotations

import ctypes
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import Timer

PERIOD = 2
_BURST = 1 << 16


class BurstClock:
    """Runs cycles in a loop beside the model, in no simulated time: nothing else happens meanwhile, in Python or VPI."""

    def __init__(self, dut: Any, scope: str):
        self.scope = scope.encode()
        self._cycles = ctypes.CDLL(None).podweave_cycles
        self._cycles.argtypes = [ctypes.c_char_p, ctypes.c_ulonglong]
        dut.clk.value = 0

    async def advance(self, cycles: int) -> None:
        # What was written to inputs takes effect first.
        await Timer(1, "ns")
        while cycles:
            burst = min(cycles, _BURST)
            if self._cycles(self.scope, burst):
                raise RuntimeError("the model stopped: an assertion of the hardware failed, or $finish was reached")
            cycles -= burst


class TimedClock:
    """A clock in simulated time: slower, and what a waveform needs."""

    def __init__(self, dut: Any):
        self._clock = Clock(dut.clk, PERIOD, "ns")
        self._started = False

    async def advance(self, cycles: int) -> None:
        if not self._started:
            self._clock.start()
            self._started = True
            # Away from the edges, so that no write races with one.
            await Timer(3 * PERIOD // 4, "ns")
        await Timer(cycles * PERIOD, "ns")
