"""Registers on the way from one place to many and back: one level of them for every factor of `FANOUT`."""

from __future__ import annotations

from collections.abc import Collection

from amaranth.hdl import Module, Value

from .blocks import register

FANOUT = 16


def fan_out(
    m: Module, values: dict[str, Value], *, leaves: int, levels: int, reset_less: Collection[str] = ()
) -> list[list[dict[str, Value]]]:
    """Copies of ``values`` behind 0, 1, ... ``levels`` registers, by level; copy i of the last one is that of leaves
    i * `FANOUT` on, and copy i of any level feeds copies i * `FANOUT` on of the next."""
    copies = [[values]]
    for level in range(1, levels + 1):
        above = copies[-1]
        copies.append(
            [
                {
                    name: register(m, value, name=f"{name}_{level}_{i}", reset_less=name in reset_less)
                    for name, value in above[i // FANOUT].items()
                }
                for i in range(-(-leaves // FANOUT ** (levels - level + 1)))
            ]
        )
    return copies


def gather(m: Module, name: str, values: list[Value], levels: int) -> Value:
    """The OR of ``values``, ``levels`` cycles later."""
    for level in range(1, levels + 1):
        groups = [values[i : i + FANOUT] for i in range(0, len(values), FANOUT)]
        values = []
        for i, group in enumerate(groups):
            total = group[0]
            for value in group[1:]:
                total = total | value
            values.append(register(m, total, name=f"{name}_up_{level}_{i}", reset_less=False))
    (value,) = values
    return value
