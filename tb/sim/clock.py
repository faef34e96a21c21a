"""Clocks of a test bench: fast, or in simulated time."""

from __future__ import annotations

import ctypes
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import Timer

from .backdoor import array

PERIOD = 2
_BURST = 1 << 16


class ModelStoppedError(AssertionError):
    """The hardware ended the simulation."""


class BurstClock:
    """Runs cycles in a loop beside the model, in no simulated time: nothing else happens meanwhile, in Python or VPI."""

    def __init__(self, dut: Any, scope: str):
        self.scope = scope.encode()
        self._cycles = ctypes.CDLL(None).podweave_cycles
        self._cycles.argtypes = [ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p]
        self._cycles.restype = ctypes.c_longlong
        dut.clk.value = 0

    async def advance(self, cycles: int, until: str | None = None) -> int:
        """Run ``cycles``, or fewer if the public one-bit variable ``until`` is 1 before; returns how many they were."""
        # What was written to inputs takes effect first.
        await Timer(1, "ns")
        done = 0
        while done < cycles:
            burst = min(cycles - done, _BURST)
            ran = self._cycles(self.scope, burst, until.encode() if until else None)
            if ran < 0:
                raise ModelStoppedError("the model stopped: an assertion of the hardware failed, or $finish was reached")
            done += ran
            if ran < burst:
                break
        return done


class TimedClock:
    """A clock in simulated time: slower, and what a waveform needs."""

    def __init__(self, dut: Any, scope: str):
        self._clock = Clock(dut.clk, PERIOD, "ns")
        self._scope = scope
        self._started = False

    async def advance(self, cycles: int, until: str | None = None) -> int:
        """As `BurstClock.advance`."""
        if not self._started:
            self._clock.start()
            self._started = True
            # Away from the edges, so that no write races with one.
            await Timer(3 * PERIOD // 4, "ns")
        if until is None:
            await Timer(cycles * PERIOD, "ns")
            return cycles
        flag = array(self._scope, until, 1, 1)
        for cycle in range(cycles):
            if flag[0, 0]:
                return cycle
            await Timer(PERIOD, "ns")
        return cycles


def clock_of(dut: Any, scope: str, *, timed: bool) -> BurstClock | TimedClock:
    return TimedClock(dut, scope) if timed else BurstClock(dut, scope)
