"""What a property is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
    engine : Literal["pdr", "induction", "bounded", "bounded words"]
        The first two prove it for traces of any length.
    cycles : int
        Of an induction: behind how many cycles the next one is. Of a bounded proof: how long traces are, that of reset included.
    reach : int
        Cycles in which every cover must be reached.
    """

    name: str
    rule: str
    sizes: str
    build: Callable[[Harness], None]
    faults: tuple[Fault, ...]
    engine: Literal["pdr", "induction", "bounded", "bounded words"] = "pdr"
    cycles: int = 0
    reach: int = 16

    @property
    def kind(self) -> str:
        return f"bounded, {self.cycles} cycles" if self.engine.startswith("bounded") else "unbounded"

    @property
    def block(self) -> str:
        return self.name.partition(".")[0]
