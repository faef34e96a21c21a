"""What a post-processor with row functions can do with the words of a row: codes, widths, and the fields of a job for them.

A *row* is what loop 2 of a post-processor job walks over: its words in one P bank; loop 3 walks over rows. Elements of a row are
counted over its words and lanes, and over the P banks that hold parts of it.
"""

from __future__ import annotations

import enum

from .config import ChipConfig
from .config_parts import MANTISSA_WIDTH as MANTISSA_WIDTH
from .layout import Field, bits_for_index

ELEMENT_WIDTH = 18
"""Bits of the number of an element of a row, and of a length."""
STATISTIC_WIDTH = 48
"""Bits of the value of a statistic, signed."""
ROW_SHIFT_WIDTH = 6
"""Bits of its shift."""
GAP_WIDTH = 5
"""Bits of the cycles that a job may wait between output words: enough for a scale of every row."""
SCALAR_CYCLES = 8
"""Cycles from the value of a statistic to the scale that is made of it; the unit makes one at a time."""


class Combine(enum.IntEnum):
    """What becomes of a reduced window, lane by lane, before it is requantised."""

    VALUE = 0
    """Itself."""
    PRODUCT = 1
    """Of a pair, the product of the first and the second value."""
    ROTATE = 2
    """Of a pair, with cosine and sine (2**14 is one) as the first values of lanes 2i and 2i + 1, and a and b as the second ones:
    lane 2i becomes a cosine - b sine, lane 2i + 1 a sine + b cosine. These are two products: each beat takes two cycles."""


class Saturate(enum.IntEnum):
    """To what a scaled value is saturated."""

    INT8 = 0
    UINT8 = 1
    INT16 = 2
    """-32768 to 32639: both planes are int8."""
    WIDE = 3
    """The bits of a partial sum."""


class Destination(enum.IntEnum):
    """Where results go."""

    NONE = 0
    """Nowhere, but into the statistic."""
    X = 1
    """One word of int8 into an X bank."""
    PLANES = 2
    """Two words of int8 into successive words of an X bank: (y + 128) >> 8, and y minus 256 times that."""
    STORE = 3
    """Into a word of the own P bank."""
    ADD = 4
    """Added to a word of the own P bank."""


class Statistic(enum.IntEnum):
    """What is computed over the elements of a row."""

    NONE = 0
    SUM = 1
    MAX = 2
    ARGMAX = 3
    """The element that is the largest; of equal ones, the first."""


class Scalar(enum.IntEnum):
    """What becomes of the value of a statistic, for the requantiser."""

    NONE = 0
    RECIPROCAL = 1
    """With n the bits of the value, at least 1: floor(2**31 / floor(value * 2**(16 - n))), and a shift of n."""
    RSQRT = 2
    """With n the smallest even number for which the value, at least 1, is less than 2**n, and i the highest 8 of 16 bits of value *
    2**(16 - n): round(2**23 / sqrt(256 i + 128)), and a shift of n / 2."""


def row_fields(config: ChipConfig) -> tuple[Field, ...]:
    """Fields of a post-processor job that only a chip with row functions has."""
    post = config.post
    registers = bits_for_index(post.row_registers)
    return (
        Field("gap", GAP_WIDTH, "cycles from one output word to the next, beyond those it takes"),
        Field("combine", 2, "Combine code"),
        Field("subtract", 1, "1: the value of the row's statistic minus this"),
        Field("row_scale", 1, "1: times the row's mantissa instead of the lane's multiplier, and its shift added to the lane's"),
        Field("saturate", 2, "Saturate code"),
        Field("wide_table", 1, "1: the table, which is even, has the low bytes of int16, the next one the high bytes"),
        Field("destination", 3, "Destination code"),
        Field("statistic", 2, "Statistic code"),
        Field("scalar", 2, "Scalar code"),
        Field("level", bits_for_index(bits_for_index(config.pods) + 1), "rows lie in aligned blocks of 2**level nodes"),
        Field("row", registers, "row register of the first row; one more for each further row"),
        Field("masked", 1, "1: elements at or beyond the length of the row are not there"),
        Field("length", registers, "where the length of the first row stands"),
        Field("length_step", 1, "1: that of each further row stands one further"),
        Field("element", ELEMENT_WIDTH, "number of the first element of the first word of a row"),
        Field("element_step", ELEMENT_WIDTH, "element increment from word to word of a row"),
        Field("parameters_step", 1, "1: each further word of a row has the next parameter set"),
    )
