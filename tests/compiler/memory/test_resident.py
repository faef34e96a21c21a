"""Words that lie in their place already are not loaded again."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.memory.resident import RESIDENT, ChipContents
from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config

CONFIG = load_config("chip4x16")
STRIDE = memory_stride(CONFIG, HostSelect.W)
GAP = 12 * CONFIG.host_bits // 8 // STRIDE


def words(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, STRIDE), dtype=np.uint8)


def test_what_lies_there_is_left_out_and_what_does_not_is_loaded() -> None:
    contents, first = ChipContents(CONFIG), words(1, 100)
    node = slice(2, 3)
    assert contents.load(HostSelect.W, node, 50, first) == [(0, 100)]
    assert contents.load(HostSelect.W, node, 50, first) == []
    assert contents.load(HostSelect.W, node, 60, first[10:30]) == []
    # The same words in another place, or of another node, are not there.
    assert contents.load(HostSelect.W, node, 49, first) != []
    assert contents.load(HostSelect.W, slice(1, 2), 50, first) == [(0, 100)]
    # One byte makes another word, and what was there is gone.
    contents.load(HostSelect.W, node, 50, first)
    changed = first.copy()
    changed[70, 3] ^= 1
    assert contents.load(HostSelect.W, node, 50, changed) == [(70, 1)]
    assert contents.load(HostSelect.W, node, 50, first) == [(70, 1)]


@pytest.mark.parametrize(("apart", "pieces"), [(GAP, 1), (GAP + 1, 2)])
def test_a_descriptor_more_must_be_worth_it(apart: int, pieces: int) -> None:
    contents, first = ChipContents(CONFIG), words(1, 100)
    contents.load(HostSelect.W, slice(0, 1), 0, first)
    changed = first.copy()
    changed[[20, 21 + apart]] ^= 255
    found = contents.load(HostSelect.W, slice(0, 1), 0, changed)
    assert len(found) == pieces
    assert found[0][0] == 20
    assert sum(found[-1]) == 22 + apart


def test_a_broadcast_is_left_out_if_all_have_it() -> None:
    contents, first = ChipContents(CONFIG), words(1, 8)
    contents.load(HostSelect.W, slice(0, 4), 0, first)
    assert contents.load(HostSelect.W, slice(0, 4), 0, first) == []
    contents.load(HostSelect.W, slice(3, 4), 0, words(2, 8))
    assert contents.load(HostSelect.W, slice(0, 4), 0, first) == [(0, 8)]


def test_what_is_not_known_is_loaded_again() -> None:
    contents, first = ChipContents(CONFIG), words(1, 8)
    contents.load(HostSelect.W, slice(0, 1), 0, first)
    contents.forget(HostSelect.W, 0, np.array([5]))
    assert contents.load(HostSelect.W, slice(0, 1), 0, first) == [(5, 1)]
    for select in set(HostSelect) - set(RESIDENT):
        for _ in range(2):
            assert contents.load(select, slice(0, 1), 0, first) == [(0, 8)]
        contents.forget(select, 0, np.array([5]))


def test_any_order_of_loads_leaves_what_they_ask_for() -> None:
    """Only what must be loaded is written, into a chip beside, which then holds what every load asked for."""
    rng, contents = np.random.default_rng(5), ChipContents(CONFIG)
    chip, pool = rng.integers(0, 256, (4, 64, STRIDE), dtype=np.uint8), words(6, 3)
    left_out = 0
    for _ in range(400):
        first, count = int(rng.integers(0, 4)), int(rng.integers(1, 30))
        nodes, base = slice(first, int(rng.integers(first, 4)) + 1), int(rng.integers(0, 64 - count))
        asked = pool[rng.integers(0, 3, count) if rng.random() < 0.3 else np.full(count, rng.integers(0, 3))]
        pieces = contents.load(HostSelect.W, nodes, base, asked)
        for begin, some in pieces:
            chip[nodes, base + begin : base + begin + some] = asked[begin : begin + some]
        left_out += count - sum(some for _, some in pieces)
        assert (chip[nodes, base : base + count] == asked).all()
    assert left_out > 500
