"""compiler.memory.words: what all nodes of a manager have alike is found."""

from __future__ import annotations

import numpy as np

from podweave.compiler.memory.words import in_all_nodes


def test_words_that_all_nodes_of_a_manager_have() -> None:
    a, b = (np.full((1, 8), value, np.uint8) for value in (1, 2))
    pieces = [(0, 5, a), (1, 5, a), (0, 6, a), (1, 6, b), (2, 5, a), (3, 4, a), (4, 0, b), (5, 0, b)]
    alone, common = in_all_nodes(pieces, 2)
    # Other words at one place, one word at two places, and a word of one node.
    assert [(node, base) for node, base, _ in alone] == [(0, 6), (1, 6), (2, 5), (3, 4)]
    assert [(node, base, int(words[0, 0])) for node, base, words in common] == [(0, 5, 1), (4, 0, 2)]
    assert in_all_nodes(pieces, 1) == (pieces, [])
