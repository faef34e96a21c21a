"""podweave.graphs: topologies against the rows of their networks and against published counts; guesses for bare GEMMs."""

import re
from math import isqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.ir.frontends import GRAPH_FORMS, bert, chain, densenet121, feed_forward, inception_v3, load_graph, resnet50
from podweave.ir.frontends.gemm_tables import load_workload
from podweave.ir.frontends.guessed_chain import KERNELS
from podweave.ir.graph import Graph, Node, Operand, Window
from podweave.ir.layers import Layer, WorkloadError, gemm, parse_workload

Row = tuple[str, int, int, int]


def rows(graph: Graph) -> list[Row]:
    """What a graph multiplies, node by node; the first operand is the layer, a second one its residual."""
    layers = [(node.name, node.operands[0].layer) for node in graph.nodes if not node.identity]
    return [(name, layer.positions, layer.reduction, layer.outputs) for name, layer in layers]


def expected(layers: list[Layer]) -> list[Row]:
    return [(layer.name, layer.positions, layer.reduction, layer.outputs) for layer in layers]


def node(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if node.name == name)


def reads(graph: Graph, name: str) -> list[tuple[str, ...]]:
    return [operand.sources for operand in node(graph, name).operands]


def unread(graph: Graph) -> set[str]:
    used = {source for node in graph.nodes for operand in node.operands for source in operand.sources}
    return {*graph.inputs, *(node.name for node in graph.nodes)} - used


@pytest.mark.parametrize(
    "name",
    ["resnet50_224", "resnet50_299", "densenet121_299", "inception_299", "bert_base_100", "bert_medium_100", "bert_tiny_100"],
)
def test_graph_multiplies_the_rows_of_its_network_in_their_order(name: str) -> None:
    graph = load_graph(name)
    assert graph.name == name
    assert rows(graph) == expected(load_workload(name))
    # One input, nothing computed in vain but what leaves the chip. BERT's K and V are read as weights, in time only.
    assert list(graph.inputs) == ["input"]
    after = {other for node in graph.nodes for other in node.after}
    outputs = unread(graph) - after
    assert outputs == ({"MLM-Dense", "NSP"} if name.startswith("bert") else {"predictions"})


@pytest.mark.parametrize(("name", "gop"), [("resnet50_299", 14.42), ("bert_base_100", 17.47)])
def test_operations_are_those_that_sosa_counts(name: str, gop: float) -> None:
    """Totals of SOSA's benchmark set."""
    assert 2 * sum(m * k * n for _, m, k, n in rows(load_graph(name))) / 1e9 == pytest.approx(gop, abs=0.005)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50_224", 25_636_712),
        ("resnet101_224", 44_707_176),
        ("resnet152_224", 60_419_944),
        ("densenet121_224", 8_062_504),
        ("densenet169_224", 14_307_880),
        ("densenet201_224", 20_242_984),
        ("inception_299", 23_851_784),
    ],
)
def test_parameters_are_those_that_keras_reports(name: str, parameters: int) -> None:
    """Totals of Model.summary() in Keras Applications, where a batch norm has four parameters per channel (three in Inception)."""
    total = 0
    for node_ in load_graph(name).nodes:
        layer = node_.operands[0].layer
        if node_.identity:
            continue
        total += layer.reduction * layer.outputs
        if node_.name == "predictions":
            # With DenseNet's last batch norm, which comes after the concatenation.
            total += layer.outputs + (4 * layer.channels if name.startswith("densenet") else 0)
        elif name.startswith("resnet"):
            total += (1 + 4) * layer.outputs
        elif name.startswith("densenet"):
            # Before the convolution, but for the first.
            total += 4 * (layer.outputs if node_.name == "conv1/conv" else layer.channels)
        else:
            total += 3 * layer.outputs
    assert total == parameters


def test_resnet50_connections() -> None:
    graph = load_graph("resnet50_224")
    assert graph.shape("conv1_conv") == (1, 112, 112, 64)
    pool = node(graph, "pool1_pool")
    assert (pool.output, pool.window, pool.operands[0].pad_value) == ((1, 56, 56, 64), Window("max", (3, 3), (2, 2)), -128)
    # A first block has a convolution in its shortcut, the others read the block before them.
    assert reads(graph, "conv3_block1_1_conv") == reads(graph, "conv3_block1_0_conv") == [("conv2_block3_3_conv",)]
    assert reads(graph, "conv3_block1_3_conv") == [("conv3_block1_2_conv",), ("conv3_block1_0_conv",)]
    assert reads(graph, "conv3_block2_3_conv") == [("conv3_block2_2_conv",), ("conv3_block1_3_conv",)]
    residual = node(graph, "conv3_block2_3_conv").operands[1].layer
    assert (residual.groups, residual.weight_shape, residual.output_size) == (512, (1, 1, 1, 512), (28, 28))
    # The stride of v1 is in the 1 x 1.
    assert node(graph, "conv3_block1_1_conv").operands[0].layer.stride == (2, 2)
    assert node(graph, "conv3_block1_2_conv").operands[0].layer.stride == (1, 1)
    assert sum(len(node.operands) == 2 for node in graph.nodes) == 16
    assert graph.shape("conv5_block3_3_conv") == (1, 7, 7, 2048)
    assert node(graph, "avg_pool").window == Window("sum", (7, 7), (1, 1))
    assert reads(graph, "predictions") == [("avg_pool",)]


def test_without_classifier() -> None:
    for build, last in ((resnet50, "conv5_block3_3_conv"), (densenet121, "conv5_block16_2_conv"), (inception_v3, "conv2d_281")):
        whole, graph = build(299), build(299, classifier=False)
        assert graph.nodes == whole.nodes[:-2]
        assert graph.nodes[-1].name == last


def test_densenet121_connections() -> None:
    graph = load_graph("densenet121_299")
    assert reads(graph, "conv2_block1_1_conv") == [("pool1",)]
    assert reads(graph, "conv2_block3_1_conv") == [("pool1", "conv2_block1_2_conv", "conv2_block2_2_conv")]
    assert reads(graph, "pool2_conv") == [("pool1", *(f"conv2_block{block}_2_conv" for block in range(1, 7)))]
    # 75 rows hold 37 pairs.
    assert (graph.shape("pool2_conv"), graph.shape("pool2_pool")) == ((1, 75, 75, 128), (1, 37, 37, 128))
    assert node(graph, "avg_pool").operands[0].layer.channels == 1024
    assert graph.shape("avg_pool") == (1, 1, 1, 1024)


def test_inception_connections() -> None:
    graph = load_graph("inception_299")
    assert graph.shape("pool2") == (1, 35, 35, 192)
    mixed0 = ("conv2d_193", "conv2d_195", "conv2d_198", "conv2d_199")
    assert reads(graph, "conv2d_200") == reads(graph, "conv2d_203") == reads(graph, "mixed1_pool") == [mixed0]
    # An average keeps the size, a maximum reduces it.
    assert (graph.shape("mixed1_pool"), graph.shape("mixed3_pool")) == ((1, 35, 35, 256), (1, 17, 17, 288))
    assert node(graph, "mixed1_pool").operands[0].pad_value == 0
    assert reads(graph, "conv2d_218") == [("conv2d_214", "conv2d_217", "mixed3_pool")]
    kernels = [node(graph, f"conv2d_{number}").operands[0].layer.kernel for number in (220, 221, 223, 224, 225, 226)]
    assert kernels == [(1, 7), (7, 1), (7, 1), (1, 7), (7, 1), (1, 7)]
    assert node(graph, "conv2d_220").operands[0].layer.padding == ((0, 0), (3, 3))
    # The ends of the last blocks stand side by side.
    assert reads(graph, "conv2d_275") == reads(graph, "conv2d_276") == [("conv2d_274",)]
    assert reads(graph, "avg_pool") == [
        ("conv2d_273", "conv2d_275", "conv2d_276", "conv2d_279", "conv2d_280", "conv2d_281"),
    ]
    assert [node.name for node in inception_v3(first=0).nodes if not node.identity][:3] == ["conv2d_0", "conv2d_1", "conv2d_2"]


def test_bert_connections() -> None:
    graph = load_graph("bert_tiny_100")
    attention = "Encoder-2-MultiHeadSelfAttention_"
    assert [reads(graph, attention + letter) for letter in "KQV"] == [[("Encoder-1-FeedForward2",)]] * 3
    scores = node(graph, f"{attention}QK3")
    assert scores.operands[0].sources == (f"{attention}Q",)
    assert scores.operands[0].channels == (192, 64)
    assert scores.after == (f"{attention}K",)
    values = node(graph, f"{attention}PV3")
    assert (values.operands[0].sources, values.operands[0].channels) == ((f"{attention}QK3",), None)
    assert values.after == (f"{attention}V",)
    assert reads(graph, f"{attention}O") == [tuple(f"{attention}PV{head}" for head in range(4))]
    # The sentence classifier sees the first token only.
    assert reads(graph, "MLM-Dense") == reads(graph, "NSP-Dense") == [("Encoder-4-FeedForward2",)]
    assert (graph.shape("NSP-Dense"), graph.shape("NSP")) == ((1, 1, 1, 256), (1, 1, 1, 2))
    # Nothing of the sequence's length is assumed.
    assert load_graph("bert_large_1").shape("Encoder-24-FeedForward2") == (1, 1, 1, 1024)
    with pytest.raises(WorkloadError, match=r"^bert: 10 channels cannot be shared by 4 heads$"):
        bert(1, 10, 4, 40, 8)


def slice_of(channels: tuple[int, int], *sources: str, k: int = 4) -> Graph:
    return Graph("g", {"a": (1, 1, 3, 8), "b": (1, 1, 3, 8)}, (Node("n", (Operand(sources, gemm(3, k, 2), channels=channels),)),))


def test_slice_of_a_source() -> None:
    assert slice_of((4, 4), "a").shape("n") == (1, 1, 3, 2)
    for channels, sources, sentence in (
        ((5, 4), ("a",), "g: n reads channels 5 to 8 of a, which has 8"),
        ((0, 3), ("a",), "g: n expects 4 channels, its sources have 3"),
        ((0, 4), ("a", "b"), "gemm:3x4x2: channels are taken of one source, got 2"),
        ((-1, 4), ("a",), "gemm:3x4x2: channels must be (first, count) with at least one, got (-1, 4)"),
        ((0, 0), ("a",), "gemm:3x4x2: channels must be (first, count) with at least one, got (0, 0)"),
    ):
        with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
            slice_of(channels, *sources)


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
        (between,) = [node for node in graph.nodes if node.identity]
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
    assert [node.name for node in graph.nodes] == ["l1", "l1.average", "l2", "l3"]
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
    assert [node.after for node in graph.nodes] == [(), ("l1",), ("l2",)]


def test_closest_source_within_reach() -> None:
    assert reads(chain("g", gemms((64, 5, 8), (64, 5, 8), (64, 8, 4))), "l3") == [("l2",)]
    others = [(7, 3, 5)] * 7
    assert reads(chain("g", gemms((64, 5, 8), *others, (64, 8, 4))), "l9") == [("l1",)]
    assert reads(chain("g", gemms((64, 5, 8), *others, (7, 3, 5), (64, 8, 4))), "l10") == [("l10.input",)]


def test_a_kernel_larger_than_the_image_is_a_coincidence() -> None:
    assert reads(chain("g", gemms((1, 5, 8), (1, 72, 4))), "l2") == [("l2.input",)]


def test_names_of_a_chain() -> None:
    layers = [gemm(4, 4, 4, name=name) for name in ("a", "a", "a#2", "a.input", "a")]
    names = [node.name for node in chain("g", layers).nodes]
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
_M = st.one_of(st.integers(1, 20), st.integers(1, 30).map(lambda side: side * side), st.integers(1, 10**12))
_N = st.one_of(st.sampled_from([1, 2, 8]), st.integers(1, 10**6))
_K = st.one_of(st.builds(lambda n, k: n * k * k, st.sampled_from([1, 2, 8]), st.sampled_from(KERNELS)), st.integers(1, 10**6))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "b#2", "a.input", "a.average", ""]), _M, _K, _N), min_size=1, max_size=25))
def test_chain_multiplies_what_it_is_given(sizes: list[Row]) -> None:
    graph = chain("random", [gemm(m, k, n, name=name) for name, m, k, n in sizes])
    multiplied = [row[1:] for row in rows(graph)]
    assert multiplied == [row[1:] for row in sizes]
    assert graph.macs == sum(m * k * n for _, m, k, n in sizes)
    assert all(len(node.operands) == 1 for node in graph.nodes)
    # Every layer but those behind an input of their own reads a layer; those come after the one before them.
    layers = [node for node in graph.nodes if not node.identity]
    for before, this in zip([None, *layers[:-1]], layers, strict=True):
        fed = this.operands[0].sources[0] in graph.inputs
        assert this.after == ((before.name,) if fed and before else ())
        side = isqrt(this.operands[0].layer.positions)
        if side * side == this.operands[0].layer.positions:
            assert this.output[1:3] == (side, side)
    assert not {node.name for node in graph.nodes} & set(graph.inputs)
    # Nothing is provided in vain, and no pool is without a reader.
    assert not unread(graph) & {*graph.inputs, *(node.name for node in graph.nodes if node.identity)}


def test_long_chain_is_fast() -> None:
    graph = chain("long", [gemm(64, 8, 8, name="same") for _ in range(20_000)])
    assert len({node.name for node in graph.nodes}) == 20_000


def test_empty_chain() -> None:
    with pytest.raises(WorkloadError, match=r"^none: no layers$"):
        chain("none", [])


def test_graphs_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("layer,M,K,N\nfirst,64,5,8\nsecond,64,72,3\n")
    graph = load_graph(str(path))
    assert (graph.name, reads(graph, "second")) == ("mine", [("first",)])
    assert rows(load_graph("gemm:5x6x7")) == [("gemm:5x6x7", 5, 6, 7)]
    assert rows(load_graph("resnet50_224/predictions")) == [("predictions", 1, 2048, 1000)]
    scalesim = load_graph("resnet50_224_scalesim")
    assert rows(scalesim) == expected(load_workload("resnet50_224_scalesim"))
    # Any size of a topology.
    assert load_graph("resnet50_256").shape("conv5_block3_3_conv") == (1, 8, 8, 2048)
    assert load_graph("bert_base_10").shape("MLM-Dense") == (1, 1, 10, 768)


@pytest.mark.parametrize(("name", "tokens"), [("ffn_24_40", 1), ("ffn_24_40_1", 1), ("ffn_24_40_7", 7)])
def test_feed_forward(name: str, tokens: int) -> None:
    graph = load_graph(name)
    assert graph == feed_forward(24, 40, tokens)
    assert (graph.name, graph.inputs) == (f"ffn_24_40_{tokens}", {"input": (1, 1, tokens, 24)})
    assert rows(graph) == [("up", tokens, 24, 40), ("down", tokens, 40, 24)]
    assert (reads(graph, "up"), reads(graph, "down")) == ([("input",)], [("up",)])
    assert graph.shape("down") == graph.inputs["input"]
    assert graph.macs == 2 * 24 * 40 * tokens


@pytest.mark.parametrize("form", GRAPH_FORMS)
def test_every_form_that_is_offered_is_a_network(form: str) -> None:
    sizes = {"HIDDEN": "6", "INTERMEDIATE": "10", "TOKENS": "5", "SIZE": "299"}
    whole = re.sub("|".join(sizes), lambda match: sizes[match[0]], form)
    short, sized = re.sub(r"\[.*\]", "", whole), re.sub(r"[][]", "", whole)
    graph = load_graph(sized)
    assert graph.name == sized
    if form.startswith("bert"):
        assert graph.inputs["input"][2] == 5
    if form.startswith(("resnet", "densenet", "inception")):
        # Without a size, that for which the network was published.
        usual = 299 if form.startswith("inception") else 224
        assert load_graph(short) == load_graph(f"{short}_{usual}")
        assert graph.inputs["input"][1:3] == (299, 299)
        assert load_graph(short).inputs["input"][1:3] == (usual, usual)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet51_224", "network 'resnet51_224' is none of resnet50[_SIZE], resnet101[_SIZE]"),
        ("densenet50_224", "network 'densenet50_224' is none of"),
        ("bert_huge_100", "network 'bert_huge_100' is none of"),
        ("bert_50_100", "network 'bert_50_100' is none of"),
        ("inception3_299", "network 'inception3_299' is none of"),
        ("resnet", "network 'resnet' is none of"),
        ("bert_tiny", "network 'bert_tiny' is none of"),
        ("ffn_64", "network 'ffn_64' is none of"),
        ("ffn_1_2_3_4", "network 'ffn_1_2_3_4' is none of"),
        ("", "network '' is none of"),
        ("missing.csv", "workload file 'missing.csv' does not exist"),
        ("resnet50_224/conv9", "network resnet50_224 has no layer 'conv9'"),
        ("resnet50_0", "conv1_conv: height must be at least 1, got 0"),
        ("inception_20", "pool2: the window spans 3 in height, but there are 1 positions"),
        ("bert_tiny_0", "Encoder-1-MultiHeadSelfAttention_K: M must be at least 1, got 0"),
        ("ffn_0_8", "ffn_0_8_1: hidden must be at least 1, got 0"),
        ("ffn_8_0_4", "ffn_8_0_4: intermediate must be at least 1, got 0"),
        ("ffn_8_8_0", "ffn_8_8_0: tokens must be at least 1, got 0"),
    ],
)
def test_graphs_that_do_not_exist(name: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}"):
        load_graph(name)
