"""The little world of `podweave.language.nano.stories`: who lives in it, what things there are, and what belongs together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"

HE_NAMES = ("Tom", "Max", "Ben", "Sam", "Leo", "Finn", "Tim", "Jack", "Oscar", "Hugo")
SHE_NAMES = ("Mia", "Lily", "Anna", "Lucy", "Zoe", "Emma", "Ella", "Rosa", "Nina", "Clara")
MADE_UP_NAMES = 0.15
"""How many of those who have a name have one that was made up of letters."""
MADE_UP_KINDS = 0.04
"""How many of all are of a kind that was."""

ANIMALS = (
    *("cat", "dog", "fox", "bear", "mouse", "rabbit", "duck", "frog", "owl", "horse", "cow", "pig", "sheep", "hen", "bird"),
    *("lion", "goat", "wolf", "turtle", "squirrel", "monkey", "elephant"),
)
HE_KINDS = ("boy", "king")
SHE_KINDS = ("girl", "queen", "princess", "hen", "cow")
KINDS = (*ANIMALS, "boy", "girl", "king", "queen", "princess", "farmer", "wizard", "giant", "robot", "dragon")
BY_SIZE = (
    *("mouse", "frog", "bird", "squirrel", "hen", "cat", "fox", "dog"),
    *("pig", "wolf", "lion", "bear", "cow", "elephant", "giant"),
)

FOOD = {
    "cat": ("fish", "meat"),
    "dog": ("meat", "bread"),
    "fox": ("berries", "meat"),
    "bear": ("honey", "berries"),
    "mouse": ("cheese", "bread"),
    "rabbit": ("carrots", "grass"),
    "duck": ("bread", "seeds"),
    "owl": ("berries", "nuts"),
    "horse": ("apples", "grass"),
    "cow": ("grass", "carrots"),
    "pig": ("apples", "nuts"),
    "sheep": ("grass", "apples"),
    "hen": ("seeds", "bread"),
    "bird": ("seeds", "berries"),
    "lion": ("meat", "fish"),
    "goat": ("grass", "carrots"),
    "wolf": ("meat", "cheese"),
    "turtle": ("grass", "berries"),
    "squirrel": ("nuts", "seeds"),
    "monkey": ("nuts", "apples"),
    "elephant": ("grass", "apples"),
}
"""What animals eat; the others eat what is in `MEALS`."""
MEALS = ("soup", "cake", "bread", "cheese", "apples")

SOUNDS = {"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "oink", "owl": "hoo"}
HOMES = {
    "bird": "in a tree",
    "owl": "in a tree",
    "squirrel": "in a tree",
    "bear": "in a cave",
    "dragon": "in a cave",
    "wolf": "in the forest",
    "fox": "in the forest",
    "frog": "by the river",
    "duck": "by the river",
    "king": "in a castle",
    "queen": "in a castle",
    "princess": "in a castle",
    "giant": "in the mountains",
    "horse": "on a farm",
    "cow": "on a farm",
    "pig": "on a farm",
    "farmer": "on a farm",
}
ANY_HOMES = (
    *("in a small house", "in the forest", "on a farm", "near the river", "on a hill", "by the sea", "under an old tree"),
    *("in a garden", "in a village"),
)
CAN = {
    "fly": ("bird", "owl", "duck", "dragon"),
    "swim": ("duck", "frog", "turtle", "dog"),
    "read": ("boy", "girl", "king", "queen", "princess", "wizard"),
}
COLOURS_OF = {
    "grass": "green",
    "snow": "white",
    "the sky": "blue",
    "the sun": "yellow",
    "the night": "black",
    "milk": "white",
    "the sea": "blue",
}

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "golden")
TOYS = ("ball", "kite", "drum", "hat", "boat", "bell", "book", "key", "ring")
COUNTED = (
    *(("apple", "apples"), ("egg", "eggs"), ("flower", "flowers"), ("nut", "nuts"), ("stone", "stones"), ("star", "stars")),
    *(("carrot", "carrots"), ("cake", "cakes"), ("shell", "shells"), ("book", "books")),
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TRAITS = ("little", "big", "old", "young", "brave", "kind", "clever", "funny", "shy", "lazy", "happy", "good")
HOBBIES = ("sing", "dance", "run", "swim", "read", "sleep", "cook", "play in the garden", "look at the stars", "walk in the forest")
HIDING_PLACES = (
    *("under the bed", "behind the door", "under the table", "behind the tree", "in the garden", "in the kitchen"),
    *("near the river", "under the bridge", "in the grass", "on the roof"),
)
WAYS = (
    *("over the hill", "through the forest", "along the river", "down the road", "over the bridge", "across the field"),
    "around the lake",
)
TIMES = ("One day", "One morning", "One evening", "One sunny day", "One cold day", "One summer day", "One winter day")


@dataclass(frozen=True)
class Character:
    """``name`` is empty if there is none; ``he``: of two that could be either."""

    kind: str
    name: str
    he: bool

    @property
    def the(self) -> str:
        return f"the {self.kind}"

    @property
    def called(self) -> str:
        """By name, if there is one."""
        return self.name or self.the

    def introduced(self, traits: str = "") -> str:
        kind = with_article(f"{traits} {self.kind}".lstrip())
        return f"{kind} named {self.name}" if self.name else kind

    @property
    def addressed(self) -> str:
        return self.name or "my friend"

    @property
    def subject(self) -> str:
        return "he" if self.he else "she"

    @property
    def object(self) -> str:
        return "him" if self.he else "her"

    @property
    def possessive(self) -> str:
        return "his" if self.he else "her"


class Chance:
    """Choices of one text. Only `random.Random.random` is drawn from: it is the one that no version of Python changes."""

    def __init__(self, seed: str, made_up: bool = True):
        self._random = random.Random(seed)
        self._made_up = made_up

    def below(self, count: int) -> int:
        return int(self._random.random() * count)

    def likely(self, share: float) -> bool:
        return self._random.random() < share

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def several(self, options: Sequence[T], count: int) -> list[T]:
        """Different ones."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def character(self, unlike: Sequence[Character] = (), kinds: Sequence[str] = KINDS, named: float = 0.6) -> Character:
        """Of another kind and name than those of ``unlike``."""
        kind = self.pick([kind for kind in kinds if kind not in [other.kind for other in unlike]])
        if self.likely(MADE_UP_KINDS) and self._made_up:
            kind = self.made_up()
        he = self.likely(0.5) if kind not in (*HE_KINDS, *SHE_KINDS) else kind in HE_KINDS
        if not self.likely(named):
            return Character(kind, "", he)
        taken = [other.name for other in unlike]
        if self.likely(MADE_UP_NAMES) and self._made_up:
            return Character(kind, self.made_up(), he)
        return Character(kind, self.pick([name for name in (HE_NAMES if he else SHE_NAMES) if name not in taken]), he)

    def made_up(self) -> str:
        """A word of 4 to 9 letters. Short ones have a rare letter, so that none is a word that has a meaning."""
        count = 4 + self.below(6)
        letters: list[str] = []
        for _ in range(count):
            vowels = 0.25 if not letters else 0.15 if letters[-1] in _VOWELS else 0.7
            letters.append(self.pick(_VOWELS if self.likely(vowels) else _CONSONANTS))
        if count < 6:
            letters[self.below(count)] = self.pick("jqxz")
        return "".join(letters).capitalize()


def with_article(words: str) -> str:
    """
    >>> with_article("old owl"), with_article("bear")
    ('an old owl', 'a bear')
    """
    return f"an {words}" if words[0].lower() in _VOWELS else f"a {words}"


def sentence(words: str) -> str:
    """With a capital, and a full stop if it has no end.

    >>> sentence("the owl said, \\"Who is there?\\""), sentence("the owl slept")
    ('The owl said, "Who is there?"', 'The owl slept.')
    """
    return words[0].upper() + words[1:] + ("" if words[-1] in '.!?"' else ".")
