"""compiler.chip.kept_weights: weights at the same words of all W banks, round by round of column tiles."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pytest

from podweave.compiler.chip.bank_words import BankWords, EpochFullError
from podweave.compiler.chip.kept_weights import KeptWeights
from podweave.compiler.chip.patches import Patches
from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.chip.state import SchedulerState
from podweave.compiler.chip.work import Mapping
from podweave.compiler.lower.operation import lower_graph
from podweave.ir.frontends.registry import load_graph
from podweave.spec.presets import load_config

CHIP = load_config("chip4x16")
"""W banks of 4,096 words; a weight tile has 16."""
PATCHES = Patches.of((1, 4, 4), (1, 4, 4))


def kept(known: Set[tuple[str, int, int]] = frozenset()) -> KeptWeights:
    graph = load_graph("gemm:64x64x64")
    storage = BankWords(CHIP)
    return KeptWeights(SchedulerState(graph, CHIP, lower_graph(graph, CHIP), {}, None, BankPolicy(), storage, known_weights=known))


def test_each_round_has_words_of_its_own_and_what_follows_comes_behind() -> None:
    weights = kept()
    # Eight column tiles, two side by side, ten K steps in two parts: four rounds of five weight tiles in every bank.
    weights.keep(0, "a", Mapping(2, 2, PATCHES), tiles=8, shared=10, own=0)
    assert [weights.first_word(0, number) for number in range(4)] == [0, 80, 160, 240]
    # Of three and four shared steps, the part with three has five more.
    weights.keep(1, "b", Mapping(1, 2, PATCHES), tiles=1, shared=7, own=5)
    weights.keep(2, "c", Mapping(1, 1, PATCHES), tiles=1, shared=1, own=0)
    assert (weights.first_word(1, 0), weights.first_word(2, 0)) == (320, 320 + 8 * 16)
    # Others find all of that taken.
    place = weights.state.storage.place("w", (3,), 16, weights.state.graph.operations[0])
    assert place.base == 320 + 9 * 16


def test_nothing_is_kept_for_more_than_a_quarter_of_a_bank() -> None:
    weights = kept()
    weights.keep(0, "a", Mapping(1, 1, PATCHES), tiles=4, shared=17, own=0)
    assert weights.first_word(0, 0) is None
    assert weights.state.storage.filled["w"] == [0] * 4


def test_an_epoch_begins_where_its_first_operation_had_its_weights() -> None:
    weights = kept()
    weights.state.known_regions = {"a": 1000, "b": 64}
    weights.keep(0, "a", Mapping(1, 1, PATCHES), tiles=1, shared=2, own=0)
    weights.keep(1, "b", Mapping(1, 1, PATCHES), tiles=1, shared=2, own=0)
    assert (weights.first_word(0, 0), weights.first_word(1, 0)) == (1000, 1032)


def test_words_that_are_kept_do_not_go_around_the_end_and_fit() -> None:
    storage = BankWords(CHIP)
    storage.starts["w"] = [4000] * 4
    operation = load_graph("gemm:64x64x64").operations[0]
    assert storage.region("w", 96) == 4000
    assert storage.region("w", 16) == 0
    storage.starts["w"] = [4090] * 4
    storage.filled["w"] = [0] * 4
    assert storage.region("w", 16) == 0
    assert storage.filled["w"] == [22] * 4
    assert storage.region("w", 4096 - 22 + 1) is None
    assert storage.region("w", 4096 - 22) == 16
    with pytest.raises(EpochFullError):
        storage.place("w", (0,), 1, operation)
    # Of banks that are not alike, no words are the same.
    storage = BankWords(CHIP)
    storage.starts["w"][1] = 16
    assert storage.region("w", 16) is None


def test_weights_cost_nothing_where_they_are_or_were() -> None:
    weights = kept({("gemm", 2, 0), ("other", 3, 0)})
    weights.state.weight_words[7, 1, 0] = np.zeros((1, 2), np.int64)
    cycles = weights.cycles(7, "gemm", np.arange(4), range(2), steps=3)
    # Two column tiles of three weight tiles of 256 bytes, 16 bytes per cycle.
    assert cycles.tolist() == [96, 0, 0, 96]
