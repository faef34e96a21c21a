"""The clock of a test bench: cycles run in a loop beside the model, in no simulated time of cocotb's."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from cocotb.triggers import Timer

_BURST = 1 << 16
_PLAIN: Mapping[str, Any] = {"threads": 1, "least_s": 0.0, "checking": False, "waves": None, "waves_of": []}


class ModelStoppedError(AssertionError):
    """The hardware ended the simulation."""


class EngineError(RuntimeError):
    """What simulates the design block by block found itself wrong, or cannot do what it is asked for."""


class Clock:
    """Nothing else happens while cycles run, in Python or VPI.

    Parameters
    ----------
    dut, scope
        The harness, and its name.
    settings
        How to run: ``threads``, over which the blocks of a design are spread if a cycle takes at least ``least_s`` seconds;
        ``checking``, whether to hold what is not evaluated against what evaluating it gives; ``waves``, a path for a VCD of the
        blocks in ``waves_of``, or of all.
    """

    def __init__(self, dut: Any, scope: str, settings: Mapping[str, Any] = _PLAIN):
        self.scope = scope.encode()
        self._library = ctypes.CDLL(None)
        self._cycles = self._library.podweave_cycles
        self._cycles.argtypes = [ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p]
        self._cycles.restype = ctypes.c_longlong
        self._library.podweave_threads(ctypes.c_uint(settings["threads"]), ctypes.c_double(settings["least_s"]))
        self._library.podweave_check(int(settings["checking"]))
        # Verilator takes new models, and files for waveforms, at time 0 only.
        self._checked(self._library.podweave_begin(self.scope))
        if settings["waves"]:
            names = "".join(f"{name}\n" for name in settings["waves_of"])
            self._checked(self._library.podweave_trace(self.scope, settings["waves"].encode(), names.encode()))
        dut.clk.value = 0

    async def advance(self, cycles: int, until: str | None = None) -> int:
        """Run ``cycles``, or fewer if the public one-bit variable ``until`` is 1 before; returns how many they were."""
        # What was written to inputs takes effect first.
        await Timer(1, "ns")
        done = 0
        while done < cycles:
            burst = min(cycles - done, _BURST)
            ran = self._checked(self._cycles(self.scope, burst, until.encode() if until else None))
            done += ran
            if ran < burst:
                break
        return done

    def _checked(self, result: int) -> int:
        if result == -1:
            raise ModelStoppedError("the model stopped: an assertion of the hardware failed, or $finish was reached")
        if result < 0:
            message = self._library.podweave_message
            message.restype = ctypes.c_char_p
            raise EngineError(message().decode())
        return result
