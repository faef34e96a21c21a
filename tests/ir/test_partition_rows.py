"""ir.partition_rows: chips with other rows, or other sequences, give what one gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from podweave.golden.graph import evaluate
from podweave.golden.system import evaluate_system
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition_rows import partition_rows
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.row_operations import Argmax, Attention, Format, LayerNorm, Product, RowLinear

SIZES = DecoderSizes(32, 4, 2, 24, 2)


def texts(*of: TextRows, **options: Any) -> RowGraph:
    return decoder(SIZES, of, "texts", head=HeadSettings(20), **options)


def rows(count: int, factors: int = 1) -> RowGraph:
    """``factors``: rows of what a product reads, one or as many."""
    operations = (
        LayerNorm("norm", count, source="x", width=8, scale_shift=2),
        RowLinear("a", count, source="norm", width=8, outputs=6),
        Product("p", count, left="a", right="v", width=6, right_rows=factors),
        RowLinear("b", count, source="p", width=6, outputs=9, form=Format.WIDE),
        Argmax("most", count, source="b", width=9),
    )
    formats = {"x": Format.WIDE, "v": Format.INT16}
    return RowGraph("rows", {"x": (1, 1, count, 8), "v": (1, 1, factors, 6)}, operations, ("b", "most"), formats=formats)


GRAPHS = {
    "rows": (rows(6), 3),
    "rows with factors of their own": (rows(6, 6), 2),
    "feed-forward": (load_graph("gated_16_24,rows=8"), 4),
    "two texts": (texts(TextRows(1, 5), TextRows(3, 9, slot=1)), 2),
    "four texts": (texts(*(TextRows(1 + slot % 2, 5 + slot, slot=slot) for slot in range(4))), 2),
    "that move": (texts(*(TextRows(1, 9, position=4, span=5, slot=slot) for slot in range(3))), 3),
    "that share keys": (texts(TextRows(2, 11), TextRows(1, 10, slot=1, shared=4)), 2),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_chips_give_the_bits_of_the_whole(what: str) -> None:
    graph, chips = GRAPHS[what]
    assert isinstance(graph, RowGraph)
    constants, inputs = random_row_parameters(verify_rows(graph), 1), random_row_inputs(graph, 1)
    found = partition_rows(graph, constants, chips)
    assert found.chips == chips
    for share in found.shares:
        verify_row_constants(verify_rows(share.graph), share.constants)
        assert not any(isinstance(each, RowLinear) and each.reduced for each in share.graph.operations)
    cut = found.cut(inputs)
    assert all(given.keys() == share.graph.inputs.keys() for given, share in zip(cut, found.shares, strict=True))
    whole = evaluate(graph, constants, inputs)
    given = [evaluate(share.graph, share.constants, of) for share, of in zip(found.shares, cut, strict=True)]
    joined = found.join(given)
    assert set(whole) == set(joined)
    for name, values in whole.items():
        assert np.array_equal(joined[name], values), name


def test_chips_have_their_own_caches() -> None:
    graph = texts(TextRows(1, 5), TextRows(3, 9, slot=1))
    found = partition_rows(graph, random_row_parameters(graph), 2)
    names = [{name for name in share.graph.inputs if "keys" in name} for share in found.shares]
    assert names == [{"layer0.keys", "layer1.keys"}, {"layer0.keys.1", "layer1.keys.1"}]
    attention = next(each for each in found.shares[1].graph.operations if isinstance(each, Attention))
    assert (attention.rows, attention.context, attention.further) == (3, 9, ())


def test_what_cannot_be_shared() -> None:
    for graph, chips, sentence in (
        (rows(6), 4, "4 chips cannot share 6 rows evenly; 2, 3 or 6 can$"),
        (rows(1), 2, "2 chips cannot share 1 row evenly; no number from 2 to 16 fits$"),
        (load_graph("llama_16_2_1_24,rows=4"), 2, "2 chips cannot share 1 sequence evenly; no number from 2 to 16 fits$"),
        (
            texts(TextRows(2, 4), TextRows(1, 10, slot=1, shared=4)),
            2,
            "layer0.attention: layer0.keys_now appends from row 2 on to layer0.keys, of which other chips read 4 rows$",
        ),
        (rows(6), 1, "there are 2 to 16 chips, got 1$"),
    ):
        assert isinstance(graph, RowGraph)
        with pytest.raises(WorkloadError, match=sentence):
            partition_rows(graph, random_row_parameters(graph), chips)
    two = RowGraph(
        "two",
        rows(2).inputs | {"y": (1, 1, 3, 8)},
        (*rows(2).operations, RowLinear("c", 3, source="y", width=8, outputs=4)),
        formats=rows(2).formats,
    )
    with pytest.raises(WorkloadError, match=r"chips share rows of which all operations have as many, got \[2, 3\]$"):
        partition_rows(two, random_row_parameters(two), 2)


def test_attentions_of_other_texts_cannot_be_shared() -> None:
    graph = texts(TextRows(1, 5), TextRows(3, 9, slot=1))
    *_, last = (each for each in graph.operations if isinstance(each, Attention))
    other = replace(last, further=(replace(last.further[0], rows=2), replace(last.further[0], key="k", value="v", rows=1)))
    graph = replace(graph, operations=tuple(other if each is last else each for each in graph.operations))
    sentence = r"^texts: attentions have sequences of different rows: \[\(1, 2, 1\), \(1, 3\)\]$"
    with pytest.raises(WorkloadError, match=sentence):
        partition_rows(graph, {}, 2)


def test_chips_run_in_step_or_not_at_all() -> None:
    graph = GRAPHS["feed-forward"][0]
    assert isinstance(graph, RowGraph)
    constants, inputs = random_row_parameters(graph, 2), random_row_inputs(graph, 2)
    found = partition_rows(graph, constants, 2)
    together = found.join(evaluate_system(found.shares, found.cut(inputs)))
    assert all(np.array_equal(together[name], values) for name, values in evaluate(graph, constants, inputs).items())
