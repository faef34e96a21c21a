"""compiler.chip.check.networks: words that meet are found, and words that may meet are not."""

from __future__ import annotations

import dataclasses

import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand
from tests.compiler.chip.check.chip_programs import changed, config, last, meetings, message, program, refused


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
        nodes = [Linear(layer.name, (Operand((source,), layer),)) for source, layer in zip(("in", "a"), layers, strict=True)]
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
