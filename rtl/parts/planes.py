"""Words that arrive on several planes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, Mux, Value


def lowest(valid: Value, words: Sequence[Value]) -> Value:
    """The word of the lowest valid plane; with none valid, that of the highest."""
    chosen = words[-1]
    for plane in reversed(range(len(words) - 1)):
        chosen = Mux(valid[plane], words[plane], chosen)
    return chosen


def several(valid: Value) -> Value:
    """Whether more than one plane is valid."""
    return (valid & (valid - 1)[: len(valid)]).any()


def to_plane(valid: Value, ports: Mapping[str, Value], plane: str, planes: int) -> Value:
    """A bit per plane: ``valid`` for the one that the port ``plane`` names; with one plane, there is no such port."""
    return Cat(valid & (ports[plane] == i) for i in range(planes)) if planes > 1 else valid


def planes_of(words: Value, planes: int) -> list[Value]:
    """The words of all planes."""
    width = len(words) // planes
    return [words[i * width : (i + 1) * width] for i in range(planes)]
