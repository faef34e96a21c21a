"""ir.partition: which tensors chips share, what each of them has, and what they cannot share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.partition import Partition, partition
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows
from podweave.ir.row_operations import Argmax, Attention, Format, Gelu, LayerNorm, Product, RowLinear


def shared(name: str | RowGraph, chips: int) -> Partition:
    graph = load_graph(name) if isinstance(name, str) else verify_rows(name)
    assert isinstance(graph, RowGraph)
    return partition(graph, random_row_parameters(graph), chips)


def test_a_decoder_is_cut_between_norms_and_residuals() -> None:
    found = shared("llama_576_9_3_1536,rows=2,context=5", 3)
    attention = {"q", "k", "v", "q_rope", "k_rope", "keys", "values", "keys_now", "values_now", "attention"}
    assert found.split == attention | {"gate", "up", "product"}
    for share in found.shares:
        verify_row_constants(verify_rows(share.graph), share.constants)
        of = {each.name: each for each in share.graph.operations}
        heads = of["attention"]
        assert isinstance(heads, Attention)
        assert (heads.heads, heads.kv_heads, heads.head_size) == (3, 1, 64)
        linears = {name: each for name, each in of.items() if isinstance(each, RowLinear)}
        assert {name: (each.width, each.outputs, each.reduced) for name, each in linears.items()} == {
            "q": (576, 192, False),
            "k": (576, 64, False),
            "v": (576, 64, False),
            "o": (192, 576, True),
            "gate": (576, 512, False),
            "up": (576, 512, False),
            "down": (512, 576, True),
        }
        assert share.graph.inputs["keys"] == (1, 1, 5, 64)
        assert share.graph.inputs["x"] == (1, 1, 2, 576)


def test_each_chip_has_its_columns_and_rows_of_weights() -> None:
    graph = load_graph("gated_32_48,rows=3")
    assert isinstance(graph, RowGraph)
    whole, found = random_row_parameters(graph, 3), partition(graph, random_row_parameters(graph, 3), 4)
    columns = [share.constants["up"].weights[0] for share in found.shares]
    rows = [share.constants["down"].weights[0] for share in found.shares]
    assert np.array_equal(np.concatenate(columns, axis=1), whole["up"].weights[0])
    assert np.array_equal(np.concatenate(rows, axis=0), whole["down"].weights[0])
    for share in found.shares:
        assert np.array_equal(share.constants["down"].bias, whole["down"].bias)
        assert share.constants["product"].multiplier.shape == (12,)


def test_logits_are_columns_if_chips_can_share_them() -> None:
    x = {"x": (1, 1, 2, 16)}
    norm = LayerNorm("norm", 2, source="x", width=16, scale_shift=2)
    gate = RowLinear("gate", 2, source="norm", width=16, outputs=8)
    body = (norm, gate, Gelu("gelu", 2, gate="gate", width=8, fraction=11))
    logits = RowLinear("logits", 2, source="norm", width=16, outputs=12, form=Format.WIDE)
    graph = RowGraph("g", x, (*body, logits), formats={"x": Format.WIDE})
    assert shared(graph, 4).split == {"gate", "gelu", "logits"}
    few = RowGraph("g", x, (*body, replace(logits, outputs=10)), formats={"x": Format.WIDE})
    assert shared(few, 4).split == {"gate", "gelu"}
    # All logits are compared on every chip.
    most = Argmax("most", 2, source="logits", width=12)
    assert shared(RowGraph("g", x, (*body, logits, most), formats={"x": Format.WIDE}), 4).split == {"gate", "gelu"}


def test_what_is_cut_follows_from_readers_not_names() -> None:
    inputs = {"a": (1, 1, 2, 16), "v": (1, 1, 1, 8)}
    formats = {"a": Format.INT16, "v": Format.INT16}
    first = RowLinear("z", 2, source="a", width=16, outputs=8)
    times = Product("y", 2, left="z", right="v", width=8, right_rows=1)
    last = RowLinear("x", 2, source="y", width=8, outputs=6)
    assert shared(RowGraph("g", inputs, (first, times, last), formats=formats), 2).split == {"z", "v", "y"}
    # A residual is on every chip, and then all that is multiplied with it channel by channel.
    again = RowLinear("w", 2, source="y", width=8, outputs=8, form=Format.WIDE, add="z")
    with pytest.raises(WorkloadError, match=r"^g: nothing of it can be shared by 2 chips$"):
        shared(RowGraph("g", inputs, (first, times, again), formats=formats), 2)
    # A chain of linear operations is cut once.
    chain = (first, RowLinear("m", 2, source="z", width=8, outputs=8), RowLinear("n", 2, source="m", width=8, outputs=8))
    found = shared(RowGraph("g", {"a": inputs["a"]}, chain, formats={"a": Format.INT16}), 2)
    assert found.split == {"z", "n"}
    assert [each.reduced for each in found.shares[0].graph.operations if isinstance(each, RowLinear)] == [False, True, False]


def test_inputs_are_cut_and_tensors_joined() -> None:
    found = shared("attention_6_3_8,rows=2,context=5", 3)
    inputs = random_row_inputs(found.whole)
    cut = found.cut(inputs)
    assert [each["k"].shape for each in cut] == [(1, 1, 5, 8)] * 3
    assert all(np.array_equal(each["lengths"], inputs["lengths"]) for each in cut)
    joined = found.join(cut)
    assert all(np.array_equal(joined[name], inputs[name]) for name in inputs)
    cut[2]["lengths"] = cut[2]["lengths"] + 1
    with pytest.raises(ValueError, match=r"lengths of chip 2 is not that of chip 0$"):
        found.join(cut)


REFUSED = {
    ("llama_576_9_3_1536", 2): "2 chips cannot share the 9 heads and 3 KV heads of attention; 3 can$",
    ("llama_64_8_8_96", 3): "3 chips cannot share the 8 heads and 8 KV heads of attention; 2, 4 or 8 can$",
    ("gated_32_35", 2): "2 chips cannot share the 35 channels of gate; 5 or 7 can$",
    ("llama_96_6_3_128", 3): "3 chips cannot share the 128 channels of gate; no number from 2 to 16 fits$",
    ("norm_32", 2): "nothing of it can be shared by 2 chips$",
    ("gated_32_48", 1): "a ring has 2 to 16 chips, got 1$",
    ("gated_32_48", 17): "a ring has 2 to 16 chips, got 17$",
}


@pytest.mark.parametrize(("name", "chips"), REFUSED)
def test_what_cannot_be_shared(name: str, chips: int) -> None:
    with pytest.raises(WorkloadError, match=REFUSED[name, chips]):
        shared(name, chips)


def test_layers_are_not_shared() -> None:
    with pytest.raises(WorkloadError, match=r"^both: graphs of rows are shared by chips, and it has layers$"):
        partition(MixedGraph("both", {}, ()), {}, 2)


def test_a_part_is_not_cut_again() -> None:
    part = shared("gated_32_48", 2).shares[0]
    with pytest.raises(WorkloadError, match=r"down is of one chip of several already$"):
        partition(part.graph, part.constants, 2)
