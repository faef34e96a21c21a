"""ir.frontends.encoders: BERT by name and by sizes, its weights, its order, and what is refused."""

from __future__ import annotations

import re

import pytest

from podweave.ir.frontends import load_graph, with_options
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import Append, Attention, LayerNorm, RowLinear


def encoder(name: str) -> RowGraph:
    graph = load_graph(name)
    assert isinstance(graph, RowGraph)
    return verify_rows(graph)


# Layers, hidden, heads: of arXiv 1908.08962, table 1, and 1810.04805.
MODELS = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


@pytest.mark.parametrize("size", MODELS)
def test_models(size: str) -> None:
    """Four matrices of hidden by hidden, and two of four times that, in each layer; and what attention multiplies by."""
    layers, hidden, heads = MODELS[size]
    graph = encoder(f"bert_{size},rows=3")
    linears = [each for each in graph.operations if isinstance(each, RowLinear)]
    assert sum(each.weights for each in linears) == layers * 12 * hidden**2
    attentions = [each for each in graph.operations if isinstance(each, Attention)]
    assert [(each.heads, each.kv_heads, each.context, each.lengths) for each in attentions] == [(heads, heads, 3, None)] * layers
    assert graph.macs == 3 * layers * 12 * hidden**2 + layers * 2 * 3 * 3 * hidden
    assert sum(isinstance(each, LayerNorm) for each in graph.operations) == 1 + 2 * layers
    assert graph.shape(graph.outputs[0]) == (1, 1, 3, hidden)


def test_an_encoder_by_hand() -> None:
    """Norms behind additions: what is multiplied is also what is added to."""
    graph = encoder("encoder_6_2_10,rows=4")
    assert graph.inputs == {"x": (1, 1, 4, 6), "keys": (1, 1, 4, 6), "values": (1, 1, 4, 6)}
    assert [(each.name, each.sources) for each in graph.operations] == [
        ("embedding_norm", ("x",)),
        ("q", ("embedding_norm",)),
        ("k", ("embedding_norm",)),
        ("keys_now", ("k", "keys")),
        ("v", ("embedding_norm",)),
        ("values_now", ("v", "values")),
        ("attention", ("q", "keys_now", "values_now")),
        ("o", ("attention", "embedding_norm")),
        ("attention_norm", ("o",)),
        ("up", ("attention_norm",)),
        ("gelu", ("up",)),
        ("down", ("gelu", "attention_norm")),
        ("output_norm", ("down",)),
    ]
    assert graph.outputs == ("output_norm",)
    assert [each.position for each in graph.operations if isinstance(each, Append)] == [0, 0]


def test_names_and_sizes_are_the_same() -> None:
    named, sized = encoder("bert_mini,rows=2"), encoder("encoder_256_4_1024_4,rows=2")
    assert (named.operations, named.inputs, named.formats) == (sized.operations, sized.inputs, sized.formats)
    assert with_options("bert_tiny", {"rows": 16, "context": None}) == "bert_tiny,rows=16"
    # SOSA's lists of GEMMs have tokens in their names.
    assert not isinstance(load_graph("bert_tiny_16"), RowGraph)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("encoder_6_4_10", "encoder_6_4_10: heads (4) must divide hidden (6)"),
        ("encoder_6_2", "encoder_6_2: encoder takes sizes as in encoder_HIDDEN_HEADS_INTERMEDIATE[_LAYERS][,rows=N], got 2"),
        ("encoder_6_2_3_4_5", "encoder_6_2_3_4_5: encoder takes sizes as in "),
        ("encoder_6_0_3", "encoder_6_0_3: heads must be at least 1, got 0"),
        ("encoder_6_2_1048577", "encoder_6_2_1048577: intermediate must be at most 1,048,576, got 1048577"),
        ("encoder_6_2_3_0", "encoder_6_2_3_0: layers must be at least 1, got 0"),
        ("encoder_1_1_3", "embedding_norm: of less than 2 channels nothing is left without their mean, got 1"),
        ("bert_tiny,rows=0", "bert_tiny,rows=0: rows must be at least 1, got 0"),
        ("bert_tiny,rows=2,rows=3", "bert_tiny,rows=2,rows=3: rows is given more than once"),
        ("bert_tiny,context=3", "bert_tiny,context=3: unknown option 'context'; allowed: rows"),
    ],
)
def test_refused(name: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}"):
        load_graph(name)
