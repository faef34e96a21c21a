"""All properties."""

from __future__ import annotations

from .blocks import chip, control, engines, link, network, node, parts, prefetch, rows
from .errors import FormalError
from .property import Property

_ROOMS = (parts, network, node, engines, prefetch, control, link, chip, rows)
PROPERTIES: tuple[Property, ...] = tuple(prop for room in _ROOMS for prop in room.PROPERTIES)


def find_property(name: str) -> Property:
    for prop in PROPERTIES:
        if prop.name == name:
            return prop
    raise FormalError(f"there is no property {name!r}; there are {', '.join(prop.name for prop in PROPERTIES)}")


def select(names: list[str]) -> list[str]:
    """Names of properties: those given, and all of a block that is given; all there are if nothing is."""
    if not names:
        return [prop.name for prop in PROPERTIES]
    chosen: list[str] = []
    for name in names:
        found = [prop.name for prop in PROPERTIES if prop.block == name] or [find_property(name).name]
        chosen += [each for each in found if each not in chosen]
    return chosen
