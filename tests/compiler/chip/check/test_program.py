"""compiler.chip_check: legal programs pass, and every rule is seen to fire on a fault that is planted in one of them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import ChipProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import execute_chip
from podweave.compiler.pod.executor import ProgramError
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph, Node, Operand, Window
from podweave.ir.layers import Layer
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig

UNITS = {"loads": "pod", "streams": "pod", "posts": "bank"}


def config(pods: int, rows: int, cols: int, accumulator_rows: int, planes: int = 1) -> ChipConfig:
    return ChipConfig(
        name="chip",
        pods=pods,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols), accumulator_rows=accumulator_rows),
        memory=MemoryConfig(banks=pods, planes=planes, x_words=1000, w_words=1000, p_words=1000),
        network=NetworkConfig(pipeline=2),
        post=PostConfig(parameter_sets=11, tables=3),
        program=ProgramConfig(),
    )


def graph() -> Graph:
    """Two 3x3 convolutions with an overlapping pool behind: sums of 9 and 18 steps, padding, windows."""
    same: dict[str, Any] = {"height": 6, "width": 6, "kernel": (3, 3), "padding": ((1, 1), (1, 1))}
    first = Node("first", (Operand(("in",), Layer(name="first", channels=4, outputs=8, **same)),))
    second = Node("second", (Operand(("first",), Layer(name="second", channels=8, outputs=8, **same)),))
    pool = Layer(name="pool", height=6, width=6, channels=8, outputs=8, groups=8)
    third = Node("pool", (Operand(("second",), pool),), Window("max", (2, 2), (1, 1)), identity=True)
    return Graph("g", {"in": (1, 6, 6, 4)}, (first, second, third))


PROGRAMS = {
    "in_pods": (4, 4, 4, 64),
    "in_banks": (4, 4, 4, 0),
    "slots": (2, 8, 4, 64),
    "slices": (2, 4, 8, 0),
    "planes": (4, 4, 4, 64, 2),
    "many": (16, 4, 4, 24, 2),
}


@functools.cache
def program(name: str) -> ChipProgram:
    return compile_graph(graph(), config(*PROGRAMS[name]))


def changed(legal: ChipProgram, kind: str, job: int, **values: int) -> ChipProgram:
    jobs = {name: column.copy() for name, column in getattr(legal, kind).items()}
    for name, value in values.items():
        jobs[name][job] = value
    return dataclasses.replace(legal, **{kind: jobs})


def without(legal: ChipProgram, kind: str, job: int) -> ChipProgram:
    jobs = {name: np.delete(column, job) for name, column in getattr(legal, kind).items()}
    nodes = {"streams": "node_of_stream", "posts": "node_of_post"}
    more = {nodes[kind]: np.delete(getattr(legal, nodes[kind]), job)} if kind in nodes else {}
    return dataclasses.replace(legal, **{kind: jobs}, **more)


def pads(legal: ChipProgram) -> NDArray[np.bool_]:
    """Which jobs of post-processors write padding."""
    return legal.posts["p_base"] == zero_word(legal.config)


def refused(wrong: ChipProgram, sentence: str) -> None:
    with pytest.raises(ProgramError) as caught:
        check_chip(wrong)
    assert re.search(sentence, str(caught.value)), str(caught.value)


def message(checked: ChipProgram) -> str:
    """What is wrong with a program, or nothing."""
    try:
        check_chip(checked)
    except ProgramError as error:
        return str(error)
    return ""


def last(legal: ChipProgram, kind: str, unit: int) -> int:
    return int(np.flatnonzero(getattr(legal, kind)[UNITS[kind]] == unit)[-1])


def meetings(legal: ChipProgram, kind: str, words: Any) -> Iterator[tuple[int, int]]:
    """Pairs of jobs of different units in progress at the same time."""
    jobs = getattr(legal, kind)
    unit, start, end = jobs[UNITS[kind]], jobs["start"], jobs["start"] + words
    for job in range(len(start)):
        for other in np.flatnonzero((unit > unit[job]) & (start < end[job]) & (end > start[job])):
            yield job, int(other)


@pytest.mark.parametrize("name", PROGRAMS)
def test_legal_programs_pass(name: str) -> None:
    check_chip(program(name))


def test_programs_are_as_the_plants_expect() -> None:
    assert set(program("in_pods").streams["accumulate"]) == {0, 1, 2}
    assert 2 in program("in_banks").streams["emit"]
    assert set(program("slots").posts["slot"]) == {0, 1}
    assert set(program("slices").posts["slice"]) == {0, 1}
    assert all(pads(program(name)).any() and len(program(name).external_units) for name in PROGRAMS)


@pytest.mark.parametrize(
    ("kind", "field", "value", "sentence"),
    [
        ("loads", "start", 2**24, r"start is 16777216, but its field holds 0 to 16777215"),
        ("loads", "w_step", -1025, r"w_step is -1025, but its field holds -1024 to 1023"),
        ("streams", "x_step2", 1024, r"x_step2 is 1024, but its field holds -1024 to 1023"),
        ("posts", "n1", 64, r"n1 is 64, but its field holds 0 to 63"),
        ("loads", "pod", 4, r"pod is 4, must be 0 to 3"),
        ("posts", "bank", -1, r"bank is -1, must be 0 to 3"),
        ("loads", "rows", 0, r"rows is 0, must be 1 to 4"),
        ("loads", "rows", 5, r"rows is 5, must be 1 to 4"),
        ("loads", "w_plane", 1, r"w_plane is 1, must be 0 to 0"),
        ("streams", "x_plane", 1, r"x_plane is 1, must be 0 to 0"),
        ("streams", "n0", 0, r"n0 is 0, must be 1"),
        ("streams", "n2", 0, r"n2 is 0, must be 1"),
        ("streams", "accumulate", 3, r"accumulate is 3, must be 0 to 2"),
        ("streams", "emit", 3, r"emit is 3, must be 0 to 2"),
        ("posts", "n0", 0, r"n0 is 0, must be 1"),
        ("posts", "n3", 0, r"n3 is 0, must be 1"),
        ("posts", "parameters", 11, r"parameters is 11, must be 0 to 10"),
        ("posts", "table", 3, r"table is 3, must be 0 to 2"),
        ("posts", "slice", 1, r"slice is 1, must be 0 to 0"),
        ("posts", "slot", 1, r"slot is 1, must be 0 to 0"),
        ("posts", "x_plane", 1, r"x_plane is 1, must be 0 to 0"),
        ("loads", "w_base", 997, r"W address 1000 is outside of 0 to 999"),
        ("loads", "w_step", -600, r"W address -\d+ is outside of 0 to 999"),
        ("streams", "x_base", 999, r"X address \d+ is outside of 0 to 999"),
        ("streams", "x_step0", -800, r"X address -\d+ is outside of 0 to 999"),
        ("posts", "x_base", 999, r"X address \d+ is outside of 0 to 999"),
    ],
)
def test_single_jobs(kind: str, field: str, value: int, sentence: str) -> None:
    legal = program("in_pods")
    job = 1
    where = rf"^{kind[:-1]} job 1 \({UNITS[kind]} "
    refused(changed(legal, kind, job, **{field: value}), f"{where}.*{sentence}")


def test_of_streams_that_emit_and_accumulate() -> None:
    legal = program("in_pods")
    streams = legal.streams
    emits, adds = int(np.argmax(streams["emit"] > 0)), int(np.argmax(streams["accumulate"] > 0))
    silent = int(np.argmax(streams["emit"] == 0))
    refused(changed(legal, "streams", emits, p_base=999), r"P address \d+ is outside of 0 to 998$")
    refused(changed(legal, "streams", emits, p_plane=1), r"p_plane is 1, must be 0 to 0$")
    refused(changed(legal, "streams", adds, accumulator_base=63), r"accumulator row \d+ is outside of 0 to 63$")
    # Nobody looks at where a word that is not emitted would go.
    check_chip(changed(legal, "streams", silent, p_base=999, p_plane=1))
    in_banks = program("in_banks")
    refused(changed(in_banks, "streams", 0, accumulate=1), r"accumulate is 1, must be 0 to 0$")


@pytest.mark.parametrize("kind", UNITS)
def test_jobs_of_a_unit_do_not_overlap(kind: str) -> None:
    legal = program("in_pods")
    jobs = getattr(legal, kind)
    same = np.flatnonzero(jobs[UNITS[kind]][1:] == jobs[UNITS[kind]][:-1])
    job = int(same[0])
    wrong = changed(legal, kind, job, start=int(jobs["start"][job + 1]))
    refused(wrong, rf"^{kind[:-1]} job {job + 1} .*starts before {kind[:-1]} job {job} .* has ended, in cycle \d+$")
    swapped = changed(legal, kind, 0, **{UNITS[kind]: 3})
    refused(swapped, rf"^{kind[:-1]} job 1 .*starts before {kind[:-1]} job 0 ")


def test_stores_and_time() -> None:
    legal = program("in_pods")
    assert legal.config.program is not None
    for kind in ("load", "stream", "post"):
        # A store has at least 4 words: jobs that are there already, as often as it takes.
        units = getattr(legal, f"{kind}s")[UNITS[f"{kind}s"]]
        most = int(np.bincount(units).max())
        limit = max(4, most - 1)
        store = dataclasses.replace(legal.config.program, **{f"{kind}_jobs": limit})
        small = dataclasses.replace(legal, config=dataclasses.replace(legal.config, program=store))
        if most > limit:
            refused(small, rf"has {most} {kind} jobs, {most - limit} more than {kind}_jobs$")
        else:
            check_chip(small)
    job = last(legal, "posts", 3)
    refused(
        changed(legal, "posts", job, start=2**24 - 2), r"^the epoch lasts \d+ cycles, more than time_width allows \(16777215\)$"
    )


def test_parameters() -> None:
    legal = program("in_pods")
    item = legal.parameters[0]
    refused(dataclasses.replace(legal, parameters=(*legal.parameters, item)), r"^parameter set \d+ of bank \d is loaded twice$")
    refused(
        dataclasses.replace(legal, parameters=legal.parameters[1:]), r"^post job \d+ .*: parameter set \d+ is not one of its node$"
    )
    other = dataclasses.replace(item, node=item.node + 1)
    refused(dataclasses.replace(legal, parameters=(other, *legal.parameters[1:])), r"parameter set \d+ is not one of its node$")


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
    second = int(np.argmax((legal.node_of_stream == 1) & (legal.streams["pod"] == 0)))
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


@pytest.mark.parametrize("kind", ["loads", "streams"])
def test_read_networks(kind: str) -> None:
    """Two neighbours share the wires behind stage 0: two banks of one parity, and one bank at two addresses."""
    legal = program("planes")
    name, letter = ("x", "X") if kind == "streams" else ("w", "W")
    jobs = getattr(legal, kind)
    words = legal.words_streamed if kind == "streams" else legal.loads["rows"]
    one, two = next((a, b) for a, b in meetings(legal, kind, words) if jobs["pod"][a] >> 1 == jobs["pod"][b] >> 1)
    high = int(jobs["pod"][one]) & ~1
    bank = int(jobs[f"{name}_bank"][two])
    meet = changed(legal, kind, one, **{f"{name}_bank": bank ^ 2})
    jobs_named = rf"{kind[:-1]} job \d+ .* and {kind[:-1]} job \d+ .*"
    sentence = rf"^{letter} network, plane 0, stage 0, port {high | bank & 1}: {jobs_named} ask for different words in cycle \d+$"
    refused(meet, sentence)
    assert "network" not in message(dataclasses.replace(meet, config=legal.config.replace(kind="crossbar")))
    apart = changed(meet, kind, one, **{f"{name}_plane": 1})
    assert not message(apart).startswith(f"{letter} network")
    at = int(jobs[f"{name}_base"][two])
    away = at + 300 if at < 500 else at - 300
    there = changed(legal, kind, one, **{f"{name}_bank": bank, f"{name}_base": away, f"{name}_plane": 1})
    refused(there, rf"^{letter} bank {bank}: .* ask for different words in cycle \d+$")


def test_equal_words_may_meet() -> None:
    """Two pods that read the same words at the same time: on the wires, and at the bank from two planes."""
    same = ("start", "n0", "n1", "n2", "x_bank", "x_base", "x_step1")
    # Whether column tiles go side by side is for the compiler to choose; for some of these it does.
    for size in (2, 4, 8):
        layers = [Layer(name=name, height=size, width=size, channels=c, outputs=16) for name, c in (("a", 4), ("b", 16))]
        nodes = [Node(layer.name, (Operand((source,), layer),)) for source, layer in zip(("in", "a"), layers, strict=True)]
        legal = compile_graph(Graph("g", {"in": layers[0].input_shape}, tuple(nodes)), config(8, 4, 4, 64, 2))
        streams = legal.streams
        met = meetings(legal, "streams", legal.words_streamed)
        pairs = [(a, b) for a, b in met if all(streams[field][a] == streams[field][b] for field in same)]
        if pairs:
            break
    assert pairs
    check_chip(legal)
    check_chip(changed(legal, "streams", pairs[0][0], x_plane=1))


def test_write_networks() -> None:
    legal = program("planes")
    streams, posts = legal.streams, legal.posts
    emits = streams["emit"] > 0
    one, two = next((a, b) for a, b in meetings(legal, "streams", legal.words_streamed) if emits[a] and emits[b])
    bank = int(streams["p_bank"][two])
    refused(
        changed(legal, "streams", one, p_bank=bank),
        r"^P (network, plane 0, stage 0, port \d|bank \d): .* send a word each in cycle \d+$",
    )
    refused(changed(legal, "streams", one, p_bank=bank, p_plane=1), rf"^P bank {bank}: .* send a word each in cycle \d+$")
    one, two = next(
        (a, b)
        for a, b in meetings(legal, "posts", legal.words_read)
        if posts["n0"][a] * posts["n0"][b] == 1 and posts["x_bank"][a] != posts["x_bank"][b]
    )
    bank, plane = int(posts["x_bank"][two]), int(posts["x_plane"][two])
    refused(
        changed(legal, "posts", one, x_bank=bank, x_plane=plane),
        r"^Y (network, plane \d, stage 0, port \d|bank \d): .* send a word each in cycle \d+$",
    )
    refused(changed(legal, "posts", one, x_bank=bank, x_plane=1 - plane), r"^Y bank \d: |^Y network")


def test_words_of_windows_meet_only_at_their_ends() -> None:
    """Two jobs with windows of 2 x 2 send a word every four cycles: a bank takes both, one cycle apart, but not in one cycle."""
    legal = program("in_banks")
    posts = legal.posts
    jobs = [last(legal, "posts", bank) for bank in range(4)]
    one, two = jobs[0], jobs[1]
    assert posts["n0"][one] * posts["n1"][one] == posts["n0"][two] * posts["n1"][two] == 4
    start = int(max(posts["start"][jobs]))
    for shift in range(9):
        wrong = changed(legal, "posts", one, start=start, x_bank=0, x_base=700)
        wrong = changed(wrong, "posts", two, start=start + shift, x_bank=0, x_base=800)
        assert message(wrong).startswith("Y ") == (shift % 4 == 0), message(wrong)


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


def consumed(legal: ChipProgram) -> int:
    """The last job of a post-processor that sends what another node reads without padding."""
    return int(np.flatnonzero(legal.node_of_post == 1)[-1])


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
    first = int(np.flatnonzero(legal.node_of_post == 1)[0])
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
    jobs = np.flatnonzero((legal.node_of_post == 0) & (posts["slot"] == 1))
    refused(without(legal, "posts", int(jobs[-1])), r"slot 1 of which is never written$")
    second = int(np.flatnonzero(legal.node_of_post == 1)[0])
    target = int(jobs[0])
    gone = without(legal, "posts", target)
    second -= second > target
    place = {field: int(posts[field][target]) for field in ("x_bank", "x_base", "x_step2", "x_step3", "slot")}
    wrong = changed(gone, "posts", second, **place, n2=1, n3=1)
    refused(wrong, r"slot \d in cycle \d+, which holds words of another node$")


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


@pytest.mark.parametrize("name", ["in_banks", "slots"])
def test_a_wrong_address_is_found_here_or_in_what_is_computed(name: str) -> None:
    """Address and bank of some jobs, one off: most break a rule, and what does not gives another result."""
    rng = np.random.default_rng(5)
    legal = program(name)
    parameters = random_parameters(legal.graph)
    inputs = {"in": rng.integers(-128, 128, (1, 6, 6, 4), dtype=np.int8)}
    constants = Constants(parameters)
    expected, _ = execute_chip(legal, inputs, constants)
    found, passed = 0, []
    fields = {
        "loads": ("w_base", "w_bank"),
        "streams": ("x_base", "p_base", "p_bank"),
        "posts": ("p_base", "x_base", "x_bank"),
    }
    for kind, field in [(kind, field) for kind, names in fields.items() for field in names]:
        jobs = getattr(legal, kind)
        matter = np.flatnonzero(jobs["emit"] > 0) if field.startswith("p_") and kind == "streams" else np.arange(len(jobs["start"]))
        for job in rng.choice(matter, min(8, len(matter)), replace=False):
            value = int(jobs[field][job])
            wrong = changed(legal, kind, int(job), **{field: value ^ 1 if field.endswith("bank") else value + 1})
            if message(wrong):
                found += 1
                continue
            got, _ = execute_chip(wrong, inputs, constants)
            if np.array_equal(got["pool"], expected["pool"]):
                passed.append((kind, field, int(job)))
    assert found > 30
    assert not passed
