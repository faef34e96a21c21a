"""All properties and equivalences."""

from __future__ import annotations

from .blocks import (
    chip,
    collective,
    collective_words,
    control,
    descriptors,
    engines,
    gate,
    link,
    network,
    node,
    parts,
    prefetch,
    realigner,
    rows,
    walker,
)
from .equivalence import EQUIVALENCES, Equivalence
from .errors import FormalError
from .property import Property

_ROOMS = (
    *(parts, network, node, engines, prefetch, descriptors, gate, walker, realigner),
    *(control, link, collective, collective_words, chip, rows),
)
PROPERTIES: tuple[Property, ...] = tuple(prop for room in _ROOMS for prop in room.PROPERTIES)
_ALL: tuple[Property | Equivalence, ...] = (*PROPERTIES, *EQUIVALENCES)


def find(name: str) -> Property | Equivalence:
    for each in _ALL:
        if each.name == name:
            return each
    raise FormalError(f"there is no property {name!r}; there are {', '.join(each.name for each in _ALL)}")


def select(names: list[str]) -> list[str]:
    """Names of properties and equivalences: those given, and all that begin with one and a dot; all there are if nothing is."""
    every = [each.name for each in _ALL]
    chosen: list[str] = []
    for name in names:
        found = [each for each in every if each.startswith(f"{name}.")] or [find(name).name]
        chosen += [each for each in found if each not in chosen]
    return chosen or every
