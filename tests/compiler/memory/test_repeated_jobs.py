"""Bands that are alike find their jobs in the program stores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.memory.repeated_jobs import STORES, _of_bands, store_pads
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.predict.chip import predict
from podweave.spec.descriptors import words_of
from tests.podweave.runs.small_accelerator import CONFIG

DEPTH = {select: words_of(CONFIG, select) for _, _, select, _ in STORES}


@pytest.fixture(scope="module")
def network() -> CompiledNetwork:
    graph = load_graph("conv:120x120x4x4,kernel=3x3,padding=1")
    return compile_network(graph, CONFIG, Constants(random_parameters(graph, 1)), CompileOptions(from_memory=True))


def test_words_of_bands_by_hand() -> None:
    kinds, room = np.array([0, 1, 1, 1, 1, 1, 2]), np.full(7, 9)
    words = np.array([9, 10, 10, 10, 10, 10, 8])
    # Two shares of a store of 21 words, of 10 and 11.
    assert _of_bands(words, room, kinds, 21).tolist() == [1, 1, 0, 1, 0, 1, 2]
    # Without room; of a store of less words than a band has; of bands of which none are alike.
    assert not _of_bands(words, room * 0, kinds, 21).any()
    assert not _of_bands(words, room, kinds, 9).any()
    assert not _of_bands(words, room, np.arange(7), 21).any()


def bands(count: int, cycles: int, starts: range) -> list[Any]:
    """Programs that are alike, of so many cycles, with jobs of node 0 that start then, in all stores; ``[n]`` of band n."""
    column, long = np.array(starts), np.ones(len(starts), int)
    long[0] = cycles
    unit, one = np.zeros(len(starts), int), np.ones(len(starts), int)
    posts = {"bank": unit, "start": column, "n0": long, "n1": one, "n2": one, "n3": one}
    streams = {"pod": unit, "start": column, "tiles": one, "period": one, "n0": one, "n1": one, "n2": one}
    alike = {"segment": 0, "posts": posts, "streams": streams, "loads": {"pod": unit, "start": column}}
    return [SimpleNamespace(**alike, corners={"y": (0, number, 0)}) for number in range(count)]


def test_an_epoch_passes_over_no_more_words_than_it_has_cycles_for() -> None:
    """Of ten jobs, the last in cycle 9, in stores of 21 words, of which every second band passes over one."""
    depth = dict.fromkeys(DEPTH, 21)
    for cycles, word in ((26, 1), (25, 0)):
        pads = store_pads(bands(6, cycles, range(10)), CONFIG, depth)
        for select in DEPTH:
            assert [pads[select, epoch].tolist() for epoch in range(6)] == [[0, 0, 0, 0], [word, 0, 0, 0]] * 3


def test_bands_that_are_alike_have_the_same_words(network: CompiledNetwork) -> None:
    pads = store_pads(network.programs, CONFIG, DEPTH)
    at = {select: np.zeros(CONFIG.pods, np.int64) for select in DEPTH}
    places: dict[tuple, int] = {}
    found = passed = 0
    for epoch, program in enumerate(network.programs):
        cycles = predict(program).cycles
        for name, column, select, _ in STORES:
            jobs = getattr(program, name)
            for node, pad in enumerate(pads[select, epoch].tolist()):
                mine = jobs[column] == node
                # All of them are passed over while the epoch is on.
                assert pad == 0 or jobs["start"][mine].max(initial=0) + pad < cycles
                key = select, node, id(program.posts["start"]), int(at[select][node])
                words = max(1, int(mine.sum()))
                found, places[key] = found + words * (key in places), 1
                passed += pad
                at[select][node] = (at[select][node] + words + pad) % DEPTH[select]
    words = sum(len(getattr(program, name)["start"]) for program in network.programs for name, *_ in STORES)
    assert 0 < passed < words / 2
    assert found > words / 3
