"""How much of each tensor may be loaded ahead of its epoch: ratios that users set, and the descriptors that they allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Append, Attention, RowLinear

_MOST_NAMES = 24
"""That a sentence lists."""


def loaded_tensors(graph: Graph) -> tuple[str, ...]:
    """What W banks hold of a graph: operations that have weights, and caches of keys and values."""
    if not isinstance(graph, RowGraph):
        return tuple(operation.name for operation in graph.operations)
    appends = {each.name: each.cache for each in graph.operations if isinstance(each, Append)}
    found: dict[str, None] = {}
    for each in graph.operations:
        if isinstance(each, Attention):
            found |= dict.fromkeys(appends.get(name, name) for name in (*each.all_keys, *each.all_values))
        elif isinstance(each, Linear | RowLinear):
            found[each.name] = None
    return tuple(found)


def tensor_ratios(patterns: Mapping[str, float], tensors: Collection[str], network: str) -> dict[str, float]:
    """The ratio of each tensor that has one below 1.

    ``patterns``: by name, or by a pattern with ``*``, ``?`` and ``[...]``; of those that a tensor matches, the last one counts.
    Raises `WorkloadError` for what is not a ratio, and for a pattern that none of the ``tensors`` matches.

    >>> tensor_ratios({"*": 0.5, "q*": 1, "k": 0}, ("q0", "q1", "k", "down"), "llama")
    {'k': 0, 'down': 0.5}
    """
    found = dict.fromkeys(tensors, 1.0)
    for pattern, ratio in patterns.items():
        # Not a number is in no order.
        if not 0 <= ratio <= 1:
            raise WorkloadError(f"a prefetch ratio is between 0 and 1, got {ratio} for {pattern!r}")
        named = [pattern] if pattern in tensors else [name for name in tensors if fnmatchcase(name, pattern)]
        if not named:
            listed = ", ".join(sorted(tensors)[:_MOST_NAMES])
            more = f" and {len(tensors) - _MOST_NAMES} more" if len(tensors) > _MOST_NAMES else ""
            what = f"it has {listed}{more}" if tensors else "it has none"
            raise WorkloadError(f"{network} has no weights, keys or values {pattern!r} for a prefetch ratio; {what}")
        found |= dict.fromkeys(named, ratio)
    return {name: ratio for name, ratio in found.items() if ratio < 1}


def limited(ratios: Mapping[str, float], tensor: str | None) -> str | None:
    """The tensor, if not all of it may be ahead."""
    return tensor if tensor in ratios else None


class Ahead:
    """Which descriptors may be ahead, as they are made: of every tensor and manager as many words as the ratio says, to the nearest
    descriptor, epoch by epoch.

    ``ratios``: of tensors that have one below 1.
    """

    def __init__(self, ratios: Mapping[str, float]):
        self._ratios = ratios
        self._words: Counter[tuple[int, str]] = Counter()
        self._ahead: Counter[tuple[int, str]] = Counter()

    def allows(self, manager: int, tensor: str | None, words: int) -> bool:
        """Whether the next so many words of a tensor are."""
        if tensor is None or tensor not in self._ratios:
            return True
        key = manager, tensor
        self._words[key] += words
        allowed = 2 * self._ahead[key] + words <= 2 * self._ratios[tensor] * self._words[key]
        self._ahead[key] += words * allowed
        return allowed
