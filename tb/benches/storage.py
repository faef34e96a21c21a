"""How Verilator stores values. Free of Amaranth: the simulator imports it too."""

from __future__ import annotations


def stride(width: int) -> int:
    """Bytes that Verilator gives one value of ``width`` bits."""
    for bits in (8, 16, 32, 64):
        if width <= bits:
            return bits // 8
    return 4 * ((width + 31) // 32)
