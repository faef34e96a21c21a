"""The rules of an AXI4 manager that reads and writes in order, held against a recording of its ports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
_PAYLOAD = {"ar": ("addr", "len", "size", "burst"), "aw": ("addr", "len", "size", "burst"), "w": ("data", "strb", "last")}


class ProtocolError(AssertionError):
    """The manager broke a rule; the message names it, the channel and the cycle."""


@dataclass(frozen=True)
class Limits:
    """``beat_bytes``: width of the bus; ``max_burst``: beats; ``outstanding``: bursts of a kind; ``memory``: bytes [begin, end)."""

    beat_bytes: int
    max_burst: int
    outstanding: int
    memory: tuple[int, int]


def check_protocol(rows: NDArray, limits: Limits) -> None:
    """Raise `ProtocolError` at the first cycle in which a rule is broken. ``rows``: fields named as signals, without the prefix.

    A cycle in reset has no rules but that a manager does not assert valid in the one after it.
    """
    for channel in _PAYLOAD:
        _check_handshake(rows, channel)
    _check_reset(rows)
    for channel in ("ar", "aw"):
        _check_bursts(rows, channel, limits)
    for first, beyond in _stretches(rows):
        _check_order(rows[first:beyond], first, limits)


def _refuse(broken: NDArray[np.bool_], channel: str, rule: str) -> None:
    if broken.any():
        raise ProtocolError(f"{channel} at cycle {int(np.argmax(broken))}: {rule}")


def _flags(rows: NDArray, name: str) -> NDArray[np.bool_]:
    return rows[name].astype(bool)


def _stretches(rows: NDArray) -> list[tuple[int, int]]:
    """Cycles between resets."""
    running = np.concatenate([[False], ~_flags(rows, "rst"), [False]])
    edges = np.flatnonzero(running[1:] != running[:-1])
    return [(int(first), int(beyond)) for first, beyond in edges.reshape(-1, 2)]


def _check_handshake(rows: NDArray, channel: str) -> None:
    valid, ready = _flags(rows, f"{channel}valid"), _flags(rows, f"{channel}ready")
    reset = _flags(rows, "rst")
    waits = (valid & ~ready & ~reset)[:-1] & ~reset[1:]
    _refuse(waits & ~valid[1:], channel, "valid fell before ready")
    for field in _PAYLOAD[channel]:
        values = rows[f"{channel}{field}"]
        changed = values[1:] != values[:-1]
        if changed.ndim == 2:
            changed = changed.any(axis=1)
        _refuse(waits & changed, channel, f"{channel}{field} changed before ready")
    for ready_name in ("rready", "bready"):
        _refuse(~_flags(rows, ready_name) & ~reset, ready_name[0], f"{ready_name} is low")


def _check_reset(rows: NDArray) -> None:
    after = np.concatenate([[False], _flags(rows, "rst")[:-1]])
    for channel in _PAYLOAD:
        _refuse(after & _flags(rows, f"{channel}valid"), channel, "valid in the first cycle after a reset")


def _check_bursts(rows: NDArray, channel: str, limits: Limits) -> None:
    valid = _flags(rows, f"{channel}valid") & ~_flags(rows, "rst")
    address, beats = rows[f"{channel}addr"].astype(np.int64), rows[f"{channel}len"].astype(np.int64) + 1
    end = address + beats * limits.beat_bytes
    rules = {
        "size is not that of the bus": (1 << rows[f"{channel}size"].astype(np.int64)) != limits.beat_bytes,
        "burst is not INCR": rows[f"{channel}burst"] != 1,
        "address is not that of a beat": address % limits.beat_bytes != 0,
        "burst is too long": beats > limits.max_burst,
        "burst crosses 4 KiB": address // PAGE != (end - 1) // PAGE,
        "burst leaves the memory": (address < limits.memory[0]) | (end > limits.memory[1]),
    }
    for rule, broken in rules.items():
        _refuse(valid & broken, channel, rule)


def _check_order(rows: NDArray, first: int, limits: Limits) -> None:
    """Counts of bursts and beats of cycles without a reset."""

    def transfers(channel: str) -> NDArray[np.bool_]:
        return _flags(rows, f"{channel}valid") & _flags(rows, f"{channel}ready")

    def refuse(broken: NDArray[np.bool_], channel: str, rule: str) -> None:
        if broken.any():
            raise ProtocolError(f"{channel} at cycle {first + int(np.argmax(broken))}: {rule}")

    reads, read_ends = transfers("ar"), transfers("r") & _flags(rows, "rlast")
    writes, answers = transfers("aw"), transfers("b")
    for channel, begun, ended in (("ar", reads, read_ends), ("aw", writes, answers)):
        under_way: NDArray[np.int64] = np.cumsum(begun) - np.cumsum(ended)
        refuse(np.greater(under_way, limits.outstanding), channel, "more bursts under way than allowed")
    beats, last = transfers("w"), _flags(rows, "wlast")
    lengths = rows["awlen"][writes].astype(np.int64) + 1
    # Beat i of all that were sent is the last one of its burst exactly where the lengths say so. Addresses may come after data.
    ends = np.zeros(int(max(beats.sum(), lengths.sum())) + 1, bool)
    ends[np.cumsum(lengths) - 1] = True
    sent = np.cumsum(beats) - 1
    known = sent < lengths.sum()
    refuse(beats & known & (ends[np.maximum(sent, 0)] != last), "w", "wlast is not at the last beat of its burst")


def check_buffer(rows: NDArray, capacity: int, left: NDArray[np.int64], rings: list[tuple[int, int]]) -> None:
    """Raise `ProtocolError` if more beats of data are asked for than there is room for, in a recording without a reset.

    ``left``: how many beats can have left the buffer when 0, 1, ... pieces are on the load port: their room can be asked for in the
    cycle of the piece. ``rings``: [begin, end) of what is not data.
    """
    address = rows["araddr"].astype(np.int64)
    data = ~np.any([(address >= begin) & (address < end) for begin, end in rings], axis=0)
    valid = _flags(rows, "arvalid")
    waited = np.concatenate([[False], (valid & ~_flags(rows, "arready"))[:-1]])
    asked = np.cumsum(np.where(valid & ~waited & data, rows["arlen"].astype(np.int64) + 1, 0))
    delivered = np.cumsum(_flags(rows, "host_valid") & _flags(rows, "host_write"))
    _refuse(asked - left[np.minimum(delivered, len(left) - 1)] > capacity, "ar", "more beats asked for than the buffer holds")
