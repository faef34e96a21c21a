"""compiler.chip.check: rules of padding, the zero word and accumulators of earlier epochs, each seen to fire on a planted fault."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest

from podweave.compiler.chip.bank_words import BankWords, zero_word
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import Accumulated, ConstantSet, EpochProgram
from podweave.compiler.chip.epoch_scheduler import EpochScheduler
from podweave.compiler.chip.frontier import Frontier
from podweave.compiler.chip.policy import WHOLE_CHIP
from podweave.compiler.chip.state import SchedulerState
from podweave.compiler.jobs import Place
from podweave.compiler.lower.operation import lower_graph
from tests.compiler.chip.check.chip_programs import PROGRAMS, changed, config, graph, message, pads, program, refused, without

ZERO = 999
"""The zero word of banks of 1000 words."""


@functools.cache
def second(name: str) -> EpochProgram:
    """The second epoch of two: it reads what the first one, with the first node alone, left."""
    nodes, chip = graph(), config(*PROGRAMS[name])
    shared = (nodes, chip, lower_graph(nodes, chip), {}, None, WHOLE_CHIP)
    first, frontier = SchedulerState(*shared, BankWords(chip)), Frontier(shared[2], nodes)
    assert not EpochScheduler(first).run(frontier, 1).carried
    frontier.remove((0,))
    left = {name: producer.carried() for name, producer in first.producers.items()}
    return EpochScheduler(SchedulerState(*shared, first.storage.next_epoch(), left)).run(frontier, 2)


def words_of(item: Accumulated) -> int:
    return int(np.prod([end - begin for begin, end in item.box]))


def carried_reads(legal: EpochProgram) -> int:
    """A job that reads an accumulator of the epoch before, at the beginning of the epoch."""
    node = legal.carried[0].operation
    jobs = np.flatnonzero((legal.operation_of_post == node) & ~pads(legal))
    return int(jobs[np.argmin(legal.posts["start"][jobs])])


def pad_of(legal: EpochProgram) -> int:
    """A job that writes several words of padding."""
    return int(np.flatnonzero(pads(legal) & (legal.posts["n2"] > 1))[0])


@pytest.mark.parametrize("name", PROGRAMS)
def test_later_epochs_are_legal(name: str) -> None:
    legal = second(name)
    check_chip(legal)
    assert {item.operation for item in legal.carried} == {0}
    assert pads(legal).any()


def test_what_was_left_is_there_from_the_beginning() -> None:
    legal = second("in_pods")
    job = carried_reads(legal)
    assert legal.posts["start"][job] < legal.config.write_latency
    # None of it is an accumulator of this epoch, or it would have been read before it was written.
    refused(
        dataclasses.replace(legal, carried=()),
        r"^post job \d+ .*: reads P bank \d address \d+ in cycle \d+, which is never written$",
    )
    one = dataclasses.replace(legal, carried=legal.carried[1:])
    bank, base = legal.carried[0].place.bank, legal.carried[0].place.base
    refused(one, rf"^post job \d+ .*: reads P bank {bank} address {base} in cycle \d+, which is never written$")


@pytest.mark.parametrize("name", ["in_pods", "in_banks"])
def test_nothing_is_stored_over_what_was_left(name: str) -> None:
    """In the bank of the pod itself, where there is nobody to meet on the way; the first and the last word are enough."""
    legal = second(name)
    streams = legal.streams
    stores = int(np.argmax(streams["emit"] == 1))
    bank, words = int(streams["p_bank"][stores]), int(legal.words_streamed[stores])
    left = sorted((item.place.base, item.place.base + words_of(item)) for item in legal.carried if item.place.bank == bank)
    first, end = left[0][0], left[-1][1]
    sentence = rf"^stream job {stores} .*: stores P bank {bank} address %d, which an earlier epoch left there$"
    refused(changed(legal, "streams", stores, p_base=end - 1), sentence % (end - 1))
    assert words > 1
    refused(changed(legal, "streams", stores, p_base=first), sentence % first)
    assert "left there" not in message(changed(legal, "streams", stores, p_base=end))


def test_nothing_is_added_to_what_was_left() -> None:
    legal = second("in_banks")
    streams = legal.streams
    adds = int(np.flatnonzero(streams["emit"] == 2)[-1])
    bank = int(streams["p_bank"][adds])
    base = next(item.place.base for item in legal.carried if item.place.bank == bank)
    refused(
        changed(legal, "streams", adds, p_base=base),
        rf"^stream job {adds} .*: adds to P bank {bank} address {base}, which an earlier epoch left there$",
    )


def test_what_was_left_lies_in_the_banks() -> None:
    """The last word of a bank is the zero word and not theirs."""
    legal = second("in_pods")
    first = legal.carried[0]
    words = words_of(first)
    for bank, base in ((4, 0), (-1, 0), (0, -1), (0, ZERO), (0, ZERO - words + 1)):
        item = dataclasses.replace(first, place=Place(bank, base))
        wrong = dataclasses.replace(legal, carried=(item, *legal.carried[1:]))
        refused(wrong, rf"^P bank {bank}: words {base} to {base + words - 1} of an earlier epoch are outside$")
    item = dataclasses.replace(first, place=Place(0, ZERO - words))
    refused(dataclasses.replace(legal, carried=(item, *legal.carried[1:])), r"which is never written$")


def test_zero_word_is_read_with_constants_only() -> None:
    legal = program("in_pods")
    assert zero_word(legal.config) == ZERO
    reads = int(np.argmin(pads(legal)))
    single = {f"n{i}": 1 for i in range(4)}
    refused(
        changed(legal, "posts", reads, p_base=ZERO, **single),
        rf"^post job {reads} .*: P address {ZERO} is outside of 0 to {ZERO - 1}$",
    )
    # The set of a node in the place of the constant.
    pad = pad_of(legal)
    bank, node = int(legal.posts["bank"][pad]), int(legal.operation_of_post[pad])
    other = next(item for item in legal.parameters if item.bank == bank and getattr(item, "operation", None) == node)
    refused(
        changed(legal, "posts", pad, parameters=other.index),
        rf"^post job {pad} .*: P address {ZERO} is outside of 0 to {ZERO - 1}$",
    )


def test_constants_are_read_with_the_zero_word_only() -> None:
    legal = program("in_pods")
    pad = pad_of(legal)
    sentence = rf"^post job {pad} .*: has a constant set, but reads P address \d+, not the zero word \({ZERO}\)$"
    refused(changed(legal, "posts", pad, p_base=ZERO - 1), sentence)
    refused(changed(legal, "posts", pad, p_step2=-1), sentence)
    # The constant in the place of the set of a node.
    constants = {item.bank: item.index for item in legal.parameters if isinstance(item, ConstantSet)}
    reads = int(np.argmin(pads(legal)))
    wrong = changed(legal, "posts", reads, parameters=constants[int(legal.posts["bank"][reads])])
    refused(wrong, rf"^post job {reads} .*: has a constant set, but reads P address \d+, not the zero word \({ZERO}\)$")


def test_sets_of_constants() -> None:
    legal = program("in_pods")
    item = next(item for item in legal.parameters if isinstance(item, ConstantSet))
    rest = tuple(other for other in legal.parameters if other != item)
    refused(dataclasses.replace(legal, parameters=rest), r"^post job \d+ .*: parameter set \d+ is not one of its operation$")
    twice = (*legal.parameters, dataclasses.replace(item, value=3))
    refused(dataclasses.replace(legal, parameters=twice), rf"^parameter set {item.index} of bank {item.bank} is loaded twice$")
    for changes in ({"index": 11}, {"index": -1}, {"bank": 4}, {"bank": -1}):
        gone = dataclasses.replace(item, **changes)
        refused(
            dataclasses.replace(legal, parameters=(gone, *rest)), rf"^there is no parameter set {gone.index} of bank {gone.bank}$"
        )


def test_padding_is_written_once_and_everywhere() -> None:
    legal = program("in_pods")
    posts, pad = legal.posts, pad_of(legal)
    refused(
        without(legal, "posts", pad),
        r"^stream job \d+ .*: reads X bank \d address \d+ in cycle \d+, slot 0 of which is never written$",
    )
    refused(
        changed(legal, "posts", pad, n2=int(posts["n2"][pad]) - 1),
        r"^stream job \d+ .*: reads X bank \d address \d+ in cycle \d+, slot 0 of which is never written$",
    )
    # One word more of a job that nothing follows for a while is one of what is sent.
    gap = posts["start"][1:] - (posts["start"] + legal.words_read)[:-1]
    longer = int(np.flatnonzero(pads(legal)[:-1] & (gap > 0) & (posts["n3"][:-1] == 1))[0])
    refused(
        changed(legal, "posts", longer, n2=int(posts["n2"][longer]) + 1),
        r"^post job \d+ .*: writes X bank \d address \d+ slot 0 in cycle \d+, which is written twice$|^Y ",
    )


def test_padding_needs_the_read_port() -> None:
    """A pad at every time at which its post-processor has nothing else to do: not while a word is added in its bank."""
    legal = program("in_banks")
    streams, posts = legal.streams, legal.posts
    to_bank = legal.config.write_latency + legal.config.network_latency
    seen = set()
    for pad in np.flatnonzero(pads(legal)):
        bank, words = int(posts["bank"][pad]), int(legal.words_read[pad])
        adds = np.flatnonzero((streams["p_bank"] == bank) & (streams["emit"] == 2))
        added = {int(streams["start"][job]) + to_bank + word for job in adds for word in range(legal.words_streamed[job])}
        others = np.flatnonzero((posts["bank"] == bank) & (np.arange(len(posts["start"])) != pad))
        reads = {int(posts["start"][job]) + word for job in others for word in range(legal.words_read[job])}
        # The order of the jobs is kept.
        low = max((int(posts["start"][job]) for job in others if job < pad), default=-1) + 1
        high = min((int(posts["start"][job]) for job in others if job > pad), default=low + 200)
        for start in range(low, high):
            span = set(range(start, start + words))
            error = message(changed(legal, "posts", int(pad), start=start))
            if span & reads or error.startswith("Y "):
                continue
            found = re.search(
                r"^P bank (\d): post job (\d+) .* reads in cycle (\d+), in which a word of stream job \d+ .* is added$", error
            )
            assert bool(found) == bool(span & added), error
            if found:
                assert [int(found[1]), int(found[2])] == [bank, pad]
                assert int(found[3]) in span & added
            seen.add(bool(found))
        if len(seen) == 2:
            break
    assert seen == {False, True}
