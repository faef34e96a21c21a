"""golden: operations on rows round halves as they are told, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.layers.attention import divide
from podweave.golden.layers.fixed_point import Rounding
from podweave.golden.layers.norm import layer_norm, rms_norm
from podweave.golden.layers.product import gate, product
from podweave.golden.layers.softmax import softmax

BOTH: list[tuple[Rounding, int]] = [("half_away", 0), ("half_even", 1)]


@pytest.mark.parametrize(("rounding", "which"), BOTH)
def test_halves(rounding: Rounding, which: int) -> None:
    """1/2 and 5/2 of a product; an index of a half below the largest score; 1/2 of a gain."""
    values = np.array([1, 5, -1], np.int16)
    assert product(values, np.int16([1, 1, 1]), 1, 1, rounding=rounding).tolist() == [[1, 3, -1], [0, 2, 0]][which]
    weights, _ = softmax(np.array([[1, 0]], np.int32), 1, 1, rounding=rounding)
    assert weights.tolist() == [[[4095, 3847]], [[4095, 4095]]][which]
    # Nothing is left of equal values but their biases, of which a gain takes a half.
    row = np.full((1, 2), 7, np.int32)
    assert layer_norm(row, 0, 0, np.array([1, 5]), 1, 1, rounding).tolist() == [[[1, 3]], [[0, 2]]][which]
    # The table of 8.5 sixteenths, by the entry of 9 or of 8.
    table = np.arange(256, dtype=np.int16)
    assert gate(np.int16([17]), 5, table, 1, 0, rounding).tolist() == [[17 * 9], [17 * 8]][which]


def test_what_is_no_half_is_rounded_alike() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-(2**20), 2**20, (4, 24)).astype(np.int32)
    away, even = (rms_norm(rows, 6, rounding=rounding).astype(int) for rounding, _ in BOTH)
    assert np.abs(away - even).max() <= 1
    sums, total = rng.integers(-500, 500, (3, 4)).astype(np.int32), np.array([512, 1024, 3], np.int32)
    halves = (256 * sums % total[:, None]) * 2 == total[:, None]
    found = [divide(sums, total, rounding) for rounding, _ in BOTH]
    assert (found[0] == found[1])[~halves].all()
