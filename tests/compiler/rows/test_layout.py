"""compiler.rows.layout: where tiles, parts and rows of a tensor lie."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.rows.layout import RowLayout, head_layout, plain_layout


def test_channels_in_their_order() -> None:
    """Ten channels are three tiles in two nodes; the last has two lanes of none."""
    layout = plain_layout(3, 10, nodes=2, lanes=4, words=2)
    assert layout.channel.tolist() == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, -1, -1]]]
    assert (layout.tiles, layout.slots, layout.parts, layout.tile_words, layout.node_words) == (3, 2, 1, 6, 12)
    assert [(layout.node(t), layout.offset(t)) for t in range(3)] == [(0, 0), (1, 0), (0, 6)]
    assert [list(layout.tiles_of(slot)) for slot in range(2)] == [[0, 1], [2]]


def test_heads_that_share_keys_are_parts() -> None:
    """Four heads of six channels, two by two: each pair has two tiles, in which both heads are, one behind the other."""
    layout = head_layout(2, 4, 2, 6, nodes=2, lanes=4, words=1, lead=1)
    assert layout.channel[0].tolist() == [[-1] * 4, [-1] * 4]
    assert layout.channel[1].tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert layout.channel[2].tolist() == [[4, 5, -1, -1], [10, 11, -1, -1]]
    assert layout.channel[3].tolist() == [[12, 13, 14, 15], [18, 19, 20, 21]]
    assert (layout.part_words, layout.tile_words, layout.node_words) == (2, 4, 12)
    assert layout.offset(3, 1) == 4 + 2
    # The empty tile is in no slot.
    assert [list(layout.tiles_of(slot)) for slot in range(3)] == [[1], [2, 3], [4]]


@pytest.mark.parametrize(
    "layout",
    [
        plain_layout(3, 29, nodes=4, lanes=4, words=2),
        head_layout(2, 6, 2, 5, nodes=4, lanes=4, words=1, lead=2),
        head_layout(1, 3, 3, 16, nodes=2, lanes=8, words=2),
    ],
)
def test_every_channel_of_every_row_has_words_of_its_own(layout: RowLayout) -> None:
    channels = layout.channel[layout.channel >= 0]
    assert sorted(channels.tolist()) == list(range(channels.size))
    places = [
        (layout.node(tile), layout.offset(tile, part) + word)
        for tile in range(layout.tiles)
        for part in range(layout.parts)
        for word in range(layout.part_words)
    ]
    assert len(set(places)) == len(places)
    assert max(word for _, word in places) < layout.node_words


def test_with_other_words() -> None:
    layout = plain_layout(3, 10, nodes=2, lanes=4, words=1)
    assert layout.with_words(2).node_words == 2 * layout.node_words
    np.testing.assert_array_equal(layout.with_words(2).channel, layout.channel)
