"""compiler.memory.channel: what lies in a channel once."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.memory.channel import Channel
from podweave.compiler.memory.shared import SharedMemory
from tests.compiler.memory.test_image import config_of


@pytest.mark.parametrize("shape", [(1, 24), (6, 4), (24, 1), (3, 8)])
def test_equal_bytes_lie_once_whatever_their_words_are(shape: tuple[int, int]) -> None:
    """A parameter set and six words of weights, say, all of zeros: each gets back as many words as it has."""
    channel = Channel(SharedMemory(config_of(), 0), 0)
    first, held = channel.append_once(np.zeros((6, 4), np.uint8))
    again, words = channel.append_once(np.zeros(shape, np.uint8))
    assert (again, words.shape) == (first, shape)
    assert np.shares_memory(words, held)
    other, _ = channel.append_once(np.ones(shape, np.uint8))
    assert other != first
    assert len(channel.pieces) == 2
