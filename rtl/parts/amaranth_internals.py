"""Everything of Amaranth that we use and that is not public, in one place."""

from __future__ import annotations

from amaranth.hdl import Elaboratable

# Amaranth before 0.6, which pyproject.toml asks for, has no public way to
# - read an elaborated design: the kinds of statements and of values other than signals and constants (`WiredBlock` writes them);
# - say that a component is placed without being elaborated where it is placed: it warns of each that it has not seen (`place`).
from amaranth.hdl._ast import Assign, Concat, Operator, Slice

__all__ = ["Assign", "Concat", "Operator", "Slice", "mark_used"]


def mark_used(component: Elaboratable) -> None:
    """Amaranth does not warn that ``component`` was made and never elaborated."""
    component._MustUse__used = True
