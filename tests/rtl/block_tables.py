"""Tables of what is given to a block and expected of it, cycle by cycle, and words as bits: what tests of single blocks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.spec.layout import Layout
from podweave.tb.benches.block_bench import BlockBench

Values = dict[str, NDArray[Any]]


def bits_of(layout: Layout, values: Mapping[str, Any]) -> list[int]:
    """All bits of a word, least significant first."""
    found: list[int] = []
    for field in layout.fields:
        found += [int(values[field.name]) >> bit & 1 for bit in range(field.width)]
    return found


def any_word(layout: Layout, rng: np.random.Generator) -> dict[str, int]:
    """A word with any bits."""
    return {field.name: int(rng.integers(1 << field.width)) for field in layout.fields}


def few(rng: np.random.Generator, width: int) -> int:
    """A count that is small, or a power of two or little more: one that loses its highest bit is as good as over."""
    if rng.random() < 0.6:
        return int(rng.integers(1, 6))
    return (1 << int(rng.integers(1, width))) + int(rng.choice([0, 1, 1, 2]))


def tables(bench: BlockBench, rng: np.random.Generator, cycles: int) -> tuple[Values, Values]:
    """What is given, any bits; and what is expected, nothing yet: -1 is whatever there is."""
    given: Values = {}
    for port in bench.inputs:
        shape = (cycles, port.lanes) if port.lanes else cycles
        given[port.name] = rng.integers(0, 1 << min(port.width, 62), shape)
    seen = {port.name: np.full((cycles, port.lanes) if port.lanes else cycles, -1, np.int64) for port in bench.outputs}
    return given, seen


def of_part(name: str, ports: Values) -> Values:
    """Those of one of the blocks that stand side by side."""
    return {port.removeprefix(f"{name}_"): each for port, each in ports.items() if port.startswith(f"{name}_")}


def compare(seen: Values, observed: Mapping[str, NDArray[Any]]) -> None:
    """Every port in every cycle of which something is known."""
    for name, expected in seen.items():
        wrong = np.argwhere((expected >= 0) & (observed[name] != expected))
        if len(wrong):
            at = tuple(wrong[0])
            raise AssertionError(f"{name} in cycle {at}: {observed[name][at]:#x}, not {expected[at]:#x}")
