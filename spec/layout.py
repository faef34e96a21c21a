"""Words that cross the boundary of a pod: job layouts, codes and error bits, derived from a `ChipConfig`.

Plain tables without hardware, so that the compiler and the test bench pack and unpack the same words as the RTL. Field 0
is the least significant.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    name: str
    width: int
    doc: str
    signed: bool = False


@dataclass(frozen=True)
class Layout:
    """A packed word; ``fields[0]`` is least significant."""

    name: str
    fields: tuple[Field, ...]

    @property
    def width(self) -> int:
        return sum(field.width for field in self.fields)

    def offset(self, name: str) -> int:
        position = 0
        for field in self.fields:
            if field.name == name:
                return position
            position += field.width
        raise KeyError(name)


def bits_for_index(count: int) -> int:
    """Bits that number ``count`` things from 0; at least 1, so that no port has width 0."""
    return max(1, (count - 1).bit_length())


def step_width(words: int) -> int:
    """Bits of a signed address increment that reaches any word of a bank from any other."""
    return bits_for_index(words) + 1
