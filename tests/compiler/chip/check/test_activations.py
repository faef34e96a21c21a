"""compiler.chip.check.activations: wrong weights, and activations that are missing, late or written twice, are found."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from podweave.compiler.chip.epoch_program import EpochProgram
from tests.compiler.chip.check.chip_programs import changed, last, message, program, refused, without


def test_weights_and_swaps() -> None:
    legal = program("in_pods")
    loads, streams = legal.loads, legal.streams
    refused(changed(legal, "streams", 0, swap=0), r"^pod 0 has (\d+) weight loads for (\d+) swaps$")
    refused(
        without(changed(legal, "streams", 0, swap=0), "loads", 0),
        r"^stream job 0 .*is the first of its pod, but swaps no weights in$",
    )
    swaps = np.flatnonzero(streams["swap"])
    job = last(legal, "loads", 0)
    late = int(streams["start"][swaps[job]] - loads["rows"][job] + 1)
    refused(
        changed(legal, "loads", job, start=late),
        rf"^load job {job} .*complete in cycle {late + 4}, but stream job \d+ .* swaps them in$",
    )
    # A load that is complete a cycle too early, and the next one right behind it.
    gap = loads["start"][1:-1] - (loads["start"][:-2] + loads["rows"][:-2])
    alone = (gap > 1) & (loads["pod"][2:] == loads["pod"][:-2]) & (streams["start"][swaps][:-2] < loads["start"][1:-1])
    job = int(np.flatnonzero(alone)[0]) + 1
    early = int(loads["start"][job]) - 1
    wrong = changed(changed(legal, "loads", job, start=early), "loads", job + 1, start=early + int(loads["rows"][job]))
    refused(wrong, rf"^load job {job + 1} .*overwrites weights before stream job \d+ .* swaps them in$")


def test_weight_tiles() -> None:
    legal = program("in_pods")
    refused(
        changed(legal, "loads", 0, w_base=900),
        r"^load job 0 .*: row 0, W bank \d address 900, is not of one weight tile that the host loads$",
    )
    base = int(legal.loads["w_base"][0])
    refused(changed(legal, "loads", 0, w_base=base + 1), r"is not of one weight tile that the host loads$")
    second = int(np.argmax((legal.operation_of_stream == 1) & (legal.streams["pod"] == 0)))
    load = int(np.cumsum(legal.streams["swap"])[second]) - 1
    bank, other = int(legal.loads["w_bank"][load]), int(legal.loads["w_base"][load])
    wrong = changed(changed(legal, "loads", 0, w_base=other), "loads", 0, w_bank=bank)
    refused(wrong, r"^stream job 0 .*: multiplies by weights of second$")
    twice = dataclasses.replace(legal.weights[1], place=legal.weights[0].place)
    refused(
        dataclasses.replace(legal, weights=(legal.weights[0], twice, *legal.weights[2:])),
        r"^W bank \d address \d+ is loaded twice by the host$",
    )
    outside = dataclasses.replace(legal.weights[1], place=dataclasses.replace(legal.weights[1].place, base=998))
    refused(
        dataclasses.replace(legal, weights=(legal.weights[0], outside, *legal.weights[2:])),
        r"^W bank \d: words 998 to 1001 of the host are outside$",
    )


def consumed(legal: EpochProgram) -> int:
    """The last job of a post-processor that sends what another node reads without padding."""
    return int(np.flatnonzero(legal.operation_of_post == 1)[-1])


def test_activations() -> None:
    legal = program("in_pods")
    posts = legal.posts
    job = consumed(legal)
    refused(
        without(legal, "posts", job),
        r"^stream job \d+ .*: reads X bank \d address \d+ in cycle \d+, slot 0 of which is never written$",
    )
    host = legal.external_units[0].place
    onto = changed(legal, "posts", job, x_bank=host.bank, x_base=host.base, n2=1, n3=1)
    refused(onto, r"on top of what the host loaded$|^Y ")
    first = int(np.flatnonzero(legal.operation_of_post == 1)[0])
    place = {field: int(posts[field][first]) for field in ("x_bank", "x_base")}
    refused(
        changed(legal, "posts", job, **place),
        r"^post job \d+ .*: writes X bank \d address \d+ slot 0 in cycle \d+, which is written twice$|^Y ",
    )
    units = legal.external_units
    if len(units) > 1:
        twice = dataclasses.replace(units[1], place=units[0].place)
        refused(
            dataclasses.replace(legal, external_units=(units[0], twice, *units[2:])),
            r"^X bank \d address \d+ is loaded twice by the host$",
        )


def test_activations_that_come_too_late() -> None:
    """All post-processors later and later: one cycle beyond the slack, some word is read as it arrives."""
    legal = program("in_pods")
    later = {"start": legal.posts["start"].copy()}
    for delay in range(1, 2000):
        later["start"] = legal.posts["start"] + delay
        error = message(dataclasses.replace(legal, posts=legal.posts | later))
        if error:
            break
    found = re.search(
        r"^stream job \d+ .*: reads X bank \d address \d+ in cycle (\d+), but a word of it arrives in cycle (\d+)$", error
    )
    assert found
    assert found[1] == found[2]


def test_slots_of_a_word_are_of_one_node() -> None:
    """A word of 8 lanes in two slots: both needed, neither another node's."""
    legal = program("slots")
    posts = legal.posts
    jobs = np.flatnonzero((legal.operation_of_post == 0) & (posts["slot"] == 1))
    refused(without(legal, "posts", int(jobs[-1])), r"slot 1 of which is never written$")
    second = int(np.flatnonzero(legal.operation_of_post == 1)[0])
    target = int(jobs[0])
    gone = without(legal, "posts", target)
    second -= second > target
    place = {field: int(posts[field][target]) for field in ("x_bank", "x_base", "x_step2", "x_step3", "slot")}
    wrong = changed(gone, "posts", second, **place, n2=1, n3=1)
    refused(wrong, r"slot \d in cycle \d+, which holds words of another operation$")
