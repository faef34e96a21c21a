"""ir.frontends.guessed_chain: guesses for bare GEMMs."""

from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.ir.frontends import chain, load_graph, load_workload
from podweave.ir.frontends.guessed_chain import KERNELS
from podweave.ir.layers import MAX_SIZE, Layer, WorkloadError, gemm, parse_workload
from podweave.ir.operations import Window
from tests.ir.frontends.graph_rows import Row, expected, node, reads, rows, unread


def gemms(*sizes: tuple[int, int, int]) -> list[Layer]:
    return [gemm(*size, name=f"l{number}") for number, size in enumerate(sizes, start=1)]


@pytest.mark.parametrize(
    ("first", "second", "kernel", "stride", "padding", "pool"),
    [
        # (M, K, N) of the source, then of the reader.
        ((64, 5, 8), (64, 8, 4), 1, 1, 0, None),
        ((64, 5, 8), (64, 72, 4), 3, 1, 1, None),
        ((64, 5, 8), (36, 72, 4), 3, 1, 0, None),
        ((64, 5, 8), (16, 72, 4), 3, 2, 1, None),
        ((64, 5, 8), (9, 72, 4), 3, 2, 0, None),
        ((81, 5, 8), (25, 8, 4), 1, 2, 0, None),
        # 9 rows are 4 pairs, and 5 windows of 3 if padded.
        ((81, 5, 8), (16, 8, 4), 1, 1, 0, (2, 0)),
        # 5 at stride 1 without padding as well as at stride 2 with: the smaller stride is taken.
        ((81, 5, 8), (25, 200, 4), 5, 1, 0, None),
        ((225, 5, 8), (64, 968, 4), 11, 2, 5, None),
        ((64, 5, 8), (9, 8, 4), 1, 1, 0, (3, 0)),
        ((81, 5, 8), (9, 72, 4), 3, 1, 0, (3, 1)),
        ((100, 5, 8), (16, 72, 4), 3, 2, 0, None),
        ((169, 5, 8), (36, 200, 4), 5, 1, 2, (2, 0)),
        # VGG: 14 x 14 pooled, then flattened.
        ((196, 5, 512), (1, 25088, 4096), 7, 1, 0, (2, 0)),
        # AlexNet: 55 x 55, pooled without padding to 27 x 27.
        ((3025, 363, 96), (729, 2400, 256), 5, 1, 2, (2, 0)),
    ],
)
def test_inferred_convolution(
    first: tuple[int, int, int],
    second: tuple[int, int, int],
    kernel: int,
    stride: int,
    padding: int,
    pool: tuple[int, int] | None,
) -> None:
    graph = chain("g", gemms(first, second))
    assert list(graph.inputs) == ["l1.input"]
    layer = node(graph, "l2").operands[0].layer
    assert (layer.kernel, layer.stride) == ((kernel, kernel), (stride, stride))
    assert layer.padding == ((padding, padding), (padding, padding))
    if pool:
        (between,) = [node for node in graph.operations if node.identity]
        assert between.window == Window("max", (pool[0], pool[0]), (2, 2))
        assert between.operands[0].layer.padding == ((pool[1], pool[1]), (pool[1], pool[1]))
        assert between.operands[0].pad_value == -128
        assert reads(graph, "l2") == [(between.name,)]
        assert reads(graph, between.name) == [("l1",)]
    else:
        assert reads(graph, "l2") == [("l1",)]


def test_inferred_average() -> None:
    graph = chain("g", gemms((49, 5, 8), (1, 8, 3), (1, 8, 4)))
    # Both readers share it.
    assert [node.name for node in graph.operations] == ["l1", "l1.average", "l2", "l3"]
    assert node(graph, "l1.average").window == Window("sum", (7, 7), (1, 1))
    assert reads(graph, "l2") == reads(graph, "l3") == [("l1.average",)]
    # A sequence has one too, but not one that is longer than any image before a classifier.
    assert len(chain("g", gemms((1023, 5, 8), (1, 8, 3))).inputs) == 1
    assert len(chain("g", gemms((1025, 5, 8), (1, 8, 3))).inputs) == 2


def test_no_source_no_guess() -> None:
    # 8 x 8 to 2 x 2 would take a pool and a stride.
    assert reads(chain("g", gemms((64, 5, 8), (4, 8, 4))), "l2") == [("l2.input",)]
    graph = chain("g", gemms((64, 5, 8), (7, 9, 8), (64, 9, 8)))
    assert graph.inputs == {"l1.input": (1, 8, 8, 5), "l2.input": (1, 1, 7, 9), "l3.input": (1, 8, 8, 9)}
    assert [node.after for node in graph.operations] == [(), ("l1",), ("l2",)]


def test_closest_source_within_reach() -> None:
    assert reads(chain("g", gemms((64, 5, 8), (64, 5, 8), (64, 8, 4))), "l3") == [("l2",)]
    others = [(7, 3, 5)] * 7
    assert reads(chain("g", gemms((64, 5, 8), *others, (64, 8, 4))), "l9") == [("l1",)]
    assert reads(chain("g", gemms((64, 5, 8), *others, (7, 3, 5), (64, 8, 4))), "l10") == [("l10.input",)]


def test_a_kernel_larger_than_the_image_is_a_coincidence() -> None:
    assert reads(chain("g", gemms((1, 5, 8), (1, 72, 4))), "l2") == [("l2.input",)]


def test_names_of_a_chain() -> None:
    layers = [gemm(4, 4, 4, name=name) for name in ("a", "a", "a#2", "a.input", "a")]
    names = [node.name for node in chain("g", layers).operations]
    assert names == ["a", "a#2", "a#2#2", "a.input", "a#3"]
    assert list(chain("g", layers).inputs) == ["a.input#2"]


def test_convolutions_keep_their_geometry() -> None:
    text = "conv:8x9x4x6,kernel=3x3,padding=same,stride=2,batch=2"
    graph = chain("g", [parse_workload(text), gemm(20, 6, 3, name="fc"), gemm(1, 6, 3, name="last")])
    assert node(graph, text).operands[0].layer == parse_workload(text)
    assert graph.inputs == {f"{text}.input": (2, 8, 9, 4), "fc.input": (1, 1, 20, 6), "last.input": (1, 1, 1, 6)}
    # Several images have no pool to guess.
    graph = chain("g", [parse_workload("conv:8x8x4x6,kernel=1,batch=2"), gemm(16, 6, 3, name="fc")])
    assert reads(graph, "fc") == [("fc.input",)]
    # A 4 x 9 image has as many positions as a 6 x 6 one.
    graph = chain("g", [parse_workload("conv:4x9x4x6,kernel=1"), gemm(36, 6, 3, name="fc")])
    assert graph.shape("fc") == (1, 4, 9, 3)


def test_most_of_resnet50_is_found_from_its_sizes() -> None:
    layers = load_workload("resnet50_224")
    graph = chain("resnet50_224", layers)
    assert rows(graph) == expected(layers)
    assert list(graph.inputs) == ["conv1_conv.input"]
    true = load_graph("resnet50_224")
    assert sum(reads(graph, layer.name)[0] == reads(true, layer.name)[0] for layer in layers) >= 45


# Sizes among which the rules find something, and any others.
_M = st.one_of(st.integers(1, 20), st.integers(1, 30).map(lambda side: side * side), st.integers(1, MAX_SIZE))
_N = st.one_of(st.sampled_from([1, 2, 8]), st.integers(1, 4096))
_K = st.one_of(st.builds(lambda n, k: n * k * k, st.sampled_from([1, 2, 8]), st.sampled_from(KERNELS)), st.integers(1, 4096))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "b#2", "a.input", "a.average", ""]), _M, _K, _N), min_size=1, max_size=25))
def test_chain_multiplies_what_it_is_given(sizes: list[Row]) -> None:
    graph = chain("random", [gemm(m, k, n, name=name) for name, m, k, n in sizes])
    multiplied = [row[1:] for row in rows(graph)]
    assert multiplied == [row[1:] for row in sizes]
    assert graph.macs == sum(m * k * n for _, m, k, n in sizes)
    assert all(len(node.operands) == 1 for node in graph.operations)
    # Every layer but those behind an input of their own reads a layer; those come after the one before them.
    layers = [node for node in graph.operations if not node.identity]
    for before, this in zip([None, *layers[:-1]], layers, strict=True):
        fed = this.operands[0].sources[0] in graph.inputs
        assert this.after == ((before.name,) if fed and before else ())
        side = isqrt(this.operands[0].layer.positions)
        if side * side == this.operands[0].layer.positions:
            assert this.output[1:3] == (side, side)
    assert not {node.name for node in graph.operations} & set(graph.inputs)
    # Nothing is provided in vain, and no pool is without a reader.
    assert not unread(graph) & {*graph.inputs, *(node.name for node in graph.operations if node.identity)}


def test_long_chain_is_fast() -> None:
    graph = chain("long", [gemm(64, 8, 8, name="same") for _ in range(20_000)])
    assert len({node.name for node in graph.operations}) == 20_000


def test_empty_chain() -> None:
    with pytest.raises(WorkloadError, match=r"^none: no layers$"):
        chain("none", [])
