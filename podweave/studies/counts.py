"""Closed forms that a study holds the exact model against: bounds by counting tiles, and SOSA's published model of power."""

from __future__ import annotations

import math
from collections.abc import Sequence

from podweave.ir.graph import Graph
from podweave.ir.layers import Layer

FREQUENCY = 1e9
POWER_BUDGET = 400.0
MOST_PODS = 256
"""Of one chip that podweave generates."""

# SOSA's public model: J/B of an access to a 256 KiB bank, J/MAC, and W per byte per cycle and 2 x 2 switch of a network.
_BANK_ENERGY = 2.7e-12
_MAC_ENERGY = 0.4e-12
_SWITCH_POWER = 2.875e-5

Gemm = tuple[int, int, int]
"""(M, K, N)."""


def _is_diagonal(layer: Layer) -> bool:
    return layer.groups > 1 and layer.groups == layer.channels == layer.outputs and layer.kernel == (1, 1)


def gemms(graph: Graph) -> list[Gemm]:
    """The GEMMs that a network is counted by: without poolings, and without the diagonals of ones of residual additions."""
    layers = [operand.layer for operation in graph.operations if not operation.identity for operand in operation.operands]
    found: list[Gemm] = []
    for layer in layers:
        if not _is_diagonal(layer):
            found += [(layer.positions, layer.reduction, layer.outputs // layer.groups)] * layer.groups
    return found


def macs(sizes: Sequence[Gemm]) -> int:
    return sum(m * k * n for m, k, n in sizes)


def tiles(size: Gemm, array: int) -> int:
    """Tile operations of a GEMM that is cut to ``array`` in M, K and N, as SOSA does.

    >>> tiles((100, 768, 64), 32)
    192
    """
    return math.prod(-(-extent // array) for extent in size)


def layered_cycles(sizes: Sequence[Gemm], pods: int, array: int = 32) -> int:
    """Cycles if each GEMM starts when all of the one before is done: ``array`` per round of one tile operation on each pod."""
    return sum(-(-tiles(size, array) // pods) for size in sizes) * array


def packed_cycles(sizes: Sequence[Gemm], pods: int, array: int = 32) -> float:
    """Cycles if no pod were ever idle: a bound for whoever cuts M to ``array``."""
    return sum(tiles(size, array) for size in sizes) * array / pods


def tera_ops(mac_count: int, cycles: float) -> float:
    """TOPS at 1 GHz, a MAC being two operations."""
    return 2 * mac_count / cycles * FREQUENCY / 1e12


def power(array: int, pods: int, expansion: int = 2) -> float:
    """W of a chip at 1 GHz by SOSA's model: banks of 256 KiB, multipliers, and Butterfly-``expansion`` networks.

    >>> round(power(32, 256), 1)
    260.2
    """
    # Bytes per cycle of a pod: activations in, and per column weights, and partial sums of two bytes in and out.
    traffic = array + 5 * array
    banks = traffic * pods * _BANK_ENERGY * FREQUENCY
    multipliers = array * array * pods * _MAC_ENERGY * FREQUENCY
    return banks + multipliers + _SWITCH_POWER * expansion * pods * math.log2(pods) * traffic


def pods_within(array: int, budget: float = POWER_BUDGET) -> int:
    """The largest power of two of pods, at least 2, whose chip stays within the budget.

    >>> [pods_within(array) for array in (16, 32, 64, 128, 256)]
    [512, 256, 128, 32, 8]
    """
    pods = 2
    while power(array, 2 * pods) <= budget:
        pods *= 2
    return pods
