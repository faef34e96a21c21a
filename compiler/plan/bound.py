"""The least that a network could move over its buses: every weight, input and output once, and what no bank has room for."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from podweave.ir.graph import Graph
from podweave.spec.config import ChipConfig

from ..chip.bank_words import zero_word


@dataclass(frozen=True)
class LeastBytes:
    """``network``: weights, inputs and outputs, each byte once. ``spilled``: of activations, what is stored and loaded again."""

    network: int
    spilled: int

    @property
    def total(self) -> int:
        return self.network + self.spilled


def least_bytes(graph: Graph, config: ChipConfig) -> LeastBytes:
    """For a graph whose operations run one after the other, each as a whole.

    A tensor is live from the operation that gives it to the last one that reads it. All X and P banks together hold so many numbers
    of activations: of the bytes beyond, those whose next reader is furthest away are stored once and loaded once.
    """
    memory, array = config.memory, config.array
    room = memory.banks * (memory.x_words * array.rows + zero_word(config) * array.cols)
    readers: dict[str, list[int]] = {}
    for index, operation in enumerate(graph.operations):
        for source in dict.fromkeys(operation.sources):
            readers.setdefault(source, []).append(index)
    network = graph.weights + sum(map(prod, graph.inputs.values()))
    network += sum(prod(operation.output) for operation in graph.operations if operation.name in graph.outputs)
    held: dict[str, int] = {}
    """By live tensor, its bytes that are on the chip."""
    away: dict[str, int] = {}
    spilled = 0
    for index, operation in enumerate(graph.operations):
        for source in dict.fromkeys(operation.sources):
            spilled += away.pop(source, 0)
        if operation.name in readers:
            held[operation.name] = prod(operation.output)
        held = {name: size for name, size in held.items() if readers[name][-1] > index}
        beyond = sum(held.values()) - room
        for name in sorted(held, key=lambda name: -next(reader for reader in readers[name] if reader > index)):
            if beyond <= 0:
                break
            moved = min(beyond, held[name])
            held[name] -= moved
            away[name] = away.get(name, 0) + moved
            spilled += moved
            beyond -= moved
    return LeastBytes(network, spilled)
