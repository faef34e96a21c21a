"""What a property is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .faults import Fault
from .harness import Harness


@dataclass(frozen=True, kw_only=True)
class Property:
    """Rules of a block's contract.

    Parameters
    ----------
    name : str
        Of the property: the kind of the block, a dot, and what it is about.
    rule : str
        What is proven, as a sentence.
    sizes : str
        Of the block that is proven.
    build : Callable[[Harness], None]
        States the rules.
    faults : tuple[Fault, ...]
        Of which each must be found.
    cycles : int | None
        None: proven for traces of any length. Else of this many cycles, that of reset included.
    reach : int
        Cycles in which every cover must be reached.
    """

    name: str
    rule: str
    sizes: str
    build: Callable[[Harness], None]
    faults: tuple[Fault, ...]
    cycles: int | None = None
    reach: int = 16

    @property
    def block(self) -> str:
        return self.name.partition(".")[0]
