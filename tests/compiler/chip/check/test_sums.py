"""compiler.chip.check.sums: sums that are stored twice, read too early or added where none was begun are found."""

from __future__ import annotations

import re

import numpy as np

from tests.compiler.chip.check.chip_programs import changed, last, message, pads, program, refused, without


def test_partial_sums() -> None:
    legal = program("in_banks")
    streams, posts = legal.streams, legal.posts
    stores = int(np.argmax(streams["emit"] == 1))
    adds = int(np.argmax(streams["emit"] == 2))
    refused(
        changed(legal, "streams", stores, emit=2),
        r"^stream job \d+ .*: adds to P bank \d address \d+ in cycle \d+, before it is stored$",
    )
    refused(changed(legal, "streams", adds, emit=1), r"^stream job \d+ .*: stores P bank \d address \d+, which is stored twice$")
    post = last(legal, "posts", 0)
    refused(
        changed(legal, "posts", post, p_base=900),
        r"^post job \d+ .*: reads P bank 0 address 900 in cycle \d+, which is never written$",
    )
    config = legal.config
    first = int(np.argmin(pads(legal)))
    bank = int(posts["bank"][first])
    arrival = int(streams["start"][np.flatnonzero((streams["p_bank"] == bank) & (streams["emit"] == 2))[0]])
    arrival += config.write_latency + config.network_latency
    busy = changed(legal, "posts", first, start=arrival)
    refused(busy, rf"^P bank {bank}: post job {first} .* reads in cycle {arrival}, in which a word of stream job \d+ .* is added$")


def test_reads_of_partial_sums_come_two_cycles_later() -> None:
    """The last word that arrives in a bank, read as early as can be, and before."""
    legal = program("in_pods")
    streams, post = legal.streams, last(legal, "posts", 0)
    emits = np.flatnonzero((streams["p_bank"] == 0) & (streams["emit"] > 0))
    writer = int(emits[np.argmax(streams["start"][emits])])
    word = int(legal.words_streamed[writer]) - 1
    target = int(streams["p_base"][writer]) + word
    arrival = int(streams["start"][writer]) + word + legal.config.write_latency + legal.config.network_latency
    one = changed(legal, "posts", post, p_base=target, **{f"n{i}": 1 for i in range(4)}, **{f"p_step{i}": 0 for i in range(4)})
    for other in np.flatnonzero(legal.posts["bank"] == 0)[:-1][::-1]:
        one = without(one, "posts", int(other))
    post = int(np.flatnonzero(one.posts["bank"] == 0)[0])
    for cycle in (arrival - 1, arrival, arrival + 1):
        sentence = rf"reads P bank 0 address {target} in cycle {cycle}, but a word for it arrives in cycle {arrival}$"
        assert re.search(rf"{sentence}|^P bank 0: post job", message(changed(one, "posts", post, start=cycle)))
    early = message(changed(one, "posts", post, start=arrival + 1))
    assert early.endswith(f"but a word for it arrives in cycle {arrival}")
    assert "P bank" not in message(changed(one, "posts", post, start=arrival + 2))


def test_accumulators() -> None:
    legal = program("in_pods")
    streams = legal.streams
    inits = np.flatnonzero(streams["accumulate"] == 1)
    refused(
        changed(legal, "streams", int(inits[0]), accumulate=2),
        rf"^stream job {inits[0]} .*: adds to accumulator row \d+, which was not initialised for it$",
    )
    # The sum before has been emitted: another one must not be added to it.
    later = next(int(job) for job in inits if streams["pod"][job] == streams["pod"][inits[0]] and job > inits[0])
    refused(
        changed(legal, "streams", later, accumulate=2),
        rf"^stream job {later} .*: adds to accumulator row \d+, which was not initialised for it$",
    )
