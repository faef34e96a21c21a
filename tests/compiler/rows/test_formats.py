"""compiler.rows.formats: bytes of numbers, and which of them the bytes of words are."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.rows.formats import byte_numbers, decoded, encoded
from podweave.compiler.rows.layout import head_layout, plain_layout
from podweave.ir.row_operations import Format

LIMITS = {
    Format.INT8: (-128, 127),
    Format.INT16: (-32768, 32639),
    Format.WIDE: (-(2**31), 2**31 - 1),
    Format.LENGTHS: (0, 2**18 - 1),
    Format.ANGLES: (-(2**14), 2**14),
}


@pytest.mark.parametrize("form", LIMITS)
def test_there_and_back(form: Format) -> None:
    low, high = LIMITS[form]
    values = np.concatenate([[low, high, 0], np.random.default_rng(1).integers(low, high + 1, 61)]).reshape(1, 1, 8, 8)
    there = encoded(form, values)
    assert there.shape == (1, 1, 8, 8, form.dtype.itemsize)
    np.testing.assert_array_equal(decoded(form, there), values)


def test_planes() -> None:
    """What is streamed: the low plane and the high one are both int8, so 200 is 256 - 56."""
    assert encoded(Format.INT16, np.array([200, -129, 32639])).tolist() == [[-56, 1], [127, -1], [127, 127]]


@pytest.mark.parametrize("form", [Format.INT16, Format.WIDE])
@pytest.mark.parametrize("heads", [False, True])
def test_each_byte_of_a_tensor_is_in_one_word(form: Format, heads: bool) -> None:
    words = 2 if form is Format.INT16 else 1
    sizes = {"nodes": 2, "lanes": 4, "words": words}
    layout = head_layout(3, 4, 2, 5, **sizes, lead=1) if heads else plain_layout(3, 20, **sizes)
    numbers = byte_numbers(layout, form)
    assert numbers.shape == (2, layout.node_words, 16 if form is Format.WIDE else 4)
    assert sorted(numbers[numbers >= 0].tolist()) == list(range(3 * 20 * form.dtype.itemsize))


def test_where_the_bytes_of_a_number_are() -> None:
    """Row 1, channel 5, of 10 channels in two nodes: lane 1 of the second tile, which is the first of node 1."""
    numbers = byte_numbers(plain_layout(2, 10, nodes=2, lanes=4, words=2), Format.INT16)
    element = 1 * 10 + 5
    # The high plane is the first word of the row.
    assert numbers[1, 2, 1] == 2 * element + 1
    assert numbers[1, 3, 1] == 2 * element
    wide = byte_numbers(plain_layout(2, 10, nodes=2, lanes=4, words=1), Format.WIDE)
    assert wide[1, 1, 4:8].tolist() == [4 * element + i for i in range(4)]
    angles = byte_numbers(plain_layout(2, 10, nodes=2, lanes=4, words=1), Format.ANGLES)
    assert angles[1, 1, 4:8].tolist() == [2 * element, 2 * element + 1, -1, -1]
