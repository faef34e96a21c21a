"""Bits of signals in a row: modules of only wires are written with them, and read by those that simulate what they connect."""

from __future__ import annotations

from collections.abc import Iterable

Chunk = tuple[str, int, int]
"""Bits of a signal: its name, the first bit, the last bit + 1. The name of a constant is its Verilog (``4'd9``)."""


def cut(chunks: Iterable[Chunk], start: int, stop: int) -> list[Chunk]:
    """Bits ``start`` to ``stop`` of what chunks are together, the least significant first.

    >>> cut([("a", 0, 4), ("b", 8, 16)], 3, 6)
    [('a', 3, 4), ('b', 8, 10)]
    """
    found, at = [], 0
    for name, first, last in chunks:
        low, high = max(start, at), min(stop, at + last - first)
        if low < high:
            found.append((name, first + low - at, first + high - at))
        at += last - first
    return found
