"""What a generator of random cases decides, as a list: drawn from a seed, or taken from a list that was made before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 100_000
"""Decisions of a case."""


class TooManyChoicesError(RuntimeError):
    """A changed list leads a generator to where it does not end."""


class Choices:
    """Draws as a `numpy.random.Generator` does, and keeps what came out.

    A decision is a number: one of ``low`` to ``high`` - 1, the index of an item, a share of 1. Where decisions are given, they are
    taken instead of drawn ones: what is out of range becomes the nearest that is in it, and behind their end all are 0. So any list
    of numbers is a case, and a shorter list of smaller ones a smaller case (`shrink`). Arrays of numbers that decide nothing, as
    weights do, are no decisions; they are functions of the seed.

    Parameters
    ----------
    seed : int or sequence of int
        As `numpy.random.default_rng` takes it.
    given : sequence of float, optional
        Decisions that are taken instead of drawn ones.

    Members
    -------
    made : list of float
        The decisions so far.
    spans : list of (int, int, int)
        Begin and end of decisions that belong together (`span`), and the index of the one that says how many such spans there are,
        -1 if none does.
    """

    def __init__(self, seed: int | Sequence[int], given: Sequence[float] | None = None):
        self._seed = [seed] if isinstance(seed, int) else list(seed)
        self._rng = np.random.default_rng(seed)
        self._given = None if given is None else list(given)
        self._arrays = 0
        self.made: list[float] = []
        self.spans: list[tuple[int, int, int]] = []

    def _take(self, low: float, high: float) -> float:
        """The next given decision, in [low, high]."""
        assert self._given is not None
        index = len(self.made)
        if index >= MOST:
            raise TooManyChoicesError(f"a case has more than {MOST} decisions")
        value = min(max(self._given[index], low), high) if index < len(self._given) else low
        self.made.append(value)
        return value

    def _take_whole(self, low: int, high: int) -> int:
        value = int(self._take(low, high))
        self.made[-1] = value
        return value

    def _whole(self, low: int, high: int) -> int:
        """From ``low`` to ``high`` - 1."""
        if self._given is not None:
            return self._take_whole(low, high - 1)
        self.made.append(int(self._rng.integers(low, high)))
        return int(self.made[-1])

    def integers(self, low: int, high: int | None = None, size: Any = None, dtype: Any = np.int64) -> Any:
        """Of [low, high), or of [0, low); ``size``: as many, an array; of very many, they decide nothing."""
        low, high = (0, low) if high is None else (low, high)
        if size is not None and np.prod(size) > MOST // 10:
            return self._data().integers(low, high, size, dtype)
        if size is None:
            return self._whole(low, high)
        if self._given is None:
            found = self._rng.integers(low, high, size, dtype)
            self.made += found.reshape(-1).tolist()
            return found
        return np.array([self._whole(low, high) for _ in range(int(np.prod(size)))], dtype).reshape(size)

    def count(self, low: int, high: int, least: int = 1) -> int:
        """How many spans come, of [low, high); a given one may be as small as ``least``."""
        if self._given is not None:
            return self._take_whole(least, high - 1)
        return self._whole(low, high)

    def random(self) -> float:
        """A share, of [0, 1)."""
        if self._given is not None:
            return self._take(0.0, float(np.nextafter(1, 0)))
        self.made.append(float(self._rng.random()))
        return self.made[-1]

    def choice(self, options: Any, size: int | None = None, p: Sequence[float] | None = None) -> Any:
        """One of the ``options``, or of so many numbers; ``p``: how probable each is. ``size``: so many, as an array."""
        number = options if isinstance(options, int) else len(options)
        if size is not None:
            return np.asarray(options)[self.integers(0, number, size)]
        if p is None:
            index = self._whole(0, number)
        elif self._given is not None:
            index = self._take_whole(0, number - 1)
        else:
            index = int(self._rng.choice(number, p=p))
            self.made.append(index)
        return index if isinstance(options, int) else options[index]

    def geometric(self, p: float) -> int:
        """Trials until the first success."""
        if self._given is not None:
            return self._take_whole(1, MOST)
        self.made.append(int(self._rng.geometric(p)))
        return int(self.made[-1])

    def _data(self) -> np.random.Generator:
        self._arrays += 1
        return np.random.default_rng([*self._seed, self._arrays])

    def normal(self, size: Any) -> NDArray[np.float64]:
        """Numbers that decide nothing."""
        return self._data().normal(size=size)

    def uniform(self, low: float, high: float, size: Any) -> NDArray[np.float64]:
        """Numbers that decide nothing, of [low, high)."""
        return self._data().uniform(low, high, size)

    @contextmanager
    def span(self, count: int = -1) -> Iterator[None]:
        """Decisions inside of it make one part of a case. ``count``: index of the decision that says how many parts there are."""
        begin = len(self.made)
        yield
        self.spans.append((begin, len(self.made), count))

    def among(self, *counts: int) -> Iterator[int]:
        """0, 1, ... as often as one of the ``counts`` says, each in a `span`; a given one may be any number up to the last."""
        if self._given is not None:
            number = self._take_whole(0, counts[-1])
        else:
            number = counts[self._whole(0, len(counts))]
            self.made[-1] = number
        yield from self._spans(number)

    def several(self, low: int, high: int, least: int = 1) -> Iterator[int]:
        """0, 1, ... as often as `count` says, each in a `span`."""
        yield from self._spans(self.count(low, high, least))

    def _spans(self, number: int) -> Iterator[int]:
        at = len(self.made) - 1
        for index in range(number):
            with self.span(at):
                yield index
