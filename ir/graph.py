"""Graphs of layers: what frontends make, golden models evaluate and the compiler takes."""

from __future__ import annotations

from dataclasses import dataclass

from .operations import Linear, Shape


@dataclass(frozen=True)
class Graph:
    """The structure of a network; `podweave.ir.constants` has what its operations multiply by, `podweave.ir.verify` its rules.

    Parameters
    ----------
    inputs : dict
        Tensors that come from outside, by name.
    operations : tuple
        In an order in which each reads only earlier tensors.
    outputs : tuple of str, optional
        Tensors that leave: each computed by an operation, and read by others or not. By default those that no operation reads.
    """

    name: str
    inputs: dict[str, Shape]
    operations: tuple[Linear, ...]
    outputs: tuple[str, ...] = None  # type: ignore[assignment]  # Always a tuple once it is made.

    def __post_init__(self) -> None:
        if self.outputs is None:
            read = self.read
            unread = tuple(operation.name for operation in self.operations if operation.name not in read)
            object.__setattr__(self, "outputs", unread)

    @property
    def read(self) -> set[str]:
        """Tensors that some operation reads, or whose sums it adds to."""
        found = {source for operation in self.operations for source in operation.sources}
        return found | {operation.adds_to for operation in self.operations if operation.adds_to}

    @property
    def macs(self) -> int:
        return sum(operation.macs for operation in self.operations)

    @property
    def weights(self) -> int:
        return sum(operation.weights for operation in self.operations)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor by its name."""
        if name in self.inputs:
            return self.inputs[name]
        return next(operation.output for operation in self.operations if operation.name == name)
