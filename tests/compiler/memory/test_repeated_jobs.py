"""Bands that are alike find their jobs in the program stores."""

from __future__ import annotations

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
