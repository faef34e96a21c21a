"""The lockstep checker: every output port of a block against its cycle model, in every cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace


@dataclass(frozen=True)
class Port:
    """A port as lanes of ``width`` bits; ``lanes`` 0 is a port that is one value."""

    name: str
    width: int
    lanes: int = 0
    signed: bool = False

    @property
    def bits(self) -> int:
        return self.width * max(1, self.lanes)

    @property
    def bytes(self) -> int:
        return (self.bits + 7) // 8

    def unpack(self, raw: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Values, (cycles,) or (cycles, lanes), of (cycles, bytes) as traced."""
        raw = np.ascontiguousarray(raw)
        if self.width in (8, 16, 32) and self.bytes * 8 == self.bits:
            kind = np.dtype(f"<{'i' if self.signed else 'u'}{self.width // 8}")
            values = raw.view(kind).astype(np.int64)
        else:
            bits = np.unpackbits(raw, axis=1, count=self.bits, bitorder="little")
            weights = np.int64(1) << np.arange(self.width, dtype=np.int64)
            if self.signed:
                weights[-1] = -weights[-1]
            values = bits.reshape(len(raw), -1, self.width).astype(np.int64) @ weights
        return values if self.lanes else values[:, 0]

    def pack(self, values: NDArray) -> NDArray[np.uint8]:
        """(cycles, bytes) of values, (cycles,) or (cycles, lanes): the inverse of `unpack`."""
        values = np.asarray(values).astype(np.int64).reshape(len(values), max(1, self.lanes))
        if self.width in (8, 16, 32) and self.bytes * 8 == self.bits:
            return values.astype(np.dtype(f"<i{self.width // 8}")).view(np.uint8).reshape(len(values), self.bytes)
        bits = (values[:, :, None] >> np.arange(self.width)) & 1
        return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1, bitorder="little")


@dataclass(frozen=True)
class Mismatch:
    """The first difference between a block and its model."""

    cycle: int
    port: str
    lane: int | None
    expected: int
    got: int

    def __str__(self) -> str:
        lane = "" if self.lane is None else f" lane {self.lane}"
        return f"cycle {self.cycle}, port {self.port}{lane}: expected {self.expected}, got {self.got}"


class LockstepError(AssertionError):
    """A block left its model; ``mismatch`` says where."""

    def __init__(self, block: str, mismatch: Mismatch):
        super().__init__(f"{block} differs from its cycle model at {mismatch}")
        self.mismatch = mismatch


def first_mismatch(expected: dict[str, PortTrace], observed: dict[str, NDArray[np.int64]], *, begin: int = 0) -> Mismatch | None:
    """The earliest difference in cycles ``begin`` to ``begin + n`` of ``expected``, n cycles being observed."""
    found: Mismatch | None = None
    for name, trace in expected.items():
        values = observed[name]
        part = slice(begin, begin + len(values))
        want, known = trace.value[part], trace.known[part]
        wrong = (values[: len(want)] != want) & known
        if not wrong.any():
            continue
        row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        if found is None or begin + row < found.cycle:
            lane = int(np.argmax(wrong[row])) if wrong.ndim == 2 else None
            at = (row,) if lane is None else (row, lane)
            found = Mismatch(begin + row, name, lane, int(want[at]), int(values[at]))
    return found


def compared(expected: dict[str, PortTrace], cycles: int) -> int:
    """How many port values (lanes counted one by one) a check over ``cycles`` compares: those the model knows."""
    return sum(int(trace.known[:cycles].sum()) for trace in expected.values())
