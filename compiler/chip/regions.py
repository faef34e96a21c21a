"""Regions of what operands read, as rows and columns of tensors as they are seen."""

from __future__ import annotations

from dataclasses import dataclass

from podweave.ir.operations import Operand

from ..lower.boxes import Rect
from ..lower.layer import Region, Unit


def every(span: tuple[int, int], number: int, by: int) -> tuple[int, int]:
    """Of what stands together in groups of ``by``, the groups whose element ``number`` is in a span."""
    return -(-(span[0] - number) // by), -(-(span[1] - number) // by)


def unpadded(operand: Operand, unit: Unit, region: Region) -> Rect:
    """A region in rows and columns of the tensor of a unit, as the operand sees it; it begins before 0 where there is padding."""
    (top, _), (left, _) = operand.layer.padding
    row, column = operand.corner(unit.source)
    row, column = row + region.top - top, column + region.left - left
    return (region.image, region.image + region.images), (row, row + region.height), (column, column + region.width)


@dataclass(frozen=True)
class Padding:
    """Of a region: what stands in it, and the region without it."""

    value: int
    inside: Rect


def padding(operand: Operand, unit: Unit, region: Region) -> Padding | None:
    """That of a region, if there is some in it."""
    rect = unpadded(operand, unit, region)
    valid = valid_part(operand, unit, rect)
    return None if valid == rect else Padding(operand.pad_value, valid)


def valid_part(operand: Operand, unit: Unit, rect: Rect) -> Rect:
    """A region without its padding."""
    layer, (row, column) = operand.layer, operand.corner(unit.source)
    high, wide = row + layer.height, column + layer.width
    return rect[0], (max(rect[1][0], row), min(rect[1][1], high)), (max(rect[2][0], column), min(rect[2][1], wide))
