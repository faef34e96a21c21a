"""compiler.rows.check: one fault for each rule, planted in a legal program, and the sentence that names it.

Jobs are those of the layer that `row_programs` compiles; where nodes do the same, both are changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from podweave.spec.load_port import HostSelect
from tests.compiler.rows.check.row_programs import (
    Programs,
    changed,
    message,
    more_words,
    programs,
    refused,
    repeated,
    without_words,
)
from tests.podweave.runs.row_jobs import small_chip

POST = r"post job \d+ \(bank \d, start \d+\)"
STREAM = r"stream job \d+( tile \d+)? \(pod \d, start \d+\)"
LATE = (1 << small_chip().pod.time_width) - 4

# Epoch, kind, jobs, fields, sentence.
FAULTS: dict[str, tuple[int, str, int | list[int], dict[str, int], str]] = {
    "field": (0, "posts", 3, {"p_base": 5000}, rf"^epoch 0: {POST}: p_base is 5000, but its field holds 0 to 1023$"),
    "combine": (0, "posts", 3, {"combine": 3}, "combine is 3, must be 0 to 2$"),
    "destination": (0, "posts", 3, {"destination": 5}, "destination is 5, must be 0 to 4$"),
    "scalar": (0, "posts", 1, {"scalar": 3}, "scalar is 3, must be 0 to 2$"),
    "wide table": (1, "posts", 1, {"table": 1}, "table 1 is wide, but not even$"),
    "planes": (0, "posts", 2, {"gap": 0}, "sends two words in each cycle$"),
    "parameter sets": (1, "posts", 5, {"parameters": 63}, "parameters goes up to 64, must be at most 63$"),
    "row": (0, "posts", 1, {"row": 15}, "row goes up to 17, must be at most 15$"),
    "length": (1, "posts", 0, {"length": 13}, "length goes up to 18, must be at most 15$"),
    "W address": (0, "loads", 0, {"w_base": 1000}, r"^epoch 0: load job 0 tile 6 .*: W address 1027 is outside of 0 to 1023$"),
    "X address": (0, "streams", 0, {"x_base": 1020}, r"stream job 0 tile 0 .*: X address 1025 is outside of 0 to 1023$"),
    "P address": (0, "streams", 0, {"p_base": 1020}, r"stream job 0 tile 3 .*: P address 1025 is outside of 0 to 1022$"),
    "P address read": (0, "posts", 3, {"p_base": 1020}, "P address 1025 is outside of 0 to 1022$"),
    "X address of planes": (0, "posts", 2, {"x_base": 1013}, r"X address 1023 is outside of 0 to 1022$"),
    "own P address": (0, "posts", 3, {"x_base": 1022}, "own P address 1024 is outside of 0 to 1022$"),
    "post engine": (0, "posts", 4, {"start": 173}, rf"{POST}: starts before {POST} has ended, in cycle 173$"),
    "stream engine": (0, "streams", 1, {"start": 133}, rf"{STREAM}: starts before {STREAM} has ended, in cycle 133$"),
    "time": (2, "posts", 2, {"start": LATE}, r"^epoch 2: the epoch lasts \d+ cycles, more than time_width allows \(16777215\)$"),
    "weights": (0, "loads", 0, {"w_base": 1}, "words of W bank 0 from 1 on are not one weight tile$"),
    "late weights": (0, "loads", 0, {"start": 107}, rf"weights are complete in cycle 111, but {STREAM} swaps them in$"),
    "early weights": (0, "loads", 1, {"start": 170}, rf"overwrites weights before {STREAM} swaps them in$"),
    "Y network": (0, "posts", 2, {"x_bank": 1}, rf"Y bank 1: {POST} and {POST} send a word each in cycle 99$"),
    "X network": (0, "streams", 0, {"x_base": 1}, rf"X bank 0: {STREAM} and {STREAM} ask for different words in cycle 111$"),
    "P written twice": (0, "posts", 5, {"start": 205}, rf"^epoch 0: P bank 0: {STREAM} and {POST} write in cycle 215$"),
    "P read twice": (1, "posts", 5, {"gap": 1}, rf"P bank 0: {POST} and {POST} read, or add, in cycle 344$"),
    "P written and read": (0, "posts", 3, {"start": 162, "p_base": 21}, rf"a word of {STREAM} arrives there in cycle \d+$"),
    "P missing": (0, "posts", 3, {"p_base": 600}, "reads P bank 0 address 600 in cycle 168, where nothing is yet$"),
    "P missing, added": (
        1,
        "posts",
        5,
        {"x_base": 600},
        "adds to P bank 0 address 600 in cycle 344, where nothing is yet$",
    ),
    "P of another": (
        0,
        "posts",
        3,
        {"p_base": 0},
        "reads P bank 0 address 0 .*, where x is, which is nothing that it reads$",
    ),
    "P unread": (
        0,
        "posts",
        [4, 18],
        {"p_base": 15},
        rf"writes P bank 0 .*, before anybody has read what {STREAM} left there$",
    ),
    "X written and read": (
        0,
        "posts",
        [2, 16],
        {"start": 97},
        rf"reads X bank .* a word of {POST} arrives there in cycle 115$",
    ),
    "X missing": (0, "streams", [0, 5], {"x_base": 400}, "reads X bank 0 address 400 .*, where nothing is yet$"),
    "X of another": (
        1,
        "streams",
        [3, 16],
        {"x_base": 0},
        "reads X bank 0 address 0 .*, where q_rope is, which is nothing",
    ),
    "X unread": (
        0,
        "posts",
        10,
        {"x_base": 0},
        rf"writes X bank 1 .*, before anybody has read what {POST} left there$",
    ),
    "register not ready": (0, "posts", [2, 16], {"start": 80}, "reads row register 2 of node 0 in cycle 90, which is not ready$"),
    "register of another": (1, "posts", [8, 20], {"row": 3}, "row register 3 of node 0 .*, which another operation has taken$"),
    "register without scale": (
        0,
        "posts",
        [1, 15],
        {"scalar": 0},
        "row register 0 of node 0 .*, of which no scale was made$",
    ),
    "register taken early": (
        1,
        "posts",
        [1, 13],
        {"row": 5, "gap": 0, "scalar": 0, "subtract": 0, "n3": 1},
        rf"{POST}: takes row register 5 in cycle 91, before what {POST} makes for it is there, in cycle 96$",
    ),
    "scales": (
        0,
        "posts",
        [1, 15],
        {"gap": 0},
        rf"wants a scale in cycle 34, while one is made for {POST} from cycle 30 on$",
    ),
    "statistic alone": (
        0,
        "posts",
        15,
        {"start": 17},
        "a statistic of row register 0 .*, but not all of nodes 0 to 1 send one",
    ),
    "statistic of another kind": (0, "posts", 15, {"statistic": 2}, "but not all of nodes 0 to 1 send one of its kind$"),
    "statistic of another level": (0, "posts", 15, {"level": 0}, "but not all of nodes 0 to 1 send one of its kind$"),
    "accumulator": (0, "streams", 2, {"accumulate": 2}, "adds to accumulator row 0, which was not initialised for it$"),
    "output": (2, "posts", 2, {"destination": 0}, "^epoch 2: P bank 0 address 0 is stored as down, which is not there$"),
    "cache": (0, "posts", 10, {"x_base": 100}, "^epoch 0: X bank 1 address 12 is stored as keys_now, which is not there$"),
}


def test_the_legal_program_passes() -> None:
    assert message(programs()) == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_job(fault: str) -> None:
    epoch, kind, jobs, fields, sentence = FAULTS[fault]
    refused(changed(programs(), epoch, kind, jobs, **fields), sentence)


def _taken_unread(legal: Programs) -> Programs:
    legal = changed(legal, 1, "posts", [2, 14], row=0, subtract=0)
    return changed(legal, 1, "posts", [4, 16], row=0)


WORDS = np.zeros((4, 4), np.uint8)
OTHER_FAULTS: dict[str, tuple[Callable[[Programs], Programs], str]] = {
    "no weights": (lambda p: without_words(p, 0, HostSelect.W), "takes W address 0 of node 0, which nobody has loaded$"),
    "no sets": (lambda p: without_words(p, 0, HostSelect.PARAMETERS), "takes parameter set 0 of node 0, which nobody has loaded$"),
    "no lengths": (lambda p: without_words(p, 0, HostSelect.LENGTHS), "takes length 0 of node 0, which nobody has loaded$"),
    "no input": (lambda p: without_words(p, 0, HostSelect.P), "reads P bank 0 address 0 in cycle 0, where nothing is yet$"),
    "loaded twice": (
        lambda p: more_words(p, 0, HostSelect.W, 0, 0, WORDS),
        "^epoch 0: W addresses 0 to 3 of node 0: some are loaded twice$",
    ),
    "loaded outside": (
        lambda p: more_words(p, 0, HostSelect.W, 0, 1022, WORDS),
        "^epoch 0: W addresses 1022 to 1025 of node 0, which are loaded, are not there$",
    ),
    "loaded over": (
        lambda p: more_words(changed(p, 1, "loads", 2, w_base=0), 2, HostSelect.W, 0, 0, WORDS),
        "^epoch 2: W address 0 of node 0 may be loaded when epoch 0 is over, but epoch 1 needs what is there$",
    ),
    "register unread": (
        _taken_unread,
        rf"takes row register 0 .*, before anybody has read what {POST} put there$",
    ),
    "written over in the middle": (
        lambda p: repeated(p, 1, "posts", 4, start=266, n3=1, x_base=14, row=0),
        rf"{STREAM}: reads X bank 0 address 14 in cycle 279, over which {POST} has written, and other words of its place before$",
    ),
}


@pytest.mark.parametrize("fault", OTHER_FAULTS)
def test_other_faults(fault: str) -> None:
    plant, sentence = OTHER_FAULTS[fault]
    refused(plant(programs()), sentence)


def test_tables() -> None:
    refused(programs(), rf"^epoch 1: {POST}: looks up table 3, which nobody has loaded$", tables=2)


@pytest.mark.parametrize(("limit", "kind"), [("load_jobs", "load"), ("stream_jobs", "stream"), ("post_jobs", "post")])
def test_stores(limit: str, kind: str) -> None:
    tight = small_chip().replace(**{limit: 4})
    wrong = tuple(dataclasses.replace(program, config=tight) for program in programs())
    refused(wrong, rf"has \d+ {kind} jobs, \d+ more than {limit}$")


def test_pods_that_add_need_the_read_port() -> None:
    """A word that arrives to be added, while the post-processor reads."""
    legal: Any = changed(programs(), 0, "posts", 5, start=214)
    refused(changed(legal, 0, "streams", 4, emit=2), rf"P bank 0: {STREAM} and {POST} read, or add, in cycle \d+$")
