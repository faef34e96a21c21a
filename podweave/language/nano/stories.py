"""Texts to train a small language model on, made by rules: short stories in which one thing follows from another, and questions.

They are ours, and there is no end of them: `text` makes the text of a number, always the same one. Which texts are held out from
training is decided by what they say, so that none is in both parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .plots import PLOTS
from .questions import QUESTIONS
from .world import Chance, sentence

QUESTION_SHARE = 0.15
"""How many of the texts are questions with their answers."""
THE_END = 0.4
"""How many of the stories end with these words."""
HELD_OUT = 20
"""One text of so many is held out."""


def text(number: int, made_up: bool = True) -> str:
    """The text of a number: several sentences, divided by spaces, in letters, and in . , ! ? and quotation marks.

    ``made_up``: there may be words that were made up of letters, in place of names and kinds.

    >>> text(2)[:60] == text(2)[:60] != text(3)[:60]
    True
    """
    chance = Chance(f"podweave/{number}", made_up)
    if chance.likely(QUESTION_SHARE):
        return " ".join(chance.pick(QUESTIONS)(chance) for _ in range(3 + chance.below(4)))
    parts = [sentence(part) for part in chance.pick(PLOTS)(chance)]
    if chance.likely(THE_END):
        parts.append("The end.")
    return " ".join(parts)


def is_held_out(words: str) -> bool:
    return zlib.crc32(words.encode()) % HELD_OUT == 0


def texts(held_out: bool, first: int = 0) -> Iterator[str]:
    """Those that are held out, or those that are not, from the text of ``first`` on, without end."""
    number = first
    while True:
        found = text(number)
        if is_held_out(found) == held_out:
            yield found
        number += 1
