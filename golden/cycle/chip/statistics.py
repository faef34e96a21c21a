"""Cycle model of the statistics network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, wrap
from .rows import STATISTIC_BITS, SUM

Ints = NDArray[np.int64]


def statistics_network(valid: NDArray[np.bool_], statistic: Ints, level: Ints, value: Ints, element: Ints) -> dict[str, PortTrace]:
    """Every output port, from inputs (cycles, nodes).

    By hand, the sum of 3 and 4 in one cycle, and in the next the maximum of -5 and -5, of which node 1 has the lower element:

    >>> two = np.ones((3, 2), np.int64)
    >>> values, elements = np.array([[3, 4], [-5, -5], [0, 0]]), np.array([[0, 0], [9, 2], [0, 0]])
    >>> found = statistics_network(two == 1, np.array([[1, 1], [2, 2], [1, 1]]), two, values, elements)
    >>> found["total"].value[1:].tolist(), found["place"].value[1:].tolist()
    ([[7, 7], [-5, -5]], [[0, 0], [2, 2]])
    """
    cycles, nodes = valid.shape
    stages = (nodes - 1).bit_length()
    node = np.arange(nodes)
    first: tuple[int, int, int] | None = None
    for s in range(stages):
        other = node ^ 1 << s
        joins = valid & (level > s)
        differ = (statistic != statistic[:, other]) | (level != level[:, other])
        conflict = (joins != joins[:, other]) | (joins & joins[:, other] & differ)
        # Words are in stage s as many cycles after they came in.
        for cycle, port in np.argwhere(conflict & (node < other))[:1].tolist():
            found = (cycle + s, s, port)
            first = min(first, found) if first else found
        meet = joins & ~conflict
        theirs, their_element = value[:, other], element[:, other]
        sums = statistic == SUM
        takes = np.where(sums, their_element < element, (theirs > value) | ((theirs == value) & (their_element < element)))
        merged = np.where(sums, wrap(value + theirs, STATISTIC_BITS), np.where(takes, theirs, value))
        value, element = np.where(meet, merged, value), np.where(meet & takes, their_element, element)
    late = np.arange(cycles) >= stages
    known = np.zeros((cycles, nodes), bool)
    known[late] = valid[: cycles - stages]
    ports = {}
    for name, words in (("total", value), ("place", element)):
        shifted = np.zeros((cycles, nodes), np.int64)
        shifted[late] = words[: cycles - stages]
        ports[name] = PortTrace(np.where(known, shifted, 0), known)
    for name, index in (("error", None), ("error_stage", 1), ("error_port", 2)):
        trace = np.zeros(cycles, np.int64)
        if first:
            trace[first[0] + 1 :] = 1 if index is None else first[index]
        ports[name] = PortTrace(trace, np.ones(cycles, bool))
    return ports
