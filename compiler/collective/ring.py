"""Which words a chip of a ring sends and receives in which order, for collectives of all kinds.

A list of words is the same on all chips (their places need not be). Of as many neighbouring pieces as there are chips, as even as
can be, a chip sends one per step to the next and receives the one behind it from the chip before: its own words of a step are
those that it received in the step before. Pieces are sent in the order of the list, the first behind the last, so that few walks
go over all of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from podweave.spec.config import ChipConfig
from podweave.spec.links import CollectiveKind

from .program import CollectiveProgram, Received, Sent, collective
from .walks import BankWords

Exchange = tuple[list[Sent], list[Received]]
"""What a chip sends and receives."""


def _pieces(words: BankWords, chips: int, first: int, count: int) -> BankWords:
    """``count`` pieces of a list from number ``first`` on, the first one behind the last."""
    edges = [len(words) * i // chips for i in range(chips + 1)]
    numbers = [np.arange(edges[i % chips], edges[i % chips + 1]) for i in range(first, first + count)]
    return words[np.concatenate([np.zeros(0, np.int64), *numbers])]


def _passed_on(words: BankWords, chips: int, own: int, steps: int) -> list[Sent]:
    """What goes in so many steps: piece ``own``, and then in each what came in the one before."""
    return [Sent(_pieces(words, chips, own, 1)), Sent(_pieces(words, chips, own + 1, steps - 1), 0)]


def piece(words: BankWords, chips: int, rank: int) -> BankWords:
    """That of which a chip has the sums of all after a reduce-scatter, and which it has before an all-gather."""
    return _pieces(words, chips, 2 * chips - 2 - rank, 1)


def all_reduce(words: BankWords, chips: int, rank: int) -> Exchange:
    """All words become their sums over all chips, on every chip."""
    own = chips - 1 - rank
    received = [
        Received(_pieces(words, chips, own + 1, chips - 1), adds=True),
        Received(_pieces(words, chips, own + chips, chips - 1)),
    ]
    return _passed_on(words, chips, own, 2 * chips - 2), received


def reduce_scatter(words: BankWords, chips: int, rank: int) -> Exchange:
    """The words of a chip's `piece` become their sums over all chips; what is in the others is of no account any more."""
    own = chips - 1 - rank
    received = [Received(_pieces(words, chips, own + 1, chips - 1), adds=True)]
    return _passed_on(words, chips, own, chips - 1), received


def all_gather(words: BankWords, chips: int, rank: int) -> Exchange:
    """The words of each chip's `piece` are brought to all chips."""
    own = 2 * chips - 2 - rank
    return _passed_on(words, chips, own, chips - 1), [Received(_pieces(words, chips, own + 1, chips - 1))]


def broadcast(words: BankWords, chips: int, rank: int, root: int) -> Exchange:
    """All words of chip ``root`` are brought to all chips, each word passed on as soon as it is there."""
    sent = [] if (rank + 1) % chips == root else [Sent(words, None if rank == root else 0)]
    return sent, [] if rank == root else [Received(words)]


def send_receive(sent: BankWords | None, received: BankWords | None) -> Exchange:
    """Words go to the next chip, and others come from the one before, which sends as many."""
    return [Sent(sent)] if sent else [], [Received(received)] if received else []


def barrier(word: BankWords, chips: int) -> Exchange:
    """No chip is through before all have begun: a word of no account, at the same place for all steps, goes around."""
    steps = word[np.zeros(chips - 1, np.int64)]
    return [Sent(steps[:1]), Sent(steps[1:], 0)], [Received(steps)]


def in_few_jobs(config: ChipConfig, words: BankWords, chips: int) -> BankWords:
    """The same words in the order, node by node or address by address, for which an all-reduce takes the fewest jobs; the same on
    all chips whose words lie alike."""

    def jobs(order: BankWords) -> int:
        programs = [collective(config, 0, CollectiveKind.P, *all_reduce(order, chips, rank)) for rank in range(chips)]
        return sum(len(program.sends["n0"]) + len(program.receives["n0"]) for program in programs)

    orders = [words[np.lexsort(keys)] for keys in ((words.address, words.unit), (words.unit, words.address))]
    return min(orders, key=jobs)


def all_reduce_program(
    config: ChipConfig, number: int, words: BankWords, chips: int, rank: int, operation: str = ""
) -> CollectiveProgram:
    """The collective in which sums in P banks are added over all chips, in as few jobs as can be.

    All chips have as many: their programs take as long to load, so that none of the ring is late.
    """
    order = in_few_jobs(config, words, chips)
    exchanges = [all_reduce(order, chips, each) for each in range(chips)]
    fewest = [collective(config, number, CollectiveKind.P, *exchange, operation) for exchange in exchanges]
    jobs = max(len(program.sends["n0"]) for program in fewest), max(len(program.receives["n0"]) for program in fewest)
    programs = [collective(config, number, CollectiveKind.P, *exchange, operation, jobs=jobs) for exchange in exchanges]
    as_many = all((len(program.sends["n0"]), len(program.receives["n0"])) == jobs for program in programs)
    return replace(programs[rank], even=as_many and len(words) % chips == 0)
