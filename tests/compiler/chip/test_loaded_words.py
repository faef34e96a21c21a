"""compiler.chip.loaded_words: what is loaded of a stored tensor serves all who read a part of it, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.epoch_program import ExternalUnit
from podweave.compiler.chip.loaded_words import Words, loaded_with, words_of_unit
from podweave.compiler.chip.regions import unpadded
from podweave.compiler.jobs import Place
from podweave.compiler.lower.layer import Origin, Region, Unit
from podweave.ir.operations import Operand

from .chip_graphs import conv

SHAPE = (2, 12, 10, 8)
LANES = np.arange(8)


def unit(first: int = 0, origin: Origin = Origin.STORED) -> Unit:
    return Unit(0 * LANES, 0 * LANES, LANES + first, 8, origin, "tensor", first)


def operand(kernel: int = 1, pad: int = 0, value: int = 0) -> Operand:
    return Operand(("tensor",), conv("reader", SHAPE, 4, kernel, padding=((pad, pad), (pad, pad))), value)


def loaded(*items: tuple[Operand, Unit, Region]) -> dict[Words, tuple[ExternalUnit, ...]]:
    found: dict[Words, tuple[ExternalUnit, ...]] = {}
    for number, item in enumerate(items):
        key = words_of_unit(*item)
        found[key] = (*found.get(key, ()), ExternalUnit(0, 0, 0, item[2], Place(number, 0)))
    return found


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_words_lie_where_the_region_says(seed: int) -> None:
    """A region as one operand sees it is found by another one, of other padding, in words of the same positions."""
    rng = np.random.default_rng(seed)
    one, other = operand(1), operand(3, 1)
    (top, left), (high, wide) = (rng.integers(0, 5, 2).tolist() for _ in range(2))
    whole = Region(1, 1, top, high + 1, left, wide + 1)
    rows, columns = int(rng.integers(0, high + 1)), int(rng.integers(0, wide + 1))
    # In rows and columns of padded input, of which the first is padding.
    part = Region(1, 1, top + rows + 1, high + 1 - rows, left + columns + 1, wide + 1 - columns)
    ((item, around),) = loaded_with(loaded((one, unit(), whole)), other, unit(), part)
    assert item.place.bank == 0
    assert unpadded(other, unit(), around) == unpadded(one, unit(), whole)
    assert around.words == whole.words


def test_what_is_the_same_comes_first() -> None:
    whole, part = Region(0, 1, 0, 12, 0, 10), Region(0, 1, 2, 3, 0, 10)
    known = loaded((operand(), unit(), whole), (operand(), unit(), part), (operand(), unit(), whole))
    found = [(item.place.bank, region) for item, region in loaded_with(known, operand(), unit(), part)]
    assert found == [(1, part), (0, whole), (2, whole)]


PADDED = operand(3, 1, -3)
WHOLE = Region(0, 1, 0, 14, 0, 12)


@pytest.mark.parametrize(
    "known",
    [
        # Rows and columns that are not there; another image; another block of channels; another tensor.
        (PADDED, unit(), Region(0, 1, 1, 13, 0, 12)),
        (PADDED, unit(), Region(0, 1, 0, 3, 0, 12)),
        (PADDED, unit(), Region(0, 1, 0, 14, 2, 10)),
        (PADDED, unit(), Region(0, 1, 0, 14, 0, 10)),
        (PADDED, unit(), Region(1, 1, 0, 14, 0, 12)),
        (PADDED, unit(8), WHOLE),
        (PADDED, replace(unit(), source="other"), WHOLE),
        # Padding that is none, and other padding.
        (operand(), unit(), Region(0, 1, 0, 12, 0, 10)),
        (operand(3, 1, 5), unit(), WHOLE),
    ],
)
def test_nothing_else_serves(known: tuple[Operand, Unit, Region]) -> None:
    wanted = PADDED, unit(), Region(0, 1, 0, 4, 1, 10)
    assert not list(loaded_with(loaded(known), *wanted))
    # The same without what is wrong.
    assert list(loaded_with(loaded((PADDED, unit(), WHOLE)), *wanted))


@pytest.mark.parametrize(
    "known", [(unit(8), WHOLE), (replace(unit(), source="other"), WHOLE), (unit(), Region(1, 1, 0, 14, 0, 12))]
)
def test_nothing_else_serves_who_reads_no_padding(known: tuple[Unit, Region]) -> None:
    wanted = operand(), unit(), Region(0, 1, 2, 3, 1, 4)
    assert not list(loaded_with(loaded((PADDED, *known)), *wanted))
    assert list(loaded_with(loaded((PADDED, unit(), WHOLE)), *wanted))


def test_inputs_of_the_network_are_packed_for_one_reader() -> None:
    packed = unit(origin=Origin.EXTERNAL)
    known = loaded((operand(), packed, Region(0, 1, 0, 12, 0, 10)))
    assert not list(loaded_with(known, operand(), packed, Region(0, 1, 0, 4, 0, 10)))
