"""Making a failing case small: shorter lists of smaller decisions, as long as it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from .choices import Choices

Fails = Callable[[Sequence[float]], Choices | None]
"""Runs a case of given decisions; what was decided if it fails in the same way, else None."""


def order(made: Sequence[float]) -> tuple[int, list[float]]:
    """Of two cases, the smaller one is that with fewer decisions; of as many, that in which the first that differs is smaller."""
    return len(made), list(made)


def shrink(
    choices: Choices,
    fails: Fails,
    *,
    seconds: float,
    tries: int = 100_000,
    progress: Callable[[Choices, int], None] | None = None,
) -> tuple[Choices, int]:
    """The smallest case that was found, and how many were tried.

    Greedy: parts of a case are left out (the last ones first, several at a time where that works), then single decisions; what is
    left is made smaller, number by number. Whenever something is found, it goes on from there; it ends when nothing more is, or
    after so many ``seconds`` or ``tries``. ``progress``: told of each that was found, and of how many were tried.
    """
    best, tried, until = choices, 0, time.monotonic() + seconds
    known: set[tuple[float, ...]] = {tuple(choices.made)}
    found = True
    while found:
        found = False
        for steps in (_without_spans, _without_runs, _smaller):
            again = True
            while again:
                again = False
                for made in steps(best):
                    if time.monotonic() > until or tried >= tries:
                        return best, tried
                    if tuple(made) in known or order(made) >= order(best.made):
                        continue
                    known.add(tuple(made))
                    tried += 1
                    taken = fails(made)
                    if taken is not None and order(taken.made) < order(best.made):
                        best, again, found = taken, True, True
                        if progress:
                            progress(best, tried)
                        break
    return best, tried


def _without_spans(choices: Choices) -> Iterator[list[float]]:
    """Without a part, or with only one of those of its kind; the number of parts is as many fewer."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for begin, end, count in choices.spans:
        groups.setdefault(count, []).append((begin, end))
    # Parts of a whole come behind it: the largest ones first.
    for count in sorted(groups):
        spans = groups[count]
        if count < 0:
            continue
        ways = [[span for span in spans if span != kept] for kept in spans] if len(spans) > 2 else []
        ways += [[span] for span in reversed(spans)]
        for left_out in ways:
            made = list(choices.made)
            for begin, end in sorted(left_out, reverse=True):
                del made[begin:end]
            made[count] -= len(left_out)
            if made[count] >= 0:
                yield made


def _without_runs(choices: Choices) -> Iterator[list[float]]:
    made = choices.made
    for length in (32, 8, 4, 2, 1):
        for begin in range(len(made) - length, -1, -length):
            yield made[:begin] + made[begin + length :]


def _smaller(choices: Choices) -> Iterator[list[float]]:
    made = choices.made
    for index in range(len(made)):
        value = made[index]
        if isinstance(value, float):
            lower: list[float] = [0.0, 0.5, 0.9]
        else:
            lower = [0, 1, 2, value // 2, value - 1]
        for less in lower:
            if 0 <= less < value:
                yield [*made[:index], less, *made[index + 1 :]]
