"""The clock of a test bench: cycles run in a loop beside the model, in no simulated time of cocotb's."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from cocotb.triggers import Timer

from ..benches.storage import stride

_BURST = 1 << 16
_PLAIN: Mapping[str, Any] = {"threads": 1, "least_s": 0.0, "checking": False, "waves": None, "waves_of": [], "record": None}


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
        blocks in ``waves_of``, or of all; ``record``, a path for the values of ports after each cycle, and the ports, as (unit,
        name, width).
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
        self._recorder = _Recorder(self._library, *settings["record"]) if settings["record"] else None
        dut.clk.value = 0

    async def advance(self, cycles: int, until: str | None = None) -> int:
        """Run ``cycles``, or fewer if the public one-bit variable ``until`` is 1 before; returns how many they were."""
        # What was written to inputs takes effect first.
        await Timer(1, "ns")
        done = 0
        while done < cycles:
            burst = min(cycles - done, _Recorder.ROWS if self._recorder else _BURST)
            ran = self._checked(self._cycles(self.scope, burst, until.encode() if until else None))
            done += ran
            if self._recorder:
                self._recorder.keep(ran)
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


class _Recorder:
    """Values of ports after each cycle, into a file."""

    ROWS = 1024

    def __init__(self, library: ctypes.CDLL, path: str, ports: Sequence[tuple[str, str, int]]):
        import numpy as np

        port, variable = library.podweave_port, library.podweave_variable
        for find in (port, variable):
            find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
        data = (ctypes.c_void_p * len(ports))()
        bytes_ = (ctypes.c_ulonglong * len(ports))()
        for i, (unit, name, width) in enumerate(ports):
            # A block that is an object, or a place in one model of the whole design.
            data[i] = port(unit.encode(), name.encode()) or variable(unit.encode(), name.encode())
            bytes_[i] = stride(width)
            if not data[i]:
                raise LookupError(f"no port {name!r} of {unit!r}")
        self.rows = np.zeros((self.ROWS, sum(bytes_)), np.uint8)
        self.next = 0
        self.path = path
        target = self.rows.ctypes.data_as(ctypes.c_void_p)
        library.podweave_record(data, bytes_, ctypes.c_uint(len(ports)), target, ctypes.c_ulonglong(self.ROWS))

    def keep(self, cycles: int) -> None:
        """The rows of that many last cycles, up to ROWS."""
        with open(self.path, "ab") as file:
            begin, end = self.next % self.ROWS, self.next % self.ROWS + cycles
            file.write(self.rows[begin:end].tobytes() + self.rows[: max(0, end - self.ROWS)].tobytes())
        self.next += cycles
