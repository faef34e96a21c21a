"""Names that occur once."""

from __future__ import annotations


class Names:
    """Gives each name that is taken already a number: ``conv``, ``conv#2``, ``conv#3``."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def unique(self, name: str) -> str:
        result = name
        while result in self._taken:
            self._taken[name] += 1
            result = f"{name}#{self._taken[name]}"
        self._taken[result] = 1
        return result
