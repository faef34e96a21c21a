"""compiler.rows.check: one fault for each rule, planted in a legal program, and the sentence that names it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from podweave.spec.load_port import HostSelect
from tests.compiler.rows.check.row_programs import (
    Fault,
    again,
    at,
    either,
    message,
    more_weights,
    programs,
    refused,
    then,
    without_words,
)
from tests.podweave.runs.row_jobs import small_chip

CHIP = small_chip()
POST = r"post job \d+ \(bank \d, start \d+\)"
STREAM = r"stream job \d+( tile \d+)? \(pod \d, start \d+\)"
EARLIER, LATER = range(0, -100, -1), range(100)
NORM = "attention_norm"
"""Its jobs: values in 16 bits, squares, results."""

VALUES: dict[str, tuple[Fault, str]] = {
    "field": (at("posts", "q", 0, 0, p_base=5000), rf"^epoch \d: {POST}: p_base is 5000, but its field holds 0 to 1023$"),
    "combine": (at("posts", "q", 0, 0, combine=3), "combine is 3, must be 0 to 2$"),
    "destination": (at("posts", "q", 0, 0, destination=5), "destination is 5, must be 0 to 4$"),
    "scalar": (at("posts", NORM, 1, 0, scalar=3), "scalar is 3, must be 0 to 2$"),
    "wide table": (at("posts", "attention", 1, 0, table=1), "table 1 is wide, but not even$"),
    "planes": (at("posts", NORM, 2, 0, gap=0), "sends two words in each cycle$"),
    "parameter sets": (at("posts", "o", 0, 0, parameters=63), "parameters goes up to 64, must be at most 63$"),
    "accumulator rows": (at("streams", "q", 0, 0, accumulator_base=11), "accumulator row 16 is outside of 0 to 15$"),
    "row": (at("posts", NORM, 1, 0, row=15), "row goes up to 17, must be at most 15$"),
    "length": (at("posts", "attention", 0, 0, length=13), "length goes up to 18, must be at most 15$"),
    "W address": (at("loads", "q", 0, 0, w_base=1022), r"load job 0 .*: W address 1025 is outside of 0 to 1023$"),
    "X address": (at("streams", "q", 0, 0, x_base=1020), r"stream job 0 .*: X address 1025 is outside of 0 to 1023$"),
    "P address": (at("streams", "q", 0, 0, p_base=1020), r"stream job 0 .*: P address 1025 is outside of 0 to 1022$"),
    "P address read": (at("posts", "q", 0, 0, p_base=1020), "P address 1025 is outside of 0 to 1022$"),
    "X address of planes": (at("posts", NORM, 2, 0, x_base=1013), "X address 1023 is outside of 0 to 1022$"),
    "P address of the zero": (at("posts", "q", 0, 0, p_base=1018), "P address 1023 is outside of 0 to 1022$"),
    "own P address": (at("posts", "q", 0, 0, x_base=1022), "own P address 1024 is outside of 0 to 1022$"),
}
TIMES: dict[str, tuple[Fault, str]] = {
    "post engine": (at("posts", "q", 1, 0, start=EARLIER), rf"{POST}: starts before {POST} has ended, in cycle \d+$"),
    "rotation": (at("posts", "q", 0, 0, combine=2), rf"{POST}: starts before {POST} has ended, in cycle \d+$"),
    "stream engine": (at("streams", "q", 1, 0, start=EARLIER), rf"{STREAM}: starts before {STREAM} has ended, in cycle \d+$"),
    "time": (
        at("posts", "down", -1, 0, start=(1 << CHIP.pod.time_width) - 4),
        r"the epoch lasts \d+ cycles, more than time_width allows \(16777215\)$",
    ),
    "late weights": (at("loads", "q", 0, 0, start=LATER), rf"weights are complete in cycle \d+, but {STREAM} swaps them in$"),
    "early weights": (at("loads", "q", 0, 0, period=EARLIER[:3]), rf"overwrites weights before {STREAM} swaps them in$"),
    "Y network": (at("posts", NORM, 2, 0, x_bank=1), rf"Y bank 1: {POST} and {POST} send a word each in cycle \d+$"),
    "X network": (at("streams", "q", 0, 0, x_base=[1]), rf"X bank 0: {STREAM} and {STREAM} ask for different words in cycle \d+$"),
}
SUMS: dict[str, tuple[Fault, str]] = {
    "P written twice": (
        either(
            *(at("posts", name, n, 0, start=range(-50, 50)) for name in (NORM, "q", "k", "gate", "up", "product") for n in (0, -1))
        ),
        rf"P bank 0: {STREAM} and {POST} write in cycle \d+$",
    ),
    "P read twice": (at("posts", "o", 0, 0, gap=EARLIER[:3]), rf"P bank 0: {POST} and {POST} read, or add, in cycle \d+$"),
    "P added and read": (
        then(at("streams", "v", -1, 0, emit=2), at("posts", "k", -1, 0, start=range(-60, 60))),
        rf"P bank 0: {STREAM} and {POST} read, or add, in cycle \d+$",
    ),
    "P written and read": (
        at("posts", "q", 0, 0, p_base=[6], start=EARLIER),
        rf"{POST}: reads P bank . address \d+ in cycle \d+, but a word of {STREAM} arrives there in cycle \d+$",
    ),
    "P missing": (at("posts", "q", 0, 0, p_base=600), rf"{POST}: reads P bank 0 address 600 in cycle \d+, where nothing is yet$"),
    "P missing, added": (at("posts", "o", 0, 0, x_base=600), rf"{POST}: adds to P bank 0 address 600 .*, where nothing is yet$"),
    "P of another": (at("posts", "q", 0, 0, p_base=0), "reads P bank 0 .*, where x is, which is nothing that it reads$"),
    "P unread": (
        again("k", -1, LATER, 0),
        rf"{POST}: writes P bank 0 address \d+ in cycle \d+, before anybody has read what {POST} left there$",
    ),
    "accumulator": (at("streams", "q", 0, 0, accumulate=2), "adds to accumulator row 0, which was not initialised for it$"),
    "output": (at("posts", "down", -1, 0, destination=0), "P bank 0 address 0 is stored as down, which is not there$"),
}
ACTIVATIONS: dict[str, tuple[Fault, str]] = {
    "X written and read": (
        at("posts", NORM, 2, 0, 1, start=LATER),
        rf"{STREAM}: reads X bank . address \d+ in cycle \d+, but a word of {POST} arrives there in cycle \d+$",
    ),
    "X missing": (at("streams", "q", 0, 0, 1, x_base=400), "reads X bank 0 address 400 in cycle .*, where nothing is yet$"),
    "X of another": (
        at("streams", "o", 0, 0, 1, x_base=range(1000, 1020)),
        "reads X bank . .*, where q_rope is, which is nothing that it reads$",
    ),
    "X unread": (
        again(NORM, 2, LATER, 0),
        rf"{POST}: writes X bank 0 address \d+ in cycle \d+, before anybody has read what {POST} left there$",
    ),
    "X written over in the middle": (
        again("attention", -1, LATER, 2, n3=1),
        rf"{STREAM}: reads X bank 0 .*, over which {POST} has written, and other words of its place before$",
    ),
    "cache": (at("posts", "keys_now", 0, 0, x_base=100), r"X bank \d address \d+ is stored as keys_now, which is not there$"),
}
REGISTERS: dict[str, tuple[Fault, str]] = {
    "not ready": (at("posts", NORM, 2, 0, 1, start=EARLIER), r"reads row register \d of node 0 in cycle \d+, which is not ready$"),
    "of another": (at("posts", "ffn_norm", 2, 0, 1, row=3), "row register 3 of node 0 .*, which another operation has taken$"),
    "without scale": (at("posts", NORM, 1, 0, 1, scalar=0), "row register 0 of node 0 in cycle .*, of which no scale was made$"),
    "taken early": (
        at("posts", "attention", 1, 0, 1, row=5, gap=0, scalar=0, subtract=0, n3=1),
        rf"{POST}: takes row register 5 in cycle \d+, before what {POST} makes for it is there, in cycle \d+$",
    ),
    "unread": (
        then(at("posts", "attention", 2, 0, 1, row=0, subtract=0), at("posts", "attention", 4, 0, 1, row=0)),
        rf"{POST}: takes row register 0 in cycle \d+, before anybody has read what {POST} put there$",
    ),
    "scales": (
        at("posts", NORM, 1, 0, 1, gap=EARLIER[:5]),
        rf"{POST}: wants a scale in cycle \d+, while one is made for {POST} from cycle \d+ on$",
    ),
    "statistic alone": (
        at("posts", NORM, 1, 0, start=[1]),
        "a statistic of row register 0 .*, but not all of nodes 0 to 1 send one",
    ),
    "statistic of another kind": (at("posts", NORM, 1, 0, statistic=2), "but not all of nodes 0 to 1 send one of its kind$"),
    "statistic of another level": (at("posts", NORM, 1, 0, level=0), "but not all of nodes 0 to 1 send one of its kind$"),
}
LOADED: dict[str, tuple[Fault, str]] = {
    "weight tile": (at("loads", "q", 0, 0, w_base=1), "words of W bank 0 from 1 on are not one weight tile$"),
    "one row of it": (at("loads", "q", 0, 0, w_step=0), "words of W bank 0 from 0 on are not one weight tile$"),
    "rows of several": (at("loads", "q", 0, 0, w_step=5, tiles=1), "words of W bank 0 from 0 on are not one weight tile$"),
    "no weights": (without_words(HostSelect.W), "takes W address 0 of node 0, which nobody has loaded$"),
    "no sets": (without_words(HostSelect.PARAMETERS), "takes parameter set 0 of node 0, which nobody has loaded$"),
    "no lengths": (without_words(HostSelect.LENGTHS), "takes length 0 of node 0, which nobody has loaded$"),
    "no input": (without_words(HostSelect.P), "reads P bank 0 address 0 in cycle 0, where nothing is yet$"),
    "twice": (more_weights(0), "^epoch 0: W addresses 0 to 3 of node 0: some are loaded twice$"),
    "outside": (more_weights(1022), "^epoch 0: W addresses 1022 to 1025 of node 0, which are loaded, are not there$"),
    "over": (
        then(at("loads", "o", 0, 0, w_base=0), more_weights(0, alone=True)),
        r"^epoch \d: W address 0 of node 0 may be loaded when epoch 0 is over, but epoch \d needs what is there$",
    ),
}
# Of an encoder; jobs of its norms: sums, values times their number, zeros, what that leaves of the sums in 16 bits and as it is,
# squares, those by their root, results for P banks and for X banks.
ENCODER = "encoder_16_2_24,rows=3"
OF_ENCODERS: dict[str, tuple[Fault, str]] = {
    "sum not ready": (at("posts", NORM, 1, 0, 1, subtract=1), r"reads row register 0 of node 0 .*, which is not ready$"),
    "sum elsewhere": (at("posts", NORM, 0, 0, 1, row=6), "row register 0 of node 0 .*, which another operation has taken$"),
    "no sum": (at("posts", NORM, 0, 0, 1, statistic=0), "row register 0 of node 0 .*, which another operation has taken$"),
    "no zero": (at("posts", NORM, 2, 0, 1, statistic=0), "row register 3 of node 0 .*, which another operation has taken$"),
    "scale of a sum": (at("posts", NORM, 3, 0, 1, row_scale=1), "row register 0 of node 0 .*, of which no scale was made$"),
    "values of another": (
        at("posts", NORM, 3, 0, p_base=0),
        "reads P bank 0 .*, where attention is, which is nothing that it reads",
    ),
    "added elsewhere": (at("posts", "o", 0, 0, x_base=600), rf"{POST}: adds to P bank 0 address 600 .*, where nothing is yet$"),
    "GELU of another": (at("posts", "gelu", 0, 0, p_base=0), "where attention_norm is, which is nothing that it reads$"),
    "length of all": (at("posts", "attention", 0, 0, length=3), "takes length 3 of node 0, which nobody has loaded$"),
}
ALL = VALUES | TIMES | SUMS | ACTIVATIONS | REGISTERS | LOADED


def test_the_legal_program_passes() -> None:
    assert message(programs()) == ""


@pytest.mark.parametrize("name", ALL)
def test_fault(name: str) -> None:
    refused(*ALL[name])


def test_a_weight_tile_of_one_row() -> None:
    """Where what a field holds is not all there."""
    smaller = CHIP.replace(w_words=1000)
    there = [dataclasses.replace(program, config=smaller) for program in programs()]
    assert message(tuple(there)) == ""
    last, behind = (at("loads", "q", 0, 0, tiles=1, rows=1, w_base=base)(tuple(there)) for base in (999, 1000))
    assert message(*last).endswith("takes W address 999 of node 0, which nobody has loaded")
    assert re.search(r"load job 0 .*: W address 1000 is outside of 0 to 999$", message(*behind))


def test_the_encoder_passes() -> None:
    assert message(programs(ENCODER)) == ""


@pytest.mark.parametrize("name", OF_ENCODERS)
def test_fault_of_an_encoder(name: str) -> None:
    refused(*OF_ENCODERS[name], name=ENCODER)


def test_tables() -> None:
    refused(then(), rf"{POST}: looks up table 3, which nobody has loaded$", tables=3)


@pytest.mark.parametrize(("limit", "kind"), [("load_jobs", "load"), ("stream_jobs", "stream"), ("post_jobs", "post")])
def test_stores(limit: str, kind: str) -> None:
    tight = CHIP.replace(**{limit: 4})
    refused(
        lambda legal: iter([tuple(dataclasses.replace(program, config=tight) for program in legal)]),
        rf"has \d+ {kind} jobs, \d+ more than {limit}$",
    )


def test_a_register_that_one_node_of_several_reads() -> None:
    """Values of a head lie in one node: it alone divides by the sum, which all have, before another head takes the register."""
    assert message(programs("attention_5_5_4,rows=2,context=6")) == ""
