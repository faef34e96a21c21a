"""Numbers in what users type: read without surprises."""

from __future__ import annotations

import re

_MOST_DIGITS = 24
_NUMBER = re.compile("[0-9]+")


def whole_number(text: str) -> int | None:
    """The number that decimal digits stand for, however many; None if ``text`` is anything else (signs, ``²``, spaces).

    Of more than 24 digits it is 10^24, which is beyond every limit: Python reads no more than 4,300.
    """
    if not _NUMBER.fullmatch(text):
        return None
    digits = text.lstrip("0")
    return 10**_MOST_DIGITS if len(digits) > _MOST_DIGITS else int(digits or "0")
