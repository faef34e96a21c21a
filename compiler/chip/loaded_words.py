"""Words that are loaded into X banks, by all that they depend on: operations that read the same share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from podweave.ir.operations import Operand, Upsampling

from ..lower.boxes import Rect
from ..lower.layer import Region, Unit
from .epoch_program import ExternalUnit
from .regions import Padding, padding, unpadded

Tensors = tuple[tuple[str, ...], object]
"""Tensors, and channels of them."""


@dataclass(frozen=True)
class PackedWords:
    """Inputs of the network, packed outside as a unit of an operand wants them. ``size``: rows and columns that the layer reads;
    ``packing``: pixels, channels and grid of the unit."""

    sources: tuple[str, ...]
    channels: tuple[int, int] | None
    upsampled: tuple[Upsampling, ...]
    corners: tuple[tuple[int, int], ...]
    pad_value: int
    size: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    packing: tuple[bytes, bytes, bytes, tuple[int, int]]
    region: Region

    @property
    def tensors(self) -> Tensors:
        return self.sources, self.channels


@dataclass(frozen=True)
class StoredWords:
    """Whole words of a stored tensor, from ``channel`` on, whatever an operand takes of them: those of ``rect``, some of which may
    be padding."""

    source: str
    channel: int
    rect: Rect
    padding: Padding | None

    @property
    def tensors(self) -> Tensors:
        return (self.source,), self.channel

    def has(self, other: StoredWords) -> bool:
        """Whether all of the others are among them. Padding may stand where the tensor goes on, as of a part of it."""
        if self.tensors != other.tensors or self.rect[0] != other.rect[0]:
            return False
        if other.padding and (self.padding is None or self.padding.value != other.padding.value):
            return False
        there = self.padding.inside if self.padding else self.rect
        wanted = other.padding.inside if other.padding else other.rect
        for mine, inside, others, seen in zip(self.rect[1:], there[1:], other.rect[1:], wanted[1:], strict=True):
            if others[0] < mine[0] or mine[1] < others[1] or seen != (max(others[0], inside[0]), min(others[1], inside[1])):
                return False
        return True


Words = PackedWords | StoredWords


def words_of_unit(operand: Operand, unit: Unit, region: Region) -> Words:
    """Those of a unit over a region."""
    if unit.is_stored:
        return StoredWords(unit.source, unit.block[1], unpadded(operand, unit, region), padding(operand, unit, region))
    layer = operand.layer
    return PackedWords(
        operand.sources,
        operand.channels,
        operand.upsampled,
        operand.corners,
        operand.pad_value,
        (layer.height, layer.width),
        layer.padding,
        (unit.channel.tobytes(), unit.dh.tobytes(), unit.dw.tobytes(), unit.grid),
        region,
    )


def loaded_with(
    resident: Mapping[Words, tuple[ExternalUnit, ...]], operand: Operand, unit: Unit, region: Region
) -> Iterator[tuple[ExternalUnit, Region]]:
    """What is loaded already and has the words of a unit over a region, and the region that it has, as the operand sees it: the
    same, or of a stored tensor a larger one."""
    wanted = words_of_unit(operand, unit, region)
    for item in resident.get(wanted, ()):
        yield item, region
    if not isinstance(wanted, StoredWords):
        return
    # From rows and columns of the tensor to those of the operand.
    down, right = region.top - wanted.rect[1][0], region.left - wanted.rect[2][0]
    for words, items in resident.items():
        if words != wanted and isinstance(words, StoredWords) and words.has(wanted):
            _, (top, bottom), (left, right_end) = words.rect
            around = Region(region.image, region.images, top + down, bottom - top, left + right, right_end - left)
            for item in items:
                yield item, around
