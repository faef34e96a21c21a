"""compiler.memory.moves: a load does not come beside an epoch, in one ring, before the store of its place, in the other."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.memory import x_banks
from podweave.compiler.memory.moves import EpochMoves, Move, RunWriter
from podweave.compiler.memory.x_banks import XBanks, XPiece
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from tests.podweave.runs.small_accelerator import CONFIG

PART = CONFIG.memory.x_part_words


def test_what_is_stored_in_a_gap_is_not_overwritten_beside_the_epoch_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few words at the border of parts 0 and 1 are stored by one descriptor before epoch 1, which uses part 0 alone; epoch 3 loads
    into part 1."""
    uses = np.zeros((4, CONFIG.memory.banks, CONFIG.memory.x_parts), bool)
    uses[0, 0, :2] = uses[1, 0, 0] = uses[3, 0, 1] = True
    monkeypatch.setattr(x_banks, "x_uses", lambda *_: uses.copy())
    where = {"channel": 0, "unit": 0, "select": HostSelect.X, "address": 0}
    epochs = [EpochMoves() for _ in uses]
    epochs[0].stores.append(Move(**where, base=PART - 2, count=4, kind=DescriptorKind.STORE))
    epochs[3].loads.append(Move(**where, base=PART, count=2))
    ((demand, prefetch), *_) = RunWriter(XBanks([object.__new__(EpochProgram)] * len(uses), CONFIG), epochs).run()
    (store,) = (one for one in demand.descriptors if one["kind"] == DescriptorKind.STORE)
    (load,) = (one for one in prefetch.descriptors if one["kind"] == DescriptorKind.LOAD)
    assert (store["tag"], store["after"]) == (1, 1)
    # When epoch 1 is done, the gap before it is over.
    assert (load["tag"], load["after"], load["beside"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("node", "begin", "end", "epoch", "late"),
    [
        (1, 10, 20, 5, True),
        (1, 19, 30, 5, True),
        (1, 0, 11, 4, True),
        (1, 12, 13, 5, True),
        (1, 20, 30, 5, False),
        (1, 0, 10, 5, False),
        (0, 10, 20, 5, False),
        (1, 10, 20, 6, False),
    ],
)
def test_what_may_still_be_stored_before_an_epoch(
    monkeypatch: pytest.MonkeyPatch, node: int, begin: int, end: int, epoch: int, *, late: bool
) -> None:
    """Words 10 to 19 of node 1 are stored beside epochs, with tag 5; words of their parts are loaded before an epoch."""
    monkeypatch.setattr(x_banks, "x_uses", lambda *_: np.zeros((1, CONFIG.memory.banks, CONFIG.memory.x_parts), bool))
    writer = RunWriter(XBanks([object.__new__(EpochProgram)], CONFIG), [EpochMoves()])
    writer._beside = [(0, 40, 50, 9), (1, 10, 20, 5)]
    piece = XPiece(begin, end, np.zeros(0, bool))
    assert writer._is_stored_late(node, piece, epoch) is late
